//! JSON, byte for byte as upstream's server writes it.

mod parse;

use bytes::{BufMut, Bytes, BytesMut};

use crate::json_text::{write_float, write_string};
use crate::kind::Kind;
use crate::schema::{Field, Omit, Struct, Type};
use crate::value::{Map, Value};

pub use parse::{parse, parse_reporting, parse_strict};

/// Writes one object; remembers where a resourceVersion goes when it must stay out.
struct Writer {
    out: String,
    /// Leave `metadata.resourceVersion` out and note its place.
    hollow: bool,
    splice: Option<usize>,
}

impl Writer {
    fn new(hollow: bool) -> Writer {
        Writer { out: String::with_capacity(1024), hollow, splice: None }
    }

    fn key(&mut self, first: &mut bool, key: &str) {
        if !std::mem::take(first) {
            self.out.push(',');
        }
        write_string(key, &mut self.out);
        self.out.push(':');
    }

    /// An object with apiVersion and kind.
    fn object(&mut self, tree: &Value, schema: &Struct) {
        let Value::Map(map) = tree else { return self.free(tree) };
        if schema.name.is_empty() {
            return self.free_object(map);
        }
        self.out.push('{');
        let mut first = true;
        for key in ["kind", "apiVersion"] {
            // A kind whose own fields have such a name writes them itself.
            if let Some(text) = map.get(key).and_then(Value::as_str)
                && !schema.fields.iter().any(|f| f.name == key)
            {
                self.key(&mut first, key);
                write_string(text, &mut self.out);
            }
        }
        self.fields(map, schema, &mut first, true);
        self.out.push('}');
    }

    /// A custom resource: sorted, nothing left out.
    fn free_object(&mut self, map: &Map) {
        self.out.push('{');
        let mut first = true;
        for (key, value) in map.iter() {
            self.key(&mut first, key);
            match value {
                Value::Map(metadata) if key == "metadata" && self.hollow => {
                    self.out.push('{');
                    let mut first = true;
                    for (key, value) in metadata.iter() {
                        if self.splice.is_none() && key.as_str() >= "resourceVersion" {
                            self.splice = Some(self.out.len());
                        }
                        if key != "resourceVersion" {
                            self.key(&mut first, key);
                            self.free(value);
                        }
                    }
                    self.splice.get_or_insert(self.out.len());
                    self.out.push('}');
                }
                _ => self.free(value),
            }
        }
        self.out.push('}');
    }

    fn fields(&mut self, map: &Map, schema: &Struct, first: &mut bool, top: bool) {
        for field in schema.fields.iter() {
            if field.is_inline() {
                if let Type::Struct(inner) = &field.node.ty {
                    self.fields(map, inner, first, top);
                }
                continue;
            }
            let value = map.get(&field.name).filter(|v| !v.is_null());
            if !written(field, value) {
                continue;
            }
            self.key(first, &field.name);
            match value {
                Some(Value::Map(metadata)) if top && self.hollow && field.name == "metadata" => {
                    self.hollow_metadata(metadata, &field.node.ty);
                }
                Some(value) => self.value(value, &field.node.ty),
                None if top && self.hollow && field.name == "metadata" => {
                    self.out.push('{');
                    self.splice = Some(self.out.len());
                    self.out.push('}');
                }
                None if field.pointer => self.out.push_str("null"),
                None => self.zero(&field.node.ty),
            }
        }
    }

    fn hollow_metadata(&mut self, metadata: &Map, ty: &Type) {
        let Type::Struct(schema) = ty else { return self.free_object(metadata) };
        self.out.push('{');
        let mut first = true;
        for field in schema.fields.iter() {
            if field.name == "resourceVersion" {
                self.splice = Some(self.out.len());
                continue;
            }
            let value = metadata.get(&field.name).filter(|v| !v.is_null());
            if !written(field, value) {
                continue;
            }
            self.key(&mut first, &field.name);
            match value {
                Some(value) => self.value(value, &field.node.ty),
                None => self.zero(&field.node.ty),
            }
        }
        // Metadata of a list has its place at the end.
        self.splice.get_or_insert(self.out.len());
        self.out.push('}');
    }

