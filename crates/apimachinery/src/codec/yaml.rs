//! YAML as upstream reads it: YAML 1.1 scalars, converted to what JSON can say.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use bytes::Bytes;
use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use smol_str::SmolStr;

use super::{Error, MAX_DEPTH};
use crate::kind::Kind;
use crate::quote;
use crate::schema::Struct;
use crate::value::{Map, Value};

/// Values that aliases may stand for in one document: a few kilobytes of text must not become gigabytes.
const MAX_ALIASED: usize = 100_000;

/// More repeated keys than this are not worth naming.
const MAX_NAMED: usize = 100;

/// Reads the first document and says which keys came twice.
pub fn parse_reporting(bytes: &[u8], problems: &mut Vec<String>) -> Result<Value, Error> {
    // JSON is YAML, and the commonest body of requests that say they are.
    if let Some(tree) = as_json(bytes, |problems| super::json::parse_reporting(bytes, problems)) {
        return Ok(tree);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Error::new("yaml: invalid UTF-8"))?;
    let mut repeated = Vec::new();
    let tree = Reader::new(text, &mut repeated).document().map(Option::unwrap_or_default)?;
    if !repeated.is_empty() {
        // One problem, in the words of upstream's library.
        repeated.sort_by_key(|(line, _)| *line);
        let mut problem = "yaml: unmarshal errors:".to_string();
        for (line, key) in repeated.iter().take(MAX_NAMED) {
            let _ = write!(problem, "\n  line {line}: key {} already set in map", quote::quoted(key));
        }
        problems.push(problem);
    }
    Ok(tree)
}

/// Reads the first document and says which keys came twice and which the schema does not name.
pub fn parse_strict(bytes: &[u8], schema: &Struct, problems: &mut Vec<String>) -> Result<Value, Error> {
    let tree = parse_reporting(bytes, problems)?;
    if !schema.name.is_empty() {
        problems.extend(
            crate::prune::unknown_fields(&tree, schema).iter().map(|p| format!("unknown field {}", quote::quoted(p))),
        );
    }
    Ok(tree)
}

/// The tree of a text that is JSON without anything to report; what has problems is read as YAML, for their lines.
fn as_json(bytes: &[u8], read: impl Fn(&mut Vec<String>) -> Result<Value, Error>) -> Option<Value> {
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let mut problems = Vec::new();
    read(&mut problems).ok().filter(|_| problems.is_empty())
}

/// Reads every document of a stream; empty ones are left out.
pub fn parse_all(text: &str) -> Result<Vec<Value>, Error> {
    let mut repeated = Vec::new();
    let mut reader = Reader::new(text, &mut repeated);
    let mut documents = Vec::new();
    while let Some(document) = reader.document()? {
        if !document.is_null() {
            documents.push(document);
        }
    }
    Ok(documents)
}

struct Reader<'a, 'p> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Value>,
    budget: usize,
    /// The line of the event read last, from 1.
    line: usize,
    /// Keys that came twice, by the line of the second.
    repeated: &'p mut Vec<(usize, String)>,
}

