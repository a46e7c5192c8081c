//! Reading JSON as Go's decoder does: integers stay integers, repeated and unknown keys are named in order.

use smol_str::SmolStr;

use crate::codec::{Error, MAX_DEPTH};
use crate::lookup::find_field;
use crate::quote::quoted;
use crate::schema::{Struct, Type};
use crate::value::{Map, Value};

/// Reads one JSON value.
pub fn parse(bytes: &[u8]) -> Result<Value, Error> {
    parse_reporting(bytes, &mut Vec::new())
}

/// Reads one JSON value and says which keys came twice: `duplicate field "spec.x"`. The last one counts.
pub fn parse_reporting(bytes: &[u8], problems: &mut Vec<String>) -> Result<Value, Error> {
    whole(bytes, None, problems)
}

/// Reads one object and says, in the order of the text, which keys came twice and which its schema does not name.
///
/// Of a custom resource only repeated keys are named: what it does not know is found by [`crate::prune`].
pub fn parse_strict(bytes: &[u8], schema: &Struct, problems: &mut Vec<String>) -> Result<Value, Error> {
    whole(bytes, Some(schema).filter(|s| !s.name.is_empty()), problems)
}

fn whole(bytes: &[u8], schema: Option<&Struct>, problems: &mut Vec<String>) -> Result<Value, Error> {
    let mut parser = Parser { bytes, at: 0, depth: 0, problems };
    parser.skip_space();
    let value = parser.value(&Trail::Root, Shape::of_struct(schema))?;
    parser.skip_space();
    match parser.bytes.get(parser.at) {
        None => Ok(value),
        Some(_) => Err(parser.unexpected("after top-level value")),
    }
}