    fn value(&mut self, value: &Value, ty: &Type) {
        match (value, ty) {
            (Value::Map(map), Type::Struct(schema)) if !schema.name.is_empty() => {
                self.out.push('{');
                self.fields(map, schema, &mut true, false);
                self.out.push('}');
            }
            (Value::List(items), Type::List(node)) => {
                self.out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        self.out.push(',');
                    }
                    match item {
                        Value::Null => self.zero(&node.ty),
                        item => self.value(item, &node.ty),
                    }
                }
                self.out.push(']');
            }
            (Value::Map(map), Type::Map(node)) => {
                self.out.push('{');
                let mut first = true;
                for (key, item) in map.iter() {
                    self.key(&mut first, key);
                    match item {
                        Value::Null => self.zero(&node.ty),
                        item => self.value(item, &node.ty),
                    }
                }
                self.out.push('}');
            }
            _ => self.free(value),
        }
    }

    /// Go's zero value of a type that is written all the same.
    fn zero(&mut self, ty: &Type) {
        match ty {
            Type::Bool => self.out.push_str("false"),
            Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => self.out.push('0'),
            Type::String => self.out.push_str("\"\""),
            Type::Quantity => self.out.push_str("\"0\""),
            Type::Duration => self.out.push_str("\"0s\""),
            Type::Struct(schema) => {
                self.out.push('{');
                self.fields(&Map::new(), schema, &mut true, false);
                self.out.push('}');
            }
            Type::Bytes | Type::Time | Type::MicroTime | Type::Any(_) | Type::List(_) | Type::Map(_) => {
                self.out.push_str("null");
            }
        }
    }

    fn free(&mut self, value: &Value) {
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(b) => self.out.push_str(if *b { "true" } else { "false" }),
            Value::Int(i) => self.out.push_str(itoa::Buffer::new().format(*i)),
            Value::Float(x) => write_float(*x, &mut self.out),
            Value::String(s) => write_string(s, &mut self.out),
            Value::List(items) => {
                self.out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        self.out.push(',');
                    }
                    self.free(item);
                }
                self.out.push(']');
            }
            Value::Map(map) => {
                self.out.push('{');
                let mut first = true;
                for (key, item) in map.iter() {
                    self.key(&mut first, key);
                    self.free(item);
                }
                self.out.push('}');
            }
        }
    }
}

/// Whether the encoding has the field at all.
fn written(field: &Field, value: Option<&Value>) -> bool {
    let by_value = !field.pointer;
    match value {
        Some(value) if field.omit != Omit::Never && by_value => !is_zero_leaf(value, &field.node.ty),
        // Lists and maps that are always written are `null` when empty, as after upstream's protobuf round trip.
        Some(_) => true,
        None => match field.omit {
            Omit::Never => true,
            Omit::Zero => false,
            // Go leaves out what is empty; a struct by value never is.
            Omit::Empty => {
                by_value
                    && matches!(
                        field.node.ty,
                        Type::Struct(_)
                            | Type::Time
                            | Type::MicroTime
                            | Type::Duration
                            | Type::Quantity
                            | Type::IntOrString
                            | Type::Any(_)
                    )
            }
        },
    }
}

fn is_zero_leaf(value: &Value, ty: &Type) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Int(i) => *i == 0 && !matches!(ty, Type::IntOrString),
        Value::Float(x) => *x == 0.0,
        Value::String(s) => s.is_empty() && matches!(ty, Type::String | Type::Bytes),
        Value::List(items) => items.is_empty(),
        Value::Map(map) => map.is_empty() && matches!(ty, Type::Map(_)),
    }
}

fn finish(out: String, newline: bool) -> Bytes {
    let mut out = out;
    if newline {
        out.push('\n');
    }
    Bytes::from(out.into_bytes())
}

/// An object's JSON, with the line break that ends upstream's answers.
pub fn encode(tree: &Value, schema: &Struct) -> Bytes {
    let mut writer = Writer::new(false);
    writer.object(tree, schema);
    finish(writer.out, true)
}

/// An object's JSON for people.
pub fn encode_pretty(tree: &Value, schema: &Struct) -> Bytes {
    indent(&encode(tree, schema))
}

/// Any tree's JSON, keys sorted.
pub fn encode_free(tree: &Value) -> Bytes {
    let mut writer = Writer::new(false);
    writer.free(tree);
    finish(writer.out, true)
}

/// The stored form: canonical JSON without resourceVersion, and the offset at which that goes.
pub fn encode_stored(tree: &Value, schema: &Struct) -> (Bytes, usize) {
    let mut writer = Writer::new(true);
    writer.object(tree, schema);
    let splice = writer.splice.unwrap_or(0);
    (finish(writer.out, false), splice)
}

