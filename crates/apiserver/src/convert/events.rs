//! Event between core/v1 and events.k8s.io/v1: the same content under other names.

use apimachinery::Value;

/// Field names of core/v1 and of events.k8s.io/v1.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(mut event: Value, names: impl Iterator<Item = (&'static str, &'static str)>) -> Value {
    if let Value::Map(map) = &mut event {
        for (from, to) in names {
            if let Some(value) = map.remove(from) {
                map.insert(to, value);
            }
        }
    }
    event
}

/// From core/v1.
pub fn upgrade(event: Value) -> Value {
    rename(event, NAMES.into_iter())
}

/// To core/v1.
pub fn downgrade(event: Value) -> Value {
    rename(event, NAMES.into_iter().map(|(core, new)| (new, core)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{text, tree};
    use serde_json::json;

    #[test]
    fn there_and_back_again() {
        let core = tree(json!({
            "involvedObject": {"name": "p"}, "message": "m", "count": 3, "reportingComponent": "c", "reason": "R",
        }));
        let new = upgrade(core.clone());
        assert_eq!(text(&new, &["note"]), "m");
        assert_eq!(text(&new, &["regarding", "name"]), "p");
        assert_eq!(new.get("deprecatedCount"), Some(&Value::Int(3)));
        assert_eq!(downgrade(new), core);
    }
}
