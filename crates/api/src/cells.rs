//! Cells of `kubectl get`, where a path into the object is not enough.

use apimachinery::{Map, Value};

/// The integer at a path, 0 when it is absent.
pub(crate) fn int(object: &Value, path: &[&str]) -> i64 {
    object.at(path).and_then(Value::as_i64).unwrap_or(0)
}

/// The string at a path, empty when it is absent.
pub(crate) fn str_of<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    object.str_at(path).unwrap_or("")
}

/// The list at a path, empty when it is absent.
pub(crate) fn items<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    object.at(path).and_then(Value::as_list).unwrap_or(&[])
}

/// The number at a path as a cell.
pub(crate) fn number(object: &Value, path: &[&str]) -> Value {
    Value::Int(int(object, path))
}

/// The string at a path as a cell.
pub(crate) fn text(object: &Value, path: &[&str]) -> Value {
    str_of(object, path).into()
}

/// The string at a path, or what stands for its absence.
pub(crate) fn text_or(object: &Value, path: &[&str], absent: &str) -> Value {
    match str_of(object, path) {
        "" => absent.into(),
        text => text.into(),
    }
}

/// The flag at a path, or its default.
pub(crate) fn flag(object: &Value, path: &[&str], absent: bool) -> Value {
    Value::Bool(object.at(path).and_then(Value::as_bool).unwrap_or(absent))
}

/// A number or a string at a path, as text.
pub(crate) fn scalar_or(object: &Value, path: &[&str], absent: &str) -> Value {
    match object.at(path) {
        Some(Value::Int(i)) => i.to_string().into(),
        Some(Value::Bool(b)) => if *b { "True" } else { "False" }.into(),
        Some(Value::String(s)) => s.clone().into(),
        _ => absent.into(),
    }
}

/// How many elements a list or map at a path has.
pub(crate) fn count(object: &Value, path: &[&str]) -> i64 {
    match object.at(path) {
        Some(Value::List(list)) => list.len() as i64,
        Some(Value::Map(map)) => map.len() as i64,
        _ => 0,
    }
}

/// One member of every element of a list, joined by commas.
pub(crate) fn joined(object: &Value, path: &[&str], member: &str) -> Value {
    let parts: Vec<&str> = items(object, path).iter().map(|item| str_of(item, &[member])).collect();
    parts.join(",").into()
}

/// The strings of a list, joined by commas.
pub(crate) fn strings(object: &Value, path: &[&str]) -> String {
    let parts: Vec<&str> = items(object, path).iter().filter_map(Value::as_str).collect();
    parts.join(",")
}

/// The first three of many, and how many more there are.
pub(crate) fn first_three(parts: &[String]) -> String {
    let shown = parts.len().min(3);
    let text = parts[..shown].join(",");
    if parts.len() > 3 { format!("{text} + {} more...", parts.len() - 3) } else { text }
}

/// Labels as `a=b,c=d`, or `<none>`.
pub(crate) fn labels(object: &Value, path: &[&str]) -> Value {
    match object.at(path).and_then(Value::as_map) {
        Some(map) if !map.is_empty() => equalities(map).join(",").into(),
        _ => "<none>".into(),
    }
}

fn equalities(map: &Map) -> Vec<String> {
    map.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or(""))).collect()
}

/// A label selector as text, or `<none>` when it selects everything.
pub(crate) fn selector(object: &Value, path: &[&str]) -> Value {
    let Some(selector) = object.at(path) else { return "<none>".into() };
    let text = selector_text(selector);
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// A label selector as `a=b,c in (d,e),!f`, sorted by key.
pub(crate) fn selector_text(selector: &Value) -> String {
    let mut parts: Vec<(String, String)> = Vec::new();
    if let Some(map) = selector.get("matchLabels").and_then(Value::as_map) {
        parts.extend(map.iter().map(|(k, v)| (k.to_string(), format!("{k}={}", v.as_str().unwrap_or("")))));
    }
    for expression in items(selector, &["matchExpressions"]) {
        let key = str_of(expression, &["key"]);
        let mut values: Vec<&str> = items(expression, &["values"]).iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match str_of(expression, &["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_string(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<error>".into(),
        };
        parts.push((key.to_string(), text));
    }
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// The time since a timestamp, `<unknown>` when there is none.
pub(crate) fn since(timestamp: &str, now: i64) -> String {
    match seconds(timestamp) {
        Some(then) => duration(now - then),
        None => "<unknown>".into(),
    }
}

/// Seconds since 1970 of an RFC 3339 time.
pub(crate) fn seconds(timestamp: &str) -> Option<i64> {
    apimachinery::time::parse_rfc3339(timestamp).map(|(seconds, _)| seconds)
}

/// A duration as kubectl shows it: two units at most, fewer as it grows.
pub(crate) fn duration(seconds: i64) -> String {
    fn two(big: i64, big_unit: &str, small: i64, small_unit: &str) -> String {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    }
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match seconds {
        i64::MIN..=-2 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 2920 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_shrink_to_two_units() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (3600, "60m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (90_000, "25h"),
            (200_000, "2d7h"),
            (900_000, "10d"),
            (70_000_000, "2y80d"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