/// What goes in at the offset that [`encode_stored`] gave: the member with the comma that its place needs.
pub fn version_splice(json: &[u8], offset: usize, revision: i64) -> Bytes {
    if revision == 0 || offset == 0 {
        return Bytes::new();
    }
    let mut out = BytesMut::with_capacity(44);
    let opens = json.get(offset - 1) == Some(&b'{');
    let closes = json.get(offset) == Some(&b'}');
    if !opens {
        out.put_u8(b',');
    }
    out.put_slice(br#""resourceVersion":""#);
    out.put_slice(itoa::Buffer::new().format(revision).as_bytes());
    out.put_u8(b'"');
    // Before a member that follows directly, the comma comes after.
    if opens && !closes {
        out.put_u8(b',');
    }
    out.freeze()
}

/// A list of objects of one kind, in that kind's version.
pub fn encode_list(kind: &Kind, items: &[Value], metadata: &Map, pretty: bool) -> Bytes {
    let mut writer = Writer::new(false);
    let mut first = true;
    writer.out.push('{');
    writer.key(&mut first, "kind");
    write_string(&kind.list_kind, &mut writer.out);
    writer.key(&mut first, "apiVersion");
    write_string(&kind.group_version().to_string(), &mut writer.out);
    writer.key(&mut first, "metadata");
    writer.value(&Value::Map(metadata.clone()), &<crate::meta::ListMeta as crate::schema::Api>::TYPE);
    writer.key(&mut first, "items");
    writer.out.push('[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            writer.out.push(',');
        }
        writer.object(item, &kind.schema);
    }
    writer.out.push_str("]}");
    let bytes = finish(writer.out, true);
    if pretty { indent(&bytes) } else { bytes }
}

/// Two spaces a level, as Go's MarshalIndent.
pub fn indent(json: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    let newline = |out: &mut BytesMut, depth: usize| {
        out.put_u8(b'\n');
        out.put_bytes(b' ', depth * 2);
    };
    let mut i = 0;
    while i < json.len() {
        let byte = json[i];
        if in_string {
            out.put_u8(byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            i += 1;
            continue;
        }
        match byte {
            b'"' => {
                in_string = true;
                out.put_u8(byte);
            }
            b'{' | b'[' => {
                out.put_u8(byte);
                if matches!(json.get(i + 1), Some(b'}' | b']')) {
                    out.put_u8(json[i + 1]);
                    i += 1;
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.put_u8(byte);
            }
            b',' => {
                out.put_u8(byte);
                newline(&mut out, depth);
            }
            b':' => out.put_slice(b": "),
            b' ' | b'\n' | b'\t' | b'\r' => {}
            _ => out.put_u8(byte),
        }
        i += 1;
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::PartialObjectMetadata;

    #[test]
    fn values_go_both_ways() {
        let text = r#"{"a":[1,-2,3.5,1e+21,true,null,"x\"\\\n\u003c\ud83d\ude00"],"b":{"c":{}},"d":[]}"#;
        let value = parse(text.as_bytes()).unwrap_or_default();
        let back = encode_free(&value);
        assert_eq!(parse(&back), Ok(value));
        assert_eq!(parse(b"9223372036854775807"), Ok(Value::Int(i64::MAX)));
        assert_eq!(parse(b"9223372036854775808"), Ok(Value::Float(9_223_372_036_854_775_808.0)));
    }

    #[test]
    fn malformed_text_is_refused() {
        for bad in
            ["", "{", "[1,]", "{\"a\"}", "{\"a\":1,}", "01", "1.", "tru", "\"\\x\"", "\"\u{1}\"", "1 2", "{1:2}", "-"]
        {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(&vec![b'['; 100_000]).is_err());
    }

    #[test]
    fn duplicates_are_named_by_path() {
        let mut problems = Vec::new();
        let value = parse_reporting(br#"{"spec":{"a":1,"a":2},"l":[{"x":1,"x":1}]}"#, &mut problems);
        assert_eq!(value.ok().and_then(|v| v.at(&["spec", "a"]).cloned()), Some(Value::Int(2)));
        assert_eq!(problems, [r#"duplicate field "spec.a""#, r#"duplicate field "l[0].x""#]);
    }

    #[test]
    fn the_revision_goes_where_upstream_has_it() {
        let tree = parse(
            br#"{"kind":"K","apiVersion":"v1","metadata":{"name":"n","uid":"u","resourceVersion":"9","generation":2}}"#,
        )
        .unwrap_or_default();
        let (json, at) = encode_stored(&tree, PartialObjectMetadata::schema());
        let mut whole = json[..at].to_vec();
        whole.extend_from_slice(&version_splice(&json, at, 7));
        whole.extend_from_slice(&json[at..]);
        assert_eq!(
            String::from_utf8_lossy(&whole),
            r#"{"kind":"K","apiVersion":"v1","metadata":{"name":"n","uid":"u","resourceVersion":"7","generation":2}}"#
        );
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
