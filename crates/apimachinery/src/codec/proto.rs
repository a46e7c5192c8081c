//! Protobuf by schema, in the dialect of upstream's generated code, with its `k8s\0` envelope.
//!
//! ```text
//! object = "k8s\0" | Unknown { 1: TypeMeta { 1: apiVersion, 2: kind }, 2: raw, 3: "", 4: "" }
//! ```
//! The dialect: a field that is no pointer is written even when it is zero, except lists and maps, which are repeated;
//! map entries are sorted; lists of numbers are not packed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use smol_str::SmolStr;

use super::{Error, MAX_DEPTH};
use crate::kind::Kind;
use crate::schema::{AnyKind, Field, Struct, Type};
use crate::time::{Duration, parse_rfc3339, rfc3339, rfc3339_micro};
use crate::value::{Map, Value};

/// What every protobuf object begins with.
pub const MAGIC: &[u8] = b"k8s\0";

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_key(out: &mut Vec<u8>, tag: u32, wire: u32) {
    put_varint(out, u64::from(tag << 3 | wire));
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    put_key(out, tag, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_double(out: &mut Vec<u8>, tag: u32, value: f64) {
    put_key(out, tag, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A field of length-delimited content that is written in place: the length goes before it when it is known.
pub(crate) fn put_nested<E>(
    out: &mut Vec<u8>,
    tag: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_key(out, tag, BYTES);
    // One byte holds the length of most messages; longer ones move by what more their length needs.
    let start = out.len() + 1;
    out.push(0);
    write(out)?;
    let length = out.len() - start;
    if length < 0x80 {
        out[start - 1] = length as u8;
        return Ok(());
    }
    let mut digits = Vec::with_capacity(5);
    put_varint(&mut digits, length as u64);
    out.splice(start - 1..start, digits);
    Ok(())
}

/// An object in its envelope.
pub fn encode_object(tree: &Value, schema: &Struct) -> Result<Bytes, Error> {
    let raw = encode_message(tree, schema)?;
    Ok(envelope(tree.str_at(&["apiVersion"]).unwrap_or_default(), tree.str_at(&["kind"]).unwrap_or_default(), &raw))
}

/// An encoded message of a kind in its envelope.
pub fn wrap(kind: &Kind, message: &[u8]) -> Bytes {
    envelope(&kind.group_version().to_string(), &kind.kind, message)
}

/// What stands before a message of that length in an envelope; [`ENVELOPE_END`] stands after it.
fn envelope_start(api_version: &str, kind: &str, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(api_version.len() + kind.len() + 32);
    out.extend_from_slice(MAGIC);
    put_key(&mut out, 1, BYTES);
    put_varint(&mut out, (field_length(api_version.len()) + field_length(kind.len())) as u64);
    put_bytes(&mut out, 1, api_version.as_bytes());
    put_bytes(&mut out, 2, kind.as_bytes());
    put_key(&mut out, 2, BYTES);
    put_varint(&mut out, length as u64);
    out
}

/// Two empty texts: content encoding and content type.
const ENVELOPE_END: &[u8] = &[3 << 3 | BYTES as u8, 0, 4 << 3 | BYTES as u8, 0];

/// Bytes of a field with a small number whose content has that length.
fn field_length(length: usize) -> usize {
    let digits = (usize::BITS - (length | 1).leading_zeros()).div_ceil(7);
    1 + digits as usize + length
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Bytes {
    let start = envelope_start(api_version, kind, raw.len());
    let mut unknown = Vec::with_capacity(start.len() + raw.len() + ENVELOPE_END.len());
    unknown.extend_from_slice(&start);
    unknown.extend_from_slice(raw);
    unknown.extend_from_slice(ENVELOPE_END);
    unknown.into()
}

/// A list of encoded messages of one kind in its envelope, in pieces of handy size.
pub fn list_of(kind: &Kind, messages: &[Bytes], metadata: &Map) -> Result<Vec<Bytes>, Error> {
    const PIECE: usize = 64 << 10;
    let meta = encode_message(&Value::Map(metadata.clone()), crate::meta::ListMeta::schema())?;
    let length = field_length(meta.len()) + messages.iter().map(|m| field_length(m.len())).sum::<usize>();
    let mut piece = Vec::with_capacity(PIECE.min(length) + 256);
    piece.extend_from_slice(&envelope_start(&kind.group_version().to_string(), &kind.list_kind, length));
    put_bytes(&mut piece, 1, &meta);
    let mut pieces = Vec::new();
    for message in messages {
        if piece.len() + message.len() > PIECE && !piece.is_empty() {
            pieces.push(std::mem::replace(&mut piece, Vec::with_capacity(PIECE)).into());
        }
        put_bytes(&mut piece, 2, message);
    }
    piece.extend_from_slice(ENVELOPE_END);
    pieces.push(piece.into());
    Ok(pieces)
}

/// A list of one kind in its envelope.
pub fn encode_list(kind: &Kind, items: &[Value], metadata: &Map) -> Result<Bytes, Error> {
    list(&kind.group_version().to_string(), &kind.list_kind, &kind.schema, items, metadata)
}

/// A `PartialObjectMetadataList` in its envelope.
pub fn encode_partial_metadata_list(items: &[Value], metadata: &Map) -> Result<Bytes, Error> {
    list("meta.k8s.io/v1", "PartialObjectMetadataList", super::partial_metadata_schema(), items, metadata)
}

fn list(api_version: &str, kind: &str, schema: &Struct, items: &[Value], metadata: &Map) -> Result<Bytes, Error> {
    let mut raw = Vec::new();
    let meta = encode_message(&Value::Map(metadata.clone()), crate::meta::ListMeta::schema())?;
    put_bytes(&mut raw, 1, &meta);
    for item in items {
        put_nested(&mut raw, 2, |raw| message_of(item, schema, raw))?;
    }
    Ok(envelope(api_version, kind, &raw))
}

/// One frame of a watch: a length of four bytes and a WatchEvent around an object in its envelope.
pub fn watch_frame(word: &str, object: &[u8]) -> Bytes {
    let mut raw = Vec::with_capacity(object.len() + 8);
    put_bytes(&mut raw, 1, object);
    let mut event = Vec::with_capacity(raw.len() + word.len() + 8);
    put_bytes(&mut event, 1, word.as_bytes());
    put_bytes(&mut event, 2, &raw);
    let mut out = BytesMut::with_capacity(event.len() + 4);
    out.put_u32(event.len() as u32);
    out.put_slice(&event);
    out.freeze()
}

/// One message without an envelope.
pub fn encode_message(tree: &Value, schema: &Struct) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    message_of(tree, schema, &mut out)?;
    Ok(out)
}

fn message_of(tree: &Value, schema: &Struct, out: &mut Vec<u8>) -> Result<(), Error> {
    match tree.as_map() {
        Some(map) => message(map, schema, out),
        None => message(&Map::new(), schema, out),
    }
}

fn message(map: &Map, schema: &Struct, out: &mut Vec<u8>) -> Result<(), Error> {
    // The generated code writes by ascending number, whatever the order of declaration (which is mostly the same).
    if schema.fields.is_sorted_by_key(|field| field.tag) {
        return schema.fields.iter().try_for_each(|field| put_member(map, schema, field, out));
    }
    let mut order: Vec<&Field> = schema.fields.iter().collect();
    order.sort_by_key(|field| field.tag);
    order.into_iter().try_for_each(|field| put_member(map, schema, field, out))
}

/// One field of a message, out of the map that has the message's members.
fn put_member(map: &Map, schema: &Struct, field: &Field, out: &mut Vec<u8>) -> Result<(), Error> {
    if field.tag == 0 {
        return Ok(());
    }
    if field.is_inline() {
        if let Type::Struct(inner) = &field.node.ty {
            // An inlined pointer is written only when it carries something.
            if !field.pointer || inner.fields.iter().any(|f| map.contains_key(&f.name)) {
                put_nested(out, field.tag, |out| message(map, inner, out))?;
            }
        }
        return Ok(());
    }
    match map.get(&field.name).filter(|v| !v.is_null()) {
        Some(value) => put_in(out, field.tag, value, &field.node.ty, schema),
        None if field.pointer => Ok(()),
        None => put_zero(out, field.tag, &field.node.ty),
    }
}

fn put_zero(out: &mut Vec<u8>, tag: u32, ty: &Type) -> Result<(), Error> {
    match ty {
        // A nil slice of bytes is not written.
        Type::List(_) | Type::Map(_) | Type::Bytes => {}
        Type::Struct(schema) => {
            put_nested(out, tag, |out| message(&Map::new(), schema, out))?;
        }
        Type::Bool | Type::Int32 | Type::Int64 => {
            put_key(out, tag, VARINT);
            out.push(0);
        }
        Type::Double => put_double(out, tag, 0.0),
        Type::String => put_bytes(out, tag, b""),
        Type::Duration => put_bytes(out, tag, &[1 << 3, 0]),
        Type::Quantity => put_bytes(out, tag, &[1 << 3 | 2, 1, b'0']),
        Type::IntOrString => put_field(out, tag, &Value::Int(0), ty)?,
        // The zero time is an empty message.
        Type::Time | Type::MicroTime | Type::Any(_) => put_bytes(out, tag, b""),
    }
    Ok(())
}

fn wrong(value: &Value, ty: &Type) -> Error {
    Error::new(format!("{} does not fit {ty:?}", value.type_name()))
}

/// A field whose type may speak of the struct that has it.
fn put_in(out: &mut Vec<u8>, tag: u32, value: &Value, ty: &Type, own: &Struct) -> Result<(), Error> {
    match (ty, value) {
        (Type::Any(kind @ (AnyKind::SelfOrList | AnyKind::SelfOrBool | AnyKind::SelfOrTexts)), value) => {
            put_bytes(out, tag, &union(value, *kind, own)?);
            Ok(())
        }
        (Type::Map(node), Value::Map(map)) if matches!(node.ty, Type::Any(AnyKind::SelfOrTexts)) => {
            for (key, item) in map.iter() {
                let mut entry = Vec::new();
                put_bytes(&mut entry, 1, key.as_bytes());
                put_bytes(&mut entry, 2, &union(item, AnyKind::SelfOrTexts, own)?);
                put_bytes(out, tag, &entry);
            }
            Ok(())
        }
        _ => put_field(out, tag, value, ty),
    }
}

/// The message of a union with the struct that has it.
fn union(value: &Value, kind: AnyKind, own: &Struct) -> Result<Vec<u8>, Error> {
    let mut inner = Vec::new();
    match (kind, value) {
        (AnyKind::SelfOrBool, Value::Bool(b)) => {
            put_key(&mut inner, 1, VARINT);
            inner.push(u8::from(*b));
        }
        (AnyKind::SelfOrBool, Value::Map(_)) => {
            put_key(&mut inner, 1, VARINT);
            inner.push(1);
            put_bytes(&mut inner, 2, &encode_message(value, own)?);
        }
        (_, Value::Map(_)) => put_bytes(&mut inner, 1, &encode_message(value, own)?),
        (AnyKind::SelfOrList, Value::List(items)) => {
            for item in items {
                put_bytes(&mut inner, 2, &encode_message(item, own)?);
            }
        }
        (AnyKind::SelfOrTexts, Value::List(items)) => {
            for item in items {
                put_bytes(&mut inner, 2, item.as_str().unwrap_or_default().as_bytes());
            }
        }
        (_, value) => return Err(wrong(value, &Type::Any(kind))),
    }
    Ok(inner)
}

/// The way back from [`union`].
fn read_union(bytes: &[u8], kind: AnyKind, own: &Struct, depth: usize) -> Result<Value, Error> {
    let mut reader = Reader { bytes };
    let (mut allowed, mut one, mut many) = (false, None, Vec::new());
    let object = |bytes: &[u8]| {
        let mut map = Map::new();
        read_message(bytes, own, &mut map, depth + 1).map(|()| Value::Map(map))
    };
    while let Some((tag, wire)) = reader.key()? {
        match (kind, tag, wire) {
            (AnyKind::SelfOrBool, 1, VARINT) => allowed = reader.varint()? != 0,
            (AnyKind::SelfOrBool, 2, BYTES) | (_, 1, BYTES) => one = Some(object(reader.bytes()?)?),
            (AnyKind::SelfOrList, 2, BYTES) => many.push(object(reader.bytes()?)?),
            (AnyKind::SelfOrTexts, 2, BYTES) => many.push(Value::String(reader.text()?.into())),
            (_, _, wire) => reader.skip(wire)?,
        }
    }
    Ok(match (one, kind) {
        (Some(one), _) => one,
        (None, AnyKind::SelfOrBool) => Value::Bool(allowed),
        (None, _) => Value::List(many),
    })
}

fn put_field(out: &mut Vec<u8>, tag: u32, value: &Value, ty: &Type) -> Result<(), Error> {
    match (ty, value) {
        (Type::Bool, Value::Bool(b)) => {
            put_key(out, tag, VARINT);
            out.push(u8::from(*b));
        }
        (Type::Int32 | Type::Int64, Value::Int(i)) => {
            put_key(out, tag, VARINT);
            put_varint(out, *i as u64);
        }
        (Type::Double, Value::Int(i)) => put_double(out, tag, *i as f64),
        (Type::Double, Value::Float(x)) => put_double(out, tag, *x),
        (Type::String, Value::String(s)) => put_bytes(out, tag, s.as_bytes()),
        (Type::Bytes, Value::String(s)) => {
            let bytes = STANDARD.decode(s.as_bytes()).map_err(|e| Error::new(e.to_string()))?;
            put_bytes(out, tag, &bytes);
        }
        (Type::Quantity, Value::String(s)) => {
            let mut inner = Vec::new();
            put_bytes(&mut inner, 1, s.as_bytes());
            put_bytes(out, tag, &inner);
        }
        (Type::Time | Type::MicroTime, Value::String(s)) => {
            let mut inner = Vec::new();
            if let Some((seconds, nanos)) = parse_rfc3339(s) {
                put_key(&mut inner, 1, VARINT);
                put_varint(&mut inner, seconds as u64);
                put_key(&mut inner, 2, VARINT);
                // Upstream's Time keeps whole seconds, its MicroTime whole microseconds.
                let nanos = if matches!(ty, Type::Time) { 0 } else { nanos / 1000 * 1000 };
                put_varint(&mut inner, u64::from(nanos));
            }
            put_bytes(out, tag, &inner);
        }
        (Type::Duration, Value::String(s)) => {
            let nanos = Duration::parse(s).ok_or_else(|| wrong(value, ty))?.0;
            let mut inner = Vec::new();
            put_key(&mut inner, 1, VARINT);
            put_varint(&mut inner, nanos as u64);
            put_bytes(out, tag, &inner);
        }
        (Type::IntOrString, Value::Int(i)) => {
            let mut inner = vec![1 << 3, 0, 2 << 3];
            put_varint(&mut inner, *i as u64);
            put_bytes(&mut inner, 3, b"");
            put_bytes(out, tag, &inner);
        }
        (Type::IntOrString, Value::String(s)) => {
            let mut inner = vec![1 << 3, 1, 2 << 3, 0];
            put_bytes(&mut inner, 3, s.as_bytes());
            put_bytes(out, tag, &inner);
        }
        (Type::Any(_), value) => put_nested(out, tag, |inner| {
            put_bytes(inner, 1, crate::json_text::write(value).as_bytes());
            Ok::<(), Error>(())
        })?,
        (Type::List(node), Value::List(items)) => {
            for item in items {
                match item {
                    Value::Null => put_zero(out, tag, &node.ty)?,
                    item => put_field(out, tag, item, &node.ty)?,
                }
            }
        }
        (Type::Map(node), Value::Map(map)) => {
            for (key, item) in map.iter() {
                put_nested(out, tag, |entry| {
                    put_bytes(entry, 1, key.as_bytes());
                    match (&node.ty, item) {
                        // A list as a map's value is a message of its own with one repeated field.
                        (Type::List(inner), Value::List(items)) => put_nested(entry, 2, |list| {
                            items.iter().try_for_each(|item| put_field(list, 1, item, &inner.ty))
                        }),
                        (ty, Value::Null) => put_zero(entry, 2, ty),
                        (ty, item) => put_field(entry, 2, item, ty),
                    }
                })?;
            }
        }
        (Type::Struct(schema), Value::Map(map)) => put_nested(out, tag, |out| message(map, schema, out))?,
        _ => return Err(wrong(value, ty)),
    }
    Ok(())
}

/// Reads an object out of its envelope; apiVersion and kind are those that the envelope names.
pub fn decode_object(bytes: &[u8], schema: &Struct) -> Result<Value, Error> {
    let Some(unknown) = bytes.strip_prefix(MAGIC) else {
        return Err(Error::new(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
        ));
    };
    let mut reader = Reader { bytes: unknown };
    let (mut api_version, mut kind, mut raw): (&str, &str, &[u8]) = ("", "", &[]);
    while let Some((tag, wire)) = reader.key()? {
        match (tag, wire) {
            (1, BYTES) => {
                let mut inner = Reader { bytes: reader.bytes()? };
                while let Some((tag, wire)) = inner.key()? {
                    match (tag, wire) {
                        (1, BYTES) => api_version = inner.text()?,
                        (2, BYTES) => kind = inner.text()?,
                        _ => inner.skip(wire)?,
                    }
                }
            }
            (2, BYTES) => raw = reader.bytes()?,
            _ => reader.skip(wire)?,
        }
    }
    let mut value = decode_message(raw, schema)?;
    if let Value::Map(map) = &mut value {
        if !api_version.is_empty() {
            map.insert("apiVersion", api_version);
        }
        if !kind.is_empty() {
            map.insert("kind", kind);
        }
    }
    Ok(value)
}

/// Reads one message without an envelope.
pub fn decode_message(bytes: &[u8], schema: &Struct) -> Result<Value, Error> {
    let mut map = Map::new();
    read_message(bytes, schema, &mut map, 0)?;
    Ok(Value::Map(map))
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for i in 0..10 {
            let Some((byte, rest)) = self.bytes.split_first() else { return Err(Error::new("unexpected EOF")) };
            self.bytes = rest;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::new("proto: integer overflow"))
    }

    fn key(&mut self) -> Result<Option<(u32, u32)>, Error> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).ok().filter(|t| *t > 0).ok_or_else(|| Error::new("proto: illegal tag"))?;
        Ok(Some((tag, (key & 7) as u32)))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        if count > self.bytes.len() {
            return Err(Error::new("unexpected EOF"));
        }
        let (head, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        Ok(head)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let count = usize::try_from(self.varint()?).map_err(|_| Error::new("proto: integer overflow"))?;
        self.take(count)
    }

    fn text(&mut self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::new("proto: string is not UTF-8"))
    }

    fn skip(&mut self, wire: u32) -> Result<(), Error> {
        match wire {
            VARINT => self.varint().map(|_| ()),
            FIXED64 => self.take(8).map(|_| ()),
            BYTES => self.bytes().map(|_| ()),
            FIXED32 => self.take(4).map(|_| ()),
            _ => Err(Error::new(format!("proto: illegal wireType {wire}"))),
        }
    }
}

fn read_message(bytes: &[u8], schema: &Struct, map: &mut Map, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH / 4 {
        return Err(Error::new("exceeded max depth"));
    }
    let mut reader = Reader { bytes };
    while let Some((tag, wire)) = reader.key()? {
        let Some(field) = schema.fields.iter().find(|f| f.tag == tag) else {
            reader.skip(wire)?;
            continue;
        };
        if field.is_inline() {
            if let Type::Struct(inner) = &field.node.ty {
                read_message(reader.bytes()?, inner, map, depth + 1)?;
            }
            continue;
        }
        match &field.node.ty {
            Type::Any(kind @ (AnyKind::SelfOrList | AnyKind::SelfOrBool | AnyKind::SelfOrTexts)) => {
                let value = read_union(reader.bytes()?, *kind, schema, depth)?;
                map.insert(field.name.as_ref(), value);
            }
            Type::List(node) => {
                let list = map.get_or_insert_with(&field.name, || Value::List(Vec::new()));
                let Value::List(items) = list else { continue };
                if wire == BYTES && matches!(node.ty, Type::Int32 | Type::Int64 | Type::Bool) {
                    // Packed numbers are read too.
                    let mut packed = Reader { bytes: reader.bytes()? };
                    while !packed.bytes.is_empty() {
                        items.push(read_value(&mut packed, VARINT, &node.ty, depth)?);
                    }
                } else {
                    items.push(read_value(&mut reader, wire, &node.ty, depth)?);
                }
            }
            Type::Map(node) => {
                let mut entry = Reader { bytes: reader.bytes()? };
                let (mut key, mut value) = (SmolStr::default(), None);
                while let Some((tag, wire)) = entry.key()? {
                    match (tag, &node.ty) {
                        (1, _) => key = entry.text()?.into(),
                        (2, Type::List(inner)) => {
                            let mut list = Reader { bytes: entry.bytes()? };
                            let mut items = Vec::new();
                            while let Some((_, wire)) = list.key()? {
                                items.push(read_value(&mut list, wire, &inner.ty, depth)?);
                            }
                            value = Some(Value::List(items));
                        }
                        (2, Type::Any(AnyKind::SelfOrTexts)) => {
                            value = Some(read_union(entry.bytes()?, AnyKind::SelfOrTexts, schema, depth)?);
                        }
                        (2, ty) => value = Some(read_value(&mut entry, wire, ty, depth)?),
                        _ => entry.skip(wire)?,
                    }
                }
                let all = map.get_or_insert_with(&field.name, || Value::Map(Map::new()));
                if let Value::Map(all) = all {
                    all.insert(key, value.unwrap_or_default());
                }
            }
            ty => {
                let value = read_value(&mut reader, wire, ty, depth)?;
                if field.pointer || !is_zero(&value, ty) {
                    map.insert(field.name.as_ref(), value);
                } else {
                    // The last one counts, also when it is zero.
                    map.remove(&field.name);
                }
            }
        }
    }
    Ok(())
}

fn is_zero(value: &Value, ty: &Type) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Int(i) => *i == 0 && !matches!(ty, Type::IntOrString),
        Value::Float(x) => *x == 0.0,
        Value::String(s) => match ty {
            Type::Duration => s == "0s",
            Type::Quantity | Type::IntOrString => false,
            _ => s.is_empty(),
        },
        Value::Map(map) => map.is_empty() && matches!(ty, Type::Struct(_)),
        Value::List(_) => false,
    }
}

