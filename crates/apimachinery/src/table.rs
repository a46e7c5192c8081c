//! Tables: how `kubectl get` asks a server to print objects (`meta.k8s.io/v1` `Table`).

use crate::jsonpath::{self, JsonPath};
use crate::kind::{Cell, Kind};
use crate::schema::Text;
use crate::time::parse_rfc3339;
use crate::value::{Map, Value};

/// What of each object a row carries besides its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

impl Include {
    /// Reads the `includeObject` query parameter; `None` when there is no such policy.
    pub fn parse(text: &str) -> Option<Include> {
        match text {
            "None" => Some(Include::None),
            "" | "Metadata" => Some(Include::Metadata),
            "Object" => Some(Include::Object),
            _ => None,
        }
    }
}

/// A kind's columns with their paths parsed once.
#[derive(Clone, Debug)]
pub struct Printer {
    columns: Vec<(Text, Source)>,
    definitions: Value,
}

#[derive(Clone, Debug)]
enum Source {
    Path(JsonPath),
    Code(fn(&Value, i64) -> Value),
    /// A path that could not be parsed prints nothing.
    Broken,
}

impl Printer {
    pub fn new(kind: &Kind) -> Printer {
        let mut definitions = vec![definition("Name", "string", "name", "The name of the object.", 0)];
        let mut columns = Vec::with_capacity(kind.columns.len());
        for column in &kind.columns {
            let (source, description) = match &column.cell {
                Cell::Code(code) => (Source::Code(*code), column.description.to_string()),
                Cell::Path(path) => {
                    let described = if column.description.is_empty() {
                        format!("Custom resource definition column (in JSONPath format): {path}")
                    } else {
                        column.description.to_string()
                    };
                    (JsonPath::parse(path).map_or(Source::Broken, Source::Path), described)
                }
            };
            definitions.push(definition(&column.name, &column.ty, &column.format, &description, column.priority));
            columns.push((column.ty.clone(), source));
        }
        Printer { columns, definitions: Value::List(definitions) }
    }

    /// The table of some objects. `metadata` is that of the list, or of the one object (its resourceVersion counts).
    ///
    /// `now` is in seconds since 1970. Without `headers` the column definitions are left empty, as a watch does after
    /// its first event.
    pub fn table<'a>(
        &self,
        objects: impl IntoIterator<Item = &'a Value>,
        metadata: Option<&Value>,
        include: Include,
        headers: bool,
        now: i64,
    ) -> Value {
        let mut list_meta = Map::new();
        for key in ["resourceVersion", "continue", "remainingItemCount"] {
            if let Some(value) = metadata.and_then(|m| m.get(key)).filter(|v| !v.is_null()) {
                list_meta.insert(key, value.clone());
            }
        }
        let rows: Vec<Value> = objects.into_iter().map(|object| self.row(object, include, now)).collect();
        let mut table = Map::new();
        table.insert("apiVersion", "meta.k8s.io/v1");
        table.insert("kind", "Table");
        table.insert("metadata", list_meta);
        table.insert("columnDefinitions", if headers { self.definitions.clone() } else { Value::Null });
        table.insert("rows", rows);
        Value::Map(table)
    }

    /// One row.
    pub fn row(&self, object: &Value, include: Include, now: i64) -> Value {
        let mut cells = Vec::with_capacity(self.columns.len() + 1);
        cells.push(object.str_at(&["metadata", "name"]).unwrap_or_default().into());
        for (ty, source) in &self.columns {
            cells.push(match source {
                Source::Code(code) => code(object, now),
                Source::Path(path) => match path.find(object).as_deref() {
                    Ok([first, ..]) => cell(ty, first, now),
                    _ => Value::Null,
                },
                Source::Broken => Value::Null,
            });
        }
        let mut row = Map::new();
        row.insert("cells", cells);
        let object = match include {
            Include::None => Value::Null,
            Include::Metadata => partial(object),
            Include::Object => object.clone(),
        };
        row.insert("object", object);
        Value::Map(row)
    }
}

