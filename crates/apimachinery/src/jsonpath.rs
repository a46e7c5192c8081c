//! JSONPath as kubectl and printer columns use it: fields, indices, slices, unions, wildcards, descent and filters.

use crate::json_text;
use crate::value::Value;

/// Deepest nesting of filters and unions in one path.
const MAX_DEPTH: usize = 16;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

/// A path that could not be read, or does not fit the object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PathError(pub String);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Slice {
        start: Option<i64>,
        end: End,
        step: Option<i64>,
    },
    Wildcard,
    Descend,
    Union(Vec<JsonPath>),
    Filter {
        left: JsonPath,
        operator: Option<Comparison>,
        right: JsonPath,
    },
    /// A constant inside a filter or a text between braces.
    Constant(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Unknown,
    At(i64),
    /// One past the start: a plain index.
    AfterStart(i64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Less,
    Greater,
    Equal,
    NotEqual,
    LessEqual,
    GreaterEqual,
}

fn error<T>(text: impl Into<String>) -> Result<T, PathError> {
    Err(PathError(text.into()))
}

impl JsonPath {
    /// Reads a path such as `.status.conditions[?(@.type=="Ready")].status`; braces around it are optional.
    pub fn parse(text: &str) -> Result<JsonPath, PathError> {
        let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        JsonPath::parse_at(inner, 0)
    }

    fn parse_at(text: &str, depth: usize) -> Result<JsonPath, PathError> {
        if depth > MAX_DEPTH {
            return error("path is nested too deeply");
        }
        let mut parser = Parser { text, at: 0, depth };
        let mut steps = Vec::new();
        while parser.step(&mut steps)? {}
        Ok(JsonPath { steps })
    }

    /// Everything that the path reaches; a missing field reaches nothing.
    pub fn find<'a>(&'a self, value: &'a Value) -> Result<Vec<&'a Value>, PathError> {
        let mut found = vec![value];
        for step in &self.steps {
            found = step.walk(found)?;
        }
        Ok(found)
    }
}

impl Step {
    fn walk<'a>(&'a self, input: Vec<&'a Value>) -> Result<Vec<&'a Value>, PathError> {
        let mut out = Vec::new();
        match self {
            Step::Constant(value) => out.push(value),
            Step::Field(name) => out.extend(input.into_iter().filter_map(|v| v.get(name))),
            Step::Wildcard => {
                for value in input {
                    match value {
                        Value::Map(map) => out.extend(map.iter().map(|(_, v)| v)),
                        Value::List(list) => out.extend(list),
                        _ => {}
                    }
                }
            }
            Step::Descend => {
                for value in input {
                    descend(value, &mut out);
                }
            }
            Step::Union(paths) => {
                for path in paths {
                    let mut found = input.clone();
                    for step in &path.steps {
                        found = step.walk(found)?;
                    }
                    out.extend(found);
                }
            }
            Step::Slice { start, end, step } => {
                for value in input.into_iter().filter(|v| !v.is_null()) {
                    let Value::List(list) = value else {
                        return error(format!("{} is not array or slice", go_type(value)));
                    };
                    slice(list, *start, *end, *step, &mut out)?;
                }
            }
            Step::Filter { left, operator, right } => {
                for value in input {
                    let Value::List(list) = value else {
                        return error(format!("{} is not array or slice and cannot be filtered", go_show(value)));
                    };
                    for item in list {
                        let lefts = left.find(item);
                        let Some(operator) = operator else {
                            if lefts.is_ok_and(|l| !l.is_empty()) {
                                out.push(item);
                            }
                            continue;
                        };
                        match (lefts?.as_slice(), right.find(item)?.as_slice()) {
                            ([], _) | (_, []) => {}
                            ([a], [b]) => {
                                if operator.holds(a, b)? {
                                    out.push(item);
                                }
                            }
                            _ => return error("can only compare one element at a time"),
                        }
                    }
                }
            }
        }
        Ok(out)
    }
}

/// What messages call a value's type.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
    }
}