/// What is known of the value that comes next.
#[derive(Clone, Copy)]
enum Shape<'s> {
    Unknown,
    Struct(&'s Struct),
    /// Of list and map types.
    Type(&'s Type),
}

impl<'s> Shape<'s> {
    fn of_struct(schema: Option<&'s Struct>) -> Shape<'s> {
        schema.map_or(Shape::Unknown, Shape::Struct)
    }

    fn of(ty: &'s Type) -> Shape<'s> {
        match ty {
            Type::Struct(schema) if !schema.name.is_empty() => Shape::Struct(schema),
            Type::List(_) | Type::Map(_) => Shape::Type(ty),
            _ => Shape::Unknown,
        }
    }

    fn item(self) -> Shape<'s> {
        match self {
            Shape::Type(Type::List(node)) => Shape::of(&node.ty),
            _ => Shape::Unknown,
        }
    }

    /// The shape of a member; `None` when there is no such member.
    fn member(self, key: &str, top: bool) -> Option<Shape<'s>> {
        match self {
            Shape::Unknown => Some(Shape::Unknown),
            Shape::Type(Type::Map(node)) => Some(Shape::of(&node.ty)),
            Shape::Type(_) => Some(Shape::Unknown),
            Shape::Struct(schema) => match find_field(schema, key) {
                Some(field) => Some(Shape::of(&field.node.ty)),
                None => {
                    (schema.preserve_unknown || (top && matches!(key, "apiVersion" | "kind"))).then_some(Shape::Unknown)
                }
            },
        }
    }
}

/// The way to a value, for messages only.
enum Trail<'a> {
    Root,
    Key(&'a Trail<'a>, &'a str),
    Index(&'a Trail<'a>, usize),
}

impl Trail<'_> {
    fn text(&self) -> String {
        match self {
            Trail::Root => String::new(),
            Trail::Key(Trail::Root, key) => (*key).to_string(),
            Trail::Key(parent, key) => format!("{}.{key}", parent.text()),
            Trail::Index(parent, i) => format!("{}[{i}]", parent.text()),
        }
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    problems: &'a mut Vec<String>,
}

/// More duplicates than this are not worth naming.
const MAX_PROBLEMS: usize = 100;

/// Objects of at most this many members are searched for a repeated key as they are read.
const SEARCHED: usize = 32;

impl Parser<'_> {
    fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn unexpected(&self, place: &str) -> Error {
        match self.bytes.get(self.at) {
            None => Error::new("unexpected end of JSON input"),
            Some(byte) => Error::new(format!("invalid character {:?} {place}", char::from(*byte))),
        }
    }

    fn value(&mut self, trail: &Trail<'_>, shape: Shape<'_>) -> Result<Value, Error> {
        match self.bytes.get(self.at) {
            Some(b'{') => self.nested(|p| p.object(trail, shape)),
            Some(b'[') => self.nested(|p| p.array(trail, shape.item())),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Result<Value, Error>) -> Result<Value, Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::new("exceeded max depth"));
        }
        self.at += 1;
        self.skip_space();
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Error> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        Err(self.unexpected("looking for beginning of value"))
    }

    fn report(&mut self, what: &str, trail: &Trail<'_>) {
        let problem = format!("{what} field {}", quoted(&trail.text()));
        if self.problems.len() < MAX_PROBLEMS && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn object(&mut self, trail: &Trail<'_>, shape: Shape<'_>) -> Result<Value, Error> {
        let mut entries: Vec<(SmolStr, Value)> = Vec::new();
        if self.bytes.get(self.at) == Some(&b'}') {
            self.at += 1;
            return Ok(Value::Map(Map::new()));
        }
        loop {
            if self.bytes.get(self.at) != Some(&b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            let key = self.string()?;
            self.skip_space();
            if self.bytes.get(self.at) != Some(&b':') {
                return Err(self.unexpected("after object key"));
            }
            self.at += 1;
            self.skip_space();
            let place = Trail::Key(trail, &key);
            let below = shape.member(&key, matches!(trail, Trail::Root));
            // Small objects are searched; in large ones repeats are named when the object has ended.
            if below.is_none() {
                self.report("unknown", &place);
            } else if entries.len() <= SEARCHED && entries.iter().any(|(k, _)| *k == key) {
                self.report("duplicate", &place);
            }
            let value = self.value(&place, below.unwrap_or(Shape::Unknown))?;
            entries.push((key, value));
            self.skip_space();
            match self.bytes.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    break;
                }
                _ => return Err(self.unexpected("after object key:value pair")),
            }
            self.skip_space();
        }
        let large = entries.len() > SEARCHED + 1;
        let (map, duplicates) = Map::from_entries(entries);
        for key in duplicates.iter().filter(|_| large) {
            self.report("duplicate", &Trail::Key(trail, key));
        }
        Ok(Value::Map(map))
    }

    fn array(&mut self, trail: &Trail<'_>, item: Shape<'_>) -> Result<Value, Error> {
        let mut items = Vec::new();
        if self.bytes.get(self.at) == Some(&b']') {
            self.at += 1;
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(&Trail::Index(trail, items.len()), item)?);
            self.skip_space();
            match self.bytes.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::List(items));
                }
                _ => return Err(self.unexpected("after array element")),
            }
            self.skip_space();
        }
    }

    fn number(&mut self) -> Result<Value, Error> {
        let start = self.at;
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        let digits = |p: &mut Self| {
            let from = p.at;
            while p.bytes.get(p.at).is_some_and(u8::is_ascii_digit) {
                p.at += 1;
            }
            p.at - from
        };
        let leading_zero = self.bytes.get(self.at) == Some(&b'0');
        let whole = digits(self);
        if whole == 0 || (leading_zero && whole > 1) {
            return Err(self.unexpected("in numeric literal"));
        }
        let mut float = false;
        if self.bytes.get(self.at) == Some(&b'.') {
            float = true;
            self.at += 1;
            if digits(self) == 0 {
                return Err(self.unexpected("after decimal point in numeric literal"));
            }
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            float = true;
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if digits(self) == 0 {
                return Err(self.unexpected("in exponent of numeric literal"));
            }
        }
        // Only ASCII was taken.
        let text = std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or("0");
        if !float && let Ok(integer) = text.parse::<i64>() {
            return Ok(Value::Int(integer));
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Float(number)),
            _ => Err(Error::new(format!("cannot unmarshal number {text} into Go value of type float64"))),
        }
    }

    fn string(&mut self) -> Result<SmolStr, Error> {
        self.at += 1;
        let start = self.at;
        // The common case: no escape, valid UTF-8, taken as one slice.
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    let text = String::from_utf8_lossy(&self.bytes[start..self.at]);
                    self.at += 1;
                    return Ok(SmolStr::new(text));
                }
                b'\\' => break,
                0..=0x1f => return Err(self.unexpected("in string literal")),
                _ => self.at += 1,
            }
        }
        let mut out = self.bytes[start..self.at].to_vec();
        loop {
            match self.bytes.get(self.at) {
                None => return Err(self.unexpected("in string literal")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(SmolStr::new(String::from_utf8_lossy(&out)));
                }
                Some(b'\\') => self.escape(&mut out)?,
                Some(0..=0x1f) => return Err(self.unexpected("in string literal")),
                Some(byte) => {
                    out.push(*byte);
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.at += 1;
        let simple = match self.bytes.get(self.at) {
            Some(b'"') => b'"',
            Some(b'\\') => b'\\',
            Some(b'/') => b'/',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                self.at += 1;
                let first = self.hex()?;
                let mut code = u32::from(first);
                if (0xd800..0xdc00).contains(&first) && self.bytes[self.at..].starts_with(b"\\u") {
                    let back = self.at;
                    self.at += 2;
                    let second = self.hex()?;
                    if (0xdc00..0xe000).contains(&second) {
                        code = 0x10000 + ((u32::from(first) - 0xd800) << 10) + (u32::from(second) - 0xdc00);
                    } else {
                        self.at = back;
                    }
                }
                let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        out.push(simple);
        self.at += 1;
        Ok(())
    }

    fn hex(&mut self) -> Result<u16, Error> {
        let mut code = 0u16;
        for _ in 0..4 {
            let digit = self.bytes.get(self.at).and_then(|b| char::from(*b).to_digit(16));
            let Some(digit) = digit else { return Err(self.unexpected("in \\u hexadecimal character escape")) };
            code = code << 4 | digit as u16;
            self.at += 1;
        }
        Ok(code)
    }
}