fn read_value(reader: &mut Reader<'_>, wire: u32, ty: &Type, depth: usize) -> Result<Value, Error> {
    let wanted = match ty {
        Type::Bool | Type::Int32 | Type::Int64 => VARINT,
        Type::Double => FIXED64,
        _ => BYTES,
    };
    if wire != wanted {
        return Err(Error::new(format!("proto: wrong wireType = {wire} for field")));
    }
    Ok(match ty {
        Type::Bool => Value::Bool(reader.varint()? != 0),
        Type::Int32 => Value::Int(i64::from(reader.varint()? as i32)),
        Type::Int64 => Value::Int(reader.varint()? as i64),
        Type::Double => {
            let mut raw = [0; 8];
            raw.copy_from_slice(reader.take(8)?);
            let x = f64::from_le_bytes(raw);
            if x.fract() == 0.0 && x.abs() < 9e15 { Value::Int(x as i64) } else { Value::Float(x) }
        }
        Type::String => Value::String(reader.text()?.into()),
        Type::Bytes => Value::from(STANDARD.encode(reader.bytes()?)),
        Type::Quantity => {
            let mut inner = Reader { bytes: reader.bytes()? };
            let mut text = "0";
            while let Some((tag, wire)) = inner.key()? {
                match (tag, wire) {
                    (1, BYTES) => text = inner.text()?,
                    _ => inner.skip(wire)?,
                }
            }
            Value::from(if text.is_empty() { "0" } else { text })
        }
        Type::Time | Type::MicroTime => {
            let message = reader.bytes()?;
            if message.is_empty() {
                return Ok(Value::Null);
            }
            let (seconds, nanos) = two_numbers(message)?;
            Value::from(if matches!(ty, Type::Time) { rfc3339(seconds) } else { rfc3339_micro(seconds, nanos as u32) })
        }
        Type::Duration => {
            let (nanos, _) = two_numbers(reader.bytes()?)?;
            Value::from(Duration(nanos).to_string())
        }
        Type::IntOrString => {
            let mut inner = Reader { bytes: reader.bytes()? };
            let (mut kind, mut number, mut text) = (0, 0i64, "");
            while let Some((tag, wire)) = inner.key()? {
                match (tag, wire) {
                    (1, VARINT) => kind = inner.varint()?,
                    (2, VARINT) => number = i64::from(inner.varint()? as i32),
                    (3, BYTES) => text = inner.text()?,
                    _ => inner.skip(wire)?,
                }
            }
            if kind == 1 { Value::from(text) } else { Value::Int(number) }
        }
        Type::Any(kind) => {
            let mut inner = Reader { bytes: reader.bytes()? };
            let mut raw: &[u8] = &[];
            while let Some((tag, wire)) = inner.key()? {
                match (tag, wire) {
                    (1, BYTES) => raw = inner.bytes()?,
                    _ => inner.skip(wire)?,
                }
            }
            match raw {
                [] => Value::Null,
                raw => read_any(raw, *kind)?,
            }
        }
        Type::Struct(schema) => {
            let mut map = Map::new();
            read_message(reader.bytes()?, schema, &mut map, depth + 1)?;
            Value::Map(map)
        }
        Type::List(_) | Type::Map(_) => return Err(Error::new("proto: a list cannot be an element")),
    })
}