impl<'a, 'p> Reader<'a, 'p> {
    fn new(text: &'a str, repeated: &'p mut Vec<(usize, String)>) -> Self {
        Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), budget: MAX_ALIASED, line: 1, repeated }
    }

    fn next(&mut self) -> Result<Event<'a>, Error> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(event)
            }
            Some(Err(error)) => Err(Error::new(format!("error converting YAML to JSON: yaml: {error}"))),
            None => Ok(Event::StreamEnd),
        }
    }

    /// The next document; `None` at the end.
    fn document(&mut self) -> Result<Option<Value>, Error> {
        loop {
            match self.next()? {
                Event::StreamEnd => return Ok(None),
                Event::DocumentStart(_) => {
                    self.anchors.clear();
                    let first = self.next()?;
                    return self.value(first, 0).map(Some);
                }
                _ => {}
            }
        }
    }

    fn value(&mut self, event: Event<'a>, depth: usize) -> Result<Value, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::new("yaml: exceeded max depth"));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar(&text, style, tag.as_deref())?, anchor),
            Event::Alias(id) => {
                let value = self.anchors.get(&id).cloned().ok_or_else(|| Error::new("yaml: unknown anchor"))?;
                let size = count(&value);
                self.budget = self
                    .budget
                    .checked_sub(size)
                    .ok_or_else(|| Error::new("yaml: document contains excessive aliasing"))?;
                return Ok(value);
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break,
                        event => {
                            items.push(self.value(event, depth + 1)?);
                        }
                    }
                }
                (Value::List(items), anchor)
            }
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            other => return Err(Error::new(format!("yaml: unexpected {other:?}"))),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, Error> {
        let mut entries: Vec<(SmolStr, Value)> = Vec::new();
        let mut merged: Vec<(SmolStr, Value)> = Vec::new();
        let mut seen: HashSet<SmolStr> = HashSet::new();
        loop {
            let event = match self.next()? {
                Event::MappingEnd => break,
                event => event,
            };
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, _) if text == "<<");
            let key = match self.value(event, depth + 1)? {
                Value::String(key) => key,
                Value::Int(i) => i.to_string().into(),
                Value::Float(x) => x.to_string().into(),
                Value::Bool(b) => b.to_string().into(),
                other => {
                    return Err(Error::new(format!(
                        "error converting YAML to JSON: unsupported map key of type: {}",
                        other.type_name()
                    )));
                }
            };
            if !merge && !seen.insert(key.clone()) {
                self.repeated.push((self.line, key.to_string()));
            }
            let event = self.next()?;
            let value = self.value(event, depth + 1)?;
            if merge {
                let maps = match value {
                    Value::List(items) => items,
                    one => vec![one],
                };
                for map in maps {
                    let Value::Map(map) = map else {
                        return Err(Error::new("yaml: map merge requires map or sequence of maps as the value"));
                    };
                    merged.extend(map);
                }
                continue;
            }
            entries.push((key, value));
        }
        // What the map itself says wins over what it merges, and the first merged over later ones.
        let (mut map, _) = Map::from_entries(entries);
        for (key, value) in merged {
            if !map.contains_key(&key) {
                map.insert(key, value);
            }
        }
        Ok(Value::Map(map))
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Map(map) => 1 + map.iter().map(|(_, v)| count(v)).sum::<usize>(),
        _ => 1,
    }
}

/// A scalar by YAML 1.1's rules, as upstream's library has them.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, Error> {
    if let Some(tag) = tag {
        match tag.suffix.as_str() {
            "str" => return Ok(Value::from(text)),
            "binary" => return Ok(Value::from(text.split_whitespace().collect::<String>())),
            _ => {}
        }
    }
    if style != ScalarStyle::Plain {
        return Ok(Value::from(text));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => Value::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" | ".nan" | ".NaN"
        | ".NAN" => {
            return Err(Error::new(format!("json: unsupported value: {text}")));
        }
        text => number(text).unwrap_or_else(|| Value::from(text)),
    })
}

fn number(text: &str) -> Option<Value> {
    let first = text.bytes().next()?;
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return None;
    }
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    let (sign, digits) = match plain.as_bytes().first()? {
        b'-' => (-1i64, &plain[1..]),
        b'+' => (1, &plain[1..]),
        _ => (1, plain.as_str()),
    };
    let radix = |prefix: &[&str], radix| {
        let rest = prefix.iter().find_map(|p| digits.strip_prefix(p))?;
        i64::from_str_radix(rest, radix).ok().map(|n| Value::Int(sign * n))
    };
    if let Some(value) = radix(&["0x", "0X"], 16).or_else(|| radix(&["0b"], 2)).or_else(|| radix(&["0o"], 8)) {
        return Some(value);
    }
    // A leading zero means octal in YAML 1.1.
    if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return i64::from_str_radix(digits, 8).ok().map(|n| Value::Int(sign * n));
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) && !digits.is_empty() {
        return plain
            .trim_start_matches('+')
            .parse::<i64>()
            .map(Value::Int)
            .ok()
            .or_else(|| plain.parse().map(Value::Float).ok());
    }
    let floats = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    if digits.bytes().all(floats) && digits.bytes().any(|b| b.is_ascii_digit()) {
        return plain.parse::<f64>().ok().filter(|x| x.is_finite()).map(Value::Float);
    }
    None
}

/// An object as YAML.
pub fn encode(tree: &Value, schema: &Struct) -> Bytes {
    // The JSON encoding decides which members there are; YAML sorts them, as upstream's does.
    let value = super::json::parse(&super::json::encode(tree, schema)).unwrap_or_default();
    write(&value).into()
}

/// A list as YAML.
pub fn encode_list(kind: &Kind, items: &[Value], metadata: &Map) -> Bytes {
    let value = super::json::parse(&super::json::encode_list(kind, items, metadata, false)).unwrap_or_default();
    write(&value).into()
}