/// A value as messages show it: `map[a:1 b:[x y]]`.
fn go_show(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::List(items) => format!("[{}]", items.iter().map(go_show).collect::<Vec<_>>().join(" ")),
        Value::Map(map) => {
            let members: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_show(v))).collect();
            format!("map[{}]", members.join(" "))
        }
        scalar => show(scalar),
    }
}

fn descend<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    let below: Vec<&Value> = match value {
        Value::Map(map) => map.iter().map(|(_, v)| v).collect(),
        Value::List(list) => list.iter().collect(),
        _ => return,
    };
    if !below.is_empty() {
        out.push(value);
        for value in below {
            descend(value, out);
        }
    }
}

fn slice<'a>(
    list: &'a [Value],
    start: Option<i64>,
    end: End,
    step: Option<i64>,
    out: &mut Vec<&'a Value>,
) -> Result<(), PathError> {
    let len = list.len() as i64;
    let mut from = start.unwrap_or(0);
    if from < 0 {
        from += len;
    }
    let to = match end {
        End::Unknown => len,
        End::At(i) if i < 0 => i + len,
        End::At(i) => i,
        // The last element's end is the end of the list.
        End::AfterStart(i) if i <= 0 => i + len,
        End::AfterStart(i) => i,
    };
    if from == to {
        return Ok(());
    }
    if from >= len || from < 0 {
        return error(format!("array index out of bounds: index {from}, length {len}"));
    }
    if to > len || to < 0 {
        return error(format!("array index out of bounds: index {}, length {len}", to - 1));
    }
    if from > to {
        return error(format!("starting index {from} is greater than ending index {to}"));
    }
    let step = step.unwrap_or(1);
    if step <= 0 {
        return error("step must be > 0");
    }
    out.extend(list[from as usize..to as usize].iter().step_by(step as usize));
    Ok(())
}

impl Comparison {
    fn holds(self, a: &Value, b: &Value) -> Result<bool, PathError> {
        let order = match (a, b) {
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
            (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) if matches!(self, Comparison::Equal | Comparison::NotEqual) => {
                Some(a.cmp(b))
            }
            (Value::Bool(_), Value::Bool(_)) => return error("invalid type for comparison"),
            (Value::Null | Value::List(_) | Value::Map(_), _) | (_, Value::Null | Value::List(_) | Value::Map(_)) => {
                return error("invalid type for comparison");
            }
            _ => return error("incompatible types for comparison"),
        };
        Ok(match self {
            Comparison::Less => order.is_some_and(|o| o.is_lt()),
            Comparison::Greater => order.is_some_and(|o| o.is_gt()),
            Comparison::Equal => order.is_some_and(|o| o.is_eq()),
            Comparison::NotEqual => order.is_none_or(|o| o.is_ne()),
            Comparison::LessEqual => order.is_some_and(|o| o.is_le()),
            Comparison::GreaterEqual => order.is_some_and(|o| o.is_ge()),
        })
    }
}

/// A result as kubectl prints it: scalars plain, everything else as JSON.
pub fn show(value: &Value) -> String {
    match value {
        Value::String(s) => s.to_string(),
        Value::Float(x) => go_float(*x),
        other => json_text::write(other),
    }
}

/// Go's `%v` of a float: an exponent of at least two digits below 1e-4 and from 1e21 on.
fn go_float(x: f64) -> String {
    let magnitude = x.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{x:e}");
        if let Some((digits, exponent)) = text.split_once('e') {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
            return format!("{digits}e{sign}{exponent:0>2}");
        }
        return text;
    }
    format!("{x}")
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