/// The JSON inside, or for a RawExtension an enveloped object, of which only type and bytes are known.
fn read_any(raw: &[u8], kind: AnyKind) -> Result<Value, Error> {
    if raw.starts_with(MAGIC) {
        return Err(Error::new(format!("an embedded protobuf object cannot be kept in a {kind:?} field")));
    }
    super::json::parse(raw)
}

fn two_numbers(message: &[u8]) -> Result<(i64, i64), Error> {
    let mut inner = Reader { bytes: message };
    let mut numbers = (0i64, 0i64);
    while let Some((tag, wire)) = inner.key()? {
        match (tag, wire) {
            (1, VARINT) => numbers.0 = inner.varint()? as i64,
            (2, VARINT) => numbers.1 = inner.varint()? as i64,
            _ => inner.skip(wire)?,
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::PartialObjectMetadata;

    #[test]
    fn lists_of_metadata_hold_messages() {
        let item = super::super::json::parse(br#"{"metadata":{"name":"a","uid":"u"}}"#).unwrap();
        let mut metadata = Map::new();
        metadata.insert("resourceVersion", "7");
        let list = encode_partial_metadata_list(std::slice::from_ref(&item), &metadata).unwrap();
        let message = encode_message(&item, PartialObjectMetadata::schema()).unwrap();
        let back = decode_message(&message, PartialObjectMetadata::schema()).unwrap();
        assert_eq!(back.str_at(&["metadata", "uid"]), Some("u"));
        let mut field = Vec::new();
        put_bytes(&mut field, 2, &message);
        assert!(list.windows(field.len()).any(|part| part == field));
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = decode_message(&bytes, PartialObjectMetadata::schema());
            let _ = decode_object(&[MAGIC, &bytes].concat(), PartialObjectMetadata::schema());
        }
    }
}