/// Any tree as block-style YAML.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Map(map) if !map.is_empty() => {
            let mut members: Vec<(&SmolStr, &Value)> = map.iter().collect();
            members.sort_by(|a, b| natural(a.0, b.0));
            for (i, (key, item)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.extend(std::iter::repeat_n(' ', indent));
                }
                // A key of several lines stays on one.
                if key.contains('\n') {
                    quoted(key, out)
                } else {
                    text(key, indent, out)
                }
                out.push(':');
                member(item, indent, out);
            }
        }
        Value::List(items) if !items.is_empty() => {
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.extend(std::iter::repeat_n(' ', indent));
                }
                out.push_str("- ");
                match item {
                    Value::Map(m) if !m.is_empty() => block(item, indent + 2, out),
                    Value::List(l) if !l.is_empty() => block(item, indent + 2, out),
                    _ => {
                        flow(item, indent, out);
                        out.push('\n');
                    }
                }
            }
        }
        _ => {
            flow(value, indent, out);
            out.push('\n');
        }
    }
}

/// The order in which upstream's library writes keys: numbers inside them count as numbers, letters come after signs.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = (0..a.len().min(b.len())).find(|i| a[*i] != b[*i]) else { return a.len().cmp(&b.len()) };
    match (a[at].is_alphabetic(), b[at].is_alphabetic()) {
        (true, true) => return a[at].cmp(&b[at]),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // A zero after other digits of the same number is worth its place.
    let inside =
        (a[at] == '0' || b[at] == '0') && a[..at].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
    let number = |text: &[char]| {
        let digits: Vec<u32> = text[at..].iter().map_while(|c| c.to_digit(10)).collect();
        let value = digits.iter().fold(i64::from(inside), |n, d| n.wrapping_mul(10).wrapping_add(i64::from(*d)));
        (value, digits.len())
    };
    number(&a).cmp(&number(&b)).then_with(|| a[at].cmp(&b[at]))
}

fn member(item: &Value, indent: usize, out: &mut String) {
    match item {
        Value::Map(map) if !map.is_empty() => {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent + 2));
            block(item, indent + 2, out);
        }
        // Lists stand at the level of their key.
        Value::List(items) if !items.is_empty() => {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            block(item, indent, out);
        }
        _ => {
            out.push(' ');
            flow(item, indent, out);
            out.push('\n');
        }
    }
}

fn flow(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(i) => out.push_str(itoa::Buffer::new().format(*i)),
        Value::Float(x) => float(*x, out),
        Value::String(s) => text(s, indent, out),
        Value::List(_) => out.push_str("[]"),
        Value::Map(_) => out.push_str("{}"),
    }
}

/// Shortest digits that read back; an exponent below 1e-4 and from 1e6 on, as Go's `%g` has it.
fn float(x: f64, out: &mut String) {
    let text = format!("{x:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.parse::<i32>() {
        // A whole number has no point in JSON, and so is an integer here.
        _ if x.fract() == 0.0 && x.abs() < 9.2e18 => {
            let _ = write!(out, "{x}");
        }
        Ok(exponent) if x.is_finite() && !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            let _ = write!(out, "{digits}e{sign}{:02}", exponent.abs());
        }
        _ => {
            let _ = write!(out, "{x}");
        }
    }
}

/// A text plain where that reads back as the same text, as a block where it has lines, quoted otherwise.
fn text(s: &str, indent: usize, out: &mut String) {
    let printable = s.chars().all(|c| c == '\n' || is_printable(c));
    if s.contains('\n') && printable && !s.starts_with([' ', '\n']) {
        let trimmed = s.trim_end_matches('\n');
        out.push_str(match s.len() - trimmed.len() {
            0 => "|-",
            1 => "|",
            _ => "|+",
        });
        for line in s.strip_suffix('\n').unwrap_or(s).split('\n') {
            out.push('\n');
            if !line.is_empty() {
                out.extend(std::iter::repeat_n(' ', indent + 2));
                out.push_str(line);
            }
        }
        return;
    }
    let resolves = !matches!(scalar(s, ScalarStyle::Plain, None), Ok(Value::String(_))) || looks_like_time(s);
    if !resolves && is_plain(s) && printable && !s.contains('\n') {
        out.push_str(s);
    } else if !resolves && printable && !s.contains('\n') && !s.is_empty() {
        out.push('\'');
        out.push_str(&s.replace('\'', "''"));
        out.push('\'');
    } else {
        // What would read back as something else is quoted twice, as upstream's library does.
        quoted(s, out);
    }
}