fn is_terminator(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}')
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// Reads one step; false at the end.
    fn step(&mut self, steps: &mut Vec<Step>) -> Result<bool, PathError> {
        if self.rest().starts_with("[?(") {
            self.at += 3;
            return self.filter(steps);
        }
        if self.rest().starts_with("..") {
            if steps.last() == Some(&Step::Descend) {
                return error("invalid multiple recursive descent");
            }
            self.at += 2;
            steps.push(Step::Descend);
            if self.rest().starts_with(|c: char| c == '_' || c.is_alphanumeric()) {
                self.field(steps);
            }
            return Ok(true);
        }
        let Some(c) = self.rest().chars().next() else { return Ok(false) };
        match c {
            '\n' | '\r' => return error("unclosed action"),
            ' ' | '@' | '$' => self.at += 1,
            '[' => {
                self.at += 1;
                let Some(end) = self.rest().find([']', '\n']).filter(|i| self.rest()[*i..].starts_with(']')) else {
                    return error("unterminated array");
                };
                let inner = self.rest()[..end].to_string();
                self.at += end + 1;
                self.array(&inner, steps)?;
            }
            '"' | '\'' => {
                let text = self.quoted(c)?;
                steps.push(Step::Constant(Value::String(text.into())));
            }
            '.' => {
                self.at += 1;
                self.field(steps);
            }
            '+' | '-' | '0'..='9' => {
                let start = self.at;
                self.at += 1;
                let digits = self.rest().find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(self.rest().len());
                self.at += digits;
                let text = &self.text[start..self.at];
                let number = text
                    .parse::<i64>()
                    .map(Value::Int)
                    .or_else(|_| text.parse::<f64>().map(Value::Float))
                    .map_err(|_| PathError(format!("cannot parse number {text}")))?;
                steps.push(Step::Constant(number));
            }
            c if c == '_' || c.is_alphanumeric() => {
                let len = self.rest().find(is_terminator).unwrap_or(self.rest().len());
                let word = &self.rest()[..len];
                let step = match word {
                    "true" => Step::Constant(Value::Bool(true)),
                    "false" => Step::Constant(Value::Bool(false)),
                    other => return error(format!("unrecognized identifier {other}")),
                };
                steps.push(step);
                self.at += len;
            }
            other => {
                return error(format!("unrecognized character in action: U+{:04X} '{other}'", other as u32));
            }
        }
        Ok(true)
    }

    fn field(&mut self, steps: &mut Vec<Step>) {
        let mut name = String::new();
        let mut escaped = false;
        let mut len = 0;
        for c in self.rest().chars() {
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if is_terminator(c) {
                break;
            }
            len += c.len_utf8();
            if c != '\\' {
                name.push(c);
            }
        }
        self.at += len;
        steps.push(if name == "*" { Step::Wildcard } else { Step::Field(name) });
    }

    fn quoted(&mut self, quote: char) -> Result<String, PathError> {
        self.at += 1;
        let mut out = String::new();
        let mut escaped = false;
        for (i, c) in self.rest().char_indices() {
            match c {
                _ if escaped => {
                    out.push(match c {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        other => other,
                    });
                    escaped = false;
                }
                '\\' => escaped = true,
                '\n' => break,
                c if c == quote => {
                    self.at += i + 1;
                    return Ok(out);
                }
                c => out.push(c),
            }
        }
        error("unterminated quoted string")
    }

    fn array(&self, inner: &str, steps: &mut Vec<Step>) -> Result<(), PathError> {
        let inner = if inner == "*" { ":" } else { inner };
        if inner.contains(',') {
            let paths: Result<_, _> = inner
                .split(',')
                .map(|part| JsonPath::parse_at(&format!("[{}]", part.trim_matches(' ')), self.depth + 1))
                .collect();
            steps.push(Step::Union(paths?));
            return Ok(());
        }
        if let Some(key) = inner.strip_prefix('\'').and_then(|k| k.strip_suffix('\'')).filter(|k| !k.contains('\'')) {
            steps.extend(JsonPath::parse_at(&format!(".{key}"), self.depth + 1)?.steps);
            return Ok(());
        }
        let bad = || PathError(format!("invalid array index {inner}"));
        let parts: Vec<&str> = inner.split(':').collect();
        if parts.len() > 3 {
            return Err(bad());
        }
        let number = |i: usize| -> Result<Option<i64>, PathError> {
            match parts.get(i) {
                None | Some(&"") => Ok(None),
                Some(text) => {
                    let digits = text.strip_prefix('-').unwrap_or(text);
                    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                        return Err(bad());
                    }
                    text.parse::<i32>()
                        .map(|n| Some(i64::from(n)))
                        .map_err(|_| PathError(format!("array index {text} is not a number")))
                }
            }
        };
        let start = number(0)?;
        let end = match (parts.len(), number(1)?) {
            (1, _) => End::AfterStart(start.unwrap_or(0) + 1),
            (_, Some(i)) => End::At(i),
            (_, None) => End::Unknown,
        };
        steps.push(Step::Slice { start, end, step: number(2)? });
        Ok(())
    }

    fn filter(&mut self, steps: &mut Vec<Step>) -> Result<bool, PathError> {
        let start = self.at;
        let mut quote = None;
        let mut previous = ' ';
        let mut end = None;
        for (i, c) in self.rest().char_indices() {
            match (quote, c) {
                (_, '\n') => break,
                (None, '"' | '\'') => quote = Some(c),
                (Some(q), c) if c == q && previous != '\\' => quote = None,
                (None, ')') => {
                    end = Some(i);
                    break;
                }
                _ => {}
            }
            previous = c;
        }
        let Some(len) = end else { return error("unterminated filter") };
        let text = self.text[start..start + len].to_string();
        self.at = start + len + 1;
        if !self.rest().starts_with(']') {
            return error("unclosed array expect ]");
        }
        self.at += 1;
        let operators = text.find(['!', '<', '>', '=']).filter(|i| *i > 0);
        let parse = |part: &str| JsonPath::parse_at(part, self.depth + 1);
        let step = match operators {
            None => Step::Filter { left: parse(&text)?, operator: None, right: JsonPath { steps: Vec::new() } },
            Some(i) => {
                let len = text[i..].find(|c| !matches!(c, '!' | '<' | '>' | '=')).unwrap_or(text.len() - i);
                let (left, operator, right) = (&text[..i], &text[i..i + len], &text[i + len..]);
                let operator = match operator {
                    "<" => Comparison::Less,
                    ">" => Comparison::Greater,
                    "==" => Comparison::Equal,
                    "!=" => Comparison::NotEqual,
                    "<=" => Comparison::LessEqual,
                    ">=" => Comparison::GreaterEqual,
                    other => return error(format!("unrecognized filter operator {other}")),
                };
                Step::Filter { left: parse(left)?, operator: Some(operator), right: parse(right)? }
            }
        };
        steps.push(step);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &str = r#"{"spec":{"n":3,"a.b":"dot","list":[{"name":"x","port":80},{"name":"y","port":443,"on":true}]},
        "status":{"conditions":[{"type":"Ready","status":"True"},{"type":"Other","status":"False"}]}}"#;

    fn check(path: &str, expected: &str) {
        let object = json_text::read(OBJECT).unwrap();
        let got = match JsonPath::parse(path) {
            Ok(path) => match path.find(&object) {
                Ok(found) => found.into_iter().map(show).collect::<Vec<_>>().join(" "),
                Err(e) => format!("error: {e}"),
            },
            Err(e) => format!("bad: {e}"),
        };
        assert_eq!(got, expected, "{path}");
    }

    #[test]
    fn paths_reach_what_kubectl_reaches() {
        check(".spec.n", "3");
        check("{.spec.n}", "3");
        check(r".spec.a\.b", "dot");
        check(r".spec['a\.b']", "dot");
        check(".spec.list[0].name", "x");
        check(".spec.list[-1].name", "y");
        check(".spec.list[0:2].port", "80 443");
        check(".spec.list[*].name", "x y");
        check(".spec.list[0,1].name", "x y");
        check(".spec.list[5].name", "error: array index out of bounds: index 5, length 2");
        check(".spec.none.deeper", "");
        check("..port", "80 443");
        check(r#".status.conditions[?(@.type=="Ready")].status"#, "True");
        check(r#".status.conditions[?(@.type!="Ready")].status"#, "False");
        check(".spec.list[?(@.port>100)].name", "y");
        check(".spec.list[?(@.on)].name", "y");
        check(".spec.list[0]", r#"{"name":"x","port":80}"#);
        check(".spec.list[x]", "bad: invalid array index x");
        check(".spec.list[", "bad: unterminated array");
    }
}