/// An object reduced to `meta.k8s.io/v1` `PartialObjectMetadata`.
pub fn partial(object: &Value) -> Value {
    let mut map = Map::new();
    map.insert("apiVersion", "meta.k8s.io/v1");
    map.insert("kind", "PartialObjectMetadata");
    map.insert("metadata", object.get("metadata").cloned().unwrap_or_else(|| Value::Map(Map::new())));
    Value::Map(map)
}

fn definition(name: &str, ty: &str, format: &str, description: &str, priority: i32) -> Value {
    let mut map = Map::new();
    map.insert("name", name);
    map.insert("type", ty);
    map.insert("format", format);
    map.insert("description", description);
    map.insert("priority", priority);
    Value::Map(map)
}

/// A found value as its column's type; what does not fit is null, which kubectl prints as `<none>`.
fn cell(ty: &str, value: &Value, now: i64) -> Value {
    match (ty, value) {
        ("string", Value::Null) => "<no value>".into(),
        ("string", value) => jsonpath::show(value).into(),
        ("integer", Value::Int(i)) => Value::Int(*i),
        ("integer", Value::Float(x)) => Value::Int(*x as i64),
        ("number", Value::Int(i)) => Value::Float(*i as f64),
        ("number", Value::Float(x)) => Value::Float(*x),
        ("boolean", Value::Bool(b)) => Value::Bool(*b),
        ("date", Value::String(s)) if s.is_empty() || s == "null" => "<unknown>".into(),
        ("date", Value::String(s)) => match parse_rfc3339(s) {
            Some((seconds, _)) => human_duration(now.saturating_sub(seconds)).into(),
            None => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

/// The age of an object as a cell: `<unknown>` when it has no creation time.
pub fn age_cell(object: &Value, now: i64) -> Value {
    let created = object.str_at(&["metadata", "creationTimestamp"]).and_then(parse_rfc3339);
    created.map_or("<unknown>".into(), |(seconds, _)| human_duration(now.saturating_sub(seconds)).into())
}

/// The creation time of an object as a cell.
pub fn created_cell(object: &Value, _now: i64) -> Value {
    object.str_at(&["metadata", "creationTimestamp"]).unwrap_or("0001-01-01T00:00:00Z").into()
}

/// A duration in two or three significant figures: `90s`, `5m3s`, `2h`, `3d4h`, `1y20d`.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |a: i64, unit: &str, b: i64, small: &str| {
        if b == 0 { format!("{a}{unit}") } else { format!("{a}{unit}{b}{small}") }
    };
    match seconds {
        // Clocks that differ by a second are the same time.
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => pair(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// A duration in one figure: `90s` is `1m`.
pub fn short_human_duration(seconds: i64) -> String {
    match seconds {
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        86_400..31_536_000 => format!("{}d", seconds / 86_400),
        _ => format!("{}y", seconds / 31_536_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json_text;

    #[test]
    fn durations_read_as_kubectl_prints_them() {
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (119, "119s"),
            (120, "2m"),
            (181, "3m1s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (252_288_000, "8y"),
        ] {
            assert_eq!(human_duration(seconds), expected);
        }
    }

    #[test]
    fn cells_take_their_columns_type() {
        let at = parse_rfc3339("2026-01-01T00:00:00Z").unwrap().0;
        for (ty, value, expected) in [
            ("string", r#"{"a":1}"#, r#""{\"a\":1}""#),
            ("string", "1.5", r#""1.5""#),
            ("integer", "1.7", "1"),
            ("integer", "\"x\"", "null"),
            ("boolean", "true", "true"),
            ("date", "\"2025-12-31T23:00:00Z\"", "\"60m\""),
            ("date", "\"x\"", r#""\u003cinvalid\u003e""#),
        ] {
            let got = cell(ty, &json_text::read(value).unwrap(), at);
            assert_eq!(json_text::write(&got), expected);
        }
    }
}