/// What upstream's library takes for printable: nothing beyond the first plane.
fn is_printable(c: char) -> bool {
    !c.is_control() && c <= '\u{ffff}' && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{85}' | '\u{a0}')
}

fn quoted(s: &str, out: &mut String) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{85}' => out.push_str("\\N"),
            '\u{a0}' => out.push_str("\\_"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            c if is_printable(c) => out.push(c),
            c if c <= '\u{ff}' => {
                let _ = write!(out, "\\x{:02X}", c as u32);
            }
            c if c <= '\u{ffff}' => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => {
                let _ = write!(out, "\\U{:08X}", c as u32);
            }
        }
    }
    out.push('"');
}

fn is_plain(s: &str) -> bool {
    let Some(first) = s.chars().next() else { return false };
    let special = matches!(
        first,
        '-' | '?'
            | ':'
            | ','
            | '['
            | ']'
            | '{'
            | '}'
            | '#'
            | '&'
            | '*'
            | '!'
            | '|'
            | '>'
            | '\''
            | '"'
            | '%'
            | '@'
            | '`'
            | ' '
    );
    let dash_word = first == '-' && s.len() > 1 && !s.starts_with("- ") && !s.starts_with("---");
    (!special || dash_word)
        && !s.ends_with([' ', ':'])
        && !s.contains(": ")
        && !s.contains(" #")
        && !matches!(s, "<<" | "=")
}

/// Upstream's library quotes what YAML 1.1 would read as a time.
fn looks_like_time(s: &str) -> bool {
    let b = s.as_bytes();
    b.len() >= 10 && b[..4].iter().all(u8::is_ascii_digit) && b[4] == b'-' && b[5..7].iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Value {
        parse_reporting(text.as_bytes(), &mut Vec::new()).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    #[test]
    fn scalars_follow_yaml_1_1() {
        let value =
            read("a: yes\nb: 012\nc: 0x10\nd: 1.5\ne: '1'\nf: ~\ng: 1_000\nh: 2020-01-01\ni: off\nj: .5\nk: v1.2.3\n");
        let want = br#"{"a":true,"b":10,"c":16,"d":1.5,"e":"1","f":null,"g":1000,"h":"2020-01-01","i":false,"j":0.5,"k":"v1.2.3"}"#;
        assert_eq!(Ok(value), super::super::json::parse(want));
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        for bad in ["a: .inf", "a: -.Inf", "a: .nan", "~: 1", "[1]: 2", "a: *b", "a: ["] {
            assert!(parse_reporting(bad.as_bytes(), &mut Vec::new()).is_err(), "{bad}");
        }
    }

    #[test]
    fn repeated_keys_are_named_by_line() {
        let mut problems = Vec::new();
        assert!(parse_reporting(b"a: 1\nb:\n  c: 1\n  c: 2\na: 2\n", &mut problems).is_ok());
        let want =
            "yaml: unmarshal errors:\n  line 4: key \"c\" already set in map\n  line 5: key \"a\" already set in map";
        assert_eq!(problems, [want]);
    }

    #[test]
    fn anchors_merges_and_duplicates() {
        let mut problems = Vec::new();
        let text = "base: &b {x: 1, z: 2}\nuse:\n  <<: *b\n  z: 3\n  z: 4\n";
        let value = parse_reporting(text.as_bytes(), &mut problems).unwrap_or_default();
        assert_eq!(value.at(&["use", "x"]), Some(&Value::Int(1)));
        assert_eq!(value.at(&["use", "z"]), Some(&Value::Int(4)));
        assert_eq!(problems.len(), 1);
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
        assert!(parse_reporting(bomb.as_bytes(), &mut Vec::new()).is_err());
    }

    #[test]
    fn what_is_written_reads_back() {
        let json = br#"{"a":{"b":[1,{"c":"x: y","d":""},[],{}],"e":"multi\nline\n","f":"true","g":"- x","h":"-x","i":"it's"},"j":null,"k":"2020-01-01T00:00:00Z","l":"\t"}"#;
        let value = super::super::json::parse(json).unwrap_or_default();
        let text = write(&value);
        assert_eq!(read(&text), value, "{text}");
        assert_eq!(parse_all("a: 1\n---\nb: 2\n---\n").map(|d| d.len()), Ok(2));
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(text in "[ -~\n]{0,120}") {
            let _ = parse_reporting(text.as_bytes(), &mut Vec::new());
        }
    }
}
