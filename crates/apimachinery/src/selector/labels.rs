//! Label selectors: the query string's grammar, `metav1.LabelSelector`, and matching.

use std::collections::BTreeSet;
use std::fmt;

use smol_str::SmolStr;

use super::SelectorError;
use crate::quote::quoted;
use crate::value::{Map, Value};

/// Requirements that must all hold, sorted by key. Without any it selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    /// What an absent `metav1.LabelSelector` means.
    nothing: bool,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub key: SmolStr,
    pub operator: Operator,
    pub values: Vec<SmolStr>,
}

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    DoesNotExist,
    Equals,
    DoubleEquals,
    In,
    NotEquals,
    NotIn,
    Exists,
    GreaterThan,
    LessThan,
}

impl Operator {
    fn text(self) -> &'static str {
        match self {
            Operator::DoesNotExist => "!",
            Operator::Equals => "=",
            Operator::DoubleEquals => "==",
            Operator::In => "in",
            Operator::NotEquals => "!=",
            Operator::NotIn => "notin",
            Operator::Exists => "exists",
            Operator::GreaterThan => "gt",
            Operator::LessThan => "lt",
        }
    }
}

impl LabelSelector {
    /// Selects every object.
    pub fn everything() -> LabelSelector {
        LabelSelector::default()
    }

    /// Selects no object.
    pub fn nothing() -> LabelSelector {
        LabelSelector { requirements: Vec::new(), nothing: true }
    }

    /// Reads the query string's form: `a=b,c!=d,e in (f,g),h,!i,j>1`.
    pub fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
        let mut parser = Parser { tokens: scan(text), position: 0 };
        parser.parse().map(LabelSelector::from_requirements).map_err(SelectorError)
    }

    pub fn from_requirements(mut requirements: Vec<Requirement>) -> LabelSelector {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        LabelSelector { requirements, nothing: false }
    }

    /// Labels that must all be there with these values.
    pub fn from_map<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> LabelSelector {
        LabelSelector::from_requirements(
            labels
                .into_iter()
                .map(|(key, value)| Requirement {
                    key: key.into(),
                    operator: Operator::Equals,
                    values: vec![value.into()],
                })
                .collect(),
        )
    }

    /// Reads a `metav1.LabelSelector` tree; an absent one selects nothing, an empty one everything.
    pub fn from_value(value: Option<&Value>) -> Result<LabelSelector, SelectorError> {
        let Some(value) = value.filter(|v| !v.is_null()) else { return Ok(LabelSelector::nothing()) };
        let mut requirements = Vec::new();
        for (key, value) in value.get("matchLabels").and_then(Value::as_map).into_iter().flat_map(Map::iter) {
            let values = vec![value.as_str().unwrap_or_default().into()];
            requirements.push(Requirement::new(key, Operator::Equals, values)?);
        }
        for expression in value.get("matchExpressions").and_then(Value::as_list).unwrap_or_default() {
            let operator = match expression.get("operator").and_then(Value::as_str).unwrap_or_default() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!("{} is not a valid label selector operator", quoted(other))));
                }
            };
            let values = expression.get("values").and_then(Value::as_list).unwrap_or_default();
            let values = values.iter().filter_map(|v| v.as_str().map(SmolStr::from)).collect();
            let key = expression.get("key").and_then(Value::as_str).unwrap_or_default();
            requirements.push(Requirement::new(key, operator, values)?);
        }
        Ok(LabelSelector::from_requirements(requirements))
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Restricts nothing.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Whether a label map, `metadata.labels` of a tree or none, is selected.
    pub fn matches_value(&self, labels: Option<&Value>) -> bool {
        let labels = labels.and_then(Value::as_map);
        self.matches(|key| labels.and_then(|m| m.get(key)).and_then(Value::as_str))
    }

    /// Whether labels, given as a look-up, are selected.
    pub fn matches<'a>(&self, look_up: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(look_up(&r.key)))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl Requirement {
    /// Checks the key, the values and how many of them the operator wants.
    pub fn new(key: &str, operator: Operator, values: Vec<SmolStr>) -> Result<Requirement, SelectorError> {
        let mut errors = Vec::new();
        if let Some(why) = check_key(key) {
            errors.push(format!("key: Invalid value: {}: {why}", quoted(key)));
        }
        let show = || {
            let quoted: Vec<String> = values.iter().map(|v| quoted(v).to_string()).collect();
            format!("[{}]", quoted.join(","))
        };
        let wrong_count = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        };
        if let Some(why) = wrong_count {
            errors.push(format!("values: Invalid value: {}: {why}", show()));
        }
        for (i, value) in values.iter().enumerate() {
            if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err() {
                errors.push(format!(
                    "values[{i}]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
                    quoted(value)
                ));
            }
        }
        for (i, value) in values.iter().enumerate() {
            if let Some(why) = check_value(value) {
                errors.push(format!("values[{i}][{key}]: Invalid value: {}: {why}", quoted(value)));
            }
        }
        match errors.len() {
            0 => Ok(Requirement { key: key.into(), operator, values }),
            1 => Err(SelectorError(errors.remove(0))),
            _ => Err(SelectorError(format!("[{}]", errors.join(", ")))),
        }
    }

    /// Whether the label's value, or its absence, satisfies this.
    pub fn matches(&self, label: Option<&str>) -> bool {
        let listed = |label: &str| self.values.iter().any(|v| v == label);
        match (self.operator, label) {
            (Operator::In | Operator::Equals | Operator::DoubleEquals, label) => label.is_some_and(listed),
            (Operator::NotIn | Operator::NotEquals, label) => !label.is_some_and(listed),
            (Operator::Exists, label) => label.is_some(),
            (Operator::DoesNotExist, label) => label.is_none(),
            (Operator::GreaterThan | Operator::LessThan, label) => {
                let number = |text: &str| text.parse::<i64>().ok();
                match (label.and_then(number), self.values.first().and_then(|v| number(v))) {
                    (Some(have), Some(bound)) if self.operator == Operator::GreaterThan => have > bound,
                    (Some(have), Some(bound)) => have < bound,
                    _ => false,
                }
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values: Vec<&str> = self.values.iter().map(SmolStr::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let key = &self.key;
        match self.operator {
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::In | Operator::NotIn => write!(f, "{key} {} ({values})", self.operator.text()),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
            _ => write!(f, "{key}{}{values}", self.operator.text()),
        }
    }
}

const NAME_FORMAT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

fn is_name(text: &str) -> bool {
    let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let bytes = text.as_bytes();
    edge(bytes.first().copied())
        && edge(bytes.last().copied())
        && bytes.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(|part| {
        let lower = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let bytes = part.as_bytes();
        bytes.first().is_some_and(lower)
            && bytes.last().is_some_and(lower)
            && bytes.iter().all(|c| lower(c) || *c == b'-')
    })
}

/// Why a label key is not one; `None` when it is.
fn check_key(key: &str) -> Option<String> {
    let mut errors: Vec<String> = Vec::new();
    let parts: Vec<&str> = key.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".into());
            } else {
                if prefix.len() > 253 {
                    errors.push("prefix part must be no more than 253 bytes".into());
                }
                if !is_subdomain(prefix) {
                    errors.push(
                        "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                            .into(),
                    );
                }
            }
            name
        }
        _ => {
            return Some(format!(
                "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{NAME_FORMAT}') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        errors.push("name part must be no more than 63 bytes".into());
    }
    if !is_name(name) {
        errors.push(format!(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{NAME_FORMAT}')"
        ));
    }
    (!errors.is_empty()).then(|| errors.join("; "))
}

/// Why a label value is not one; `None` when it is.
fn check_value(value: &str) -> Option<String> {
    let mut errors: Vec<String> = Vec::new();
    if value.len() > 63 {
        errors.push("must be no more than 63 bytes".into());
    }
    if !value.is_empty() && !is_name(value) {
        errors.push(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                .into(),
        );
    }
    (!errors.is_empty()).then(|| errors.join("; "))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Error,
    End,
    Close,
    Comma,
    Not,
    Operator(Operator),
    Identifier,
    Open,
}

fn keyword(text: &str) -> Option<Token> {
    Some(match text {
        ")" => Token::Close,
        "," => Token::Comma,
        "!" => Token::Not,
        "==" => Token::Operator(Operator::DoubleEquals),
        "=" => Token::Operator(Operator::Equals),
        ">" => Token::Operator(Operator::GreaterThan),
        "in" => Token::Operator(Operator::In),
        "<" => Token::Operator(Operator::LessThan),
        "!=" => Token::Operator(Operator::NotEquals),
        "notin" => Token::Operator(Operator::NotIn),
        "(" => Token::Open,
        _ => return None,
    })
}

fn is_special(c: u8) -> bool {
    matches!(c, b'=' | b'!' | b'(' | b')' | b',' | b'>' | b'<')
}

fn is_space(c: u8) -> bool {
    matches!(c, b' ' | b'\t' | b'\r' | b'\n')
}

/// All tokens with their texts; the last is [`Token::End`]. A NUL ends the text, as upstream reads it.
fn scan(text: &str) -> Vec<(Token, String)> {
    let text = text.split('\0').next().unwrap_or_default();
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        while at < bytes.len() && is_space(bytes[at]) {
            at += 1;
        }
        let start = at;
        match bytes.get(at) {
            None => {
                tokens.push((Token::End, String::new()));
                return tokens;
            }
            Some(c) if is_special(*c) => {
                // The longest run of special symbols that is a token.
                let mut best = None;
                let mut end = at;
                while end < bytes.len() && is_special(bytes[end]) {
                    end += 1;
                    match keyword(&text[start..end]) {
                        Some(token) => best = Some((token, end)),
                        None if best.is_some() => break,
                        None => {}
                    }
                }
                match best {
                    Some((token, end)) => {
                        tokens.push((token, text[start..end].to_string()));
                        at = end;
                    }
                    None => {
                        tokens.push((Token::Error, format!("error expected: keyword found '{}'", &text[start..end])));
                        at = end;
                    }
                }
            }
            Some(_) => {
                while at < bytes.len() && !is_special(bytes[at]) && !is_space(bytes[at]) {
                    at += 1;
                }
                let word = &text[start..at];
                tokens.push((keyword(word).unwrap_or(Token::Identifier), word.to_string()));
            }
        }
    }
}

struct Parser {
    tokens: Vec<(Token, String)>,
    position: usize,
}

impl Parser {
    /// A token where a value may stand: `in` and `notin` are words there.
    fn as_value(token: Token) -> Token {
        match token {
            Token::Operator(Operator::In | Operator::NotIn) => Token::Identifier,
            other => other,
        }
    }

    fn raw(&self) -> (Token, String) {
        self.tokens.get(self.position).cloned().unwrap_or((Token::End, String::new()))
    }

    fn look(&self) -> (Token, String) {
        let (token, text) = self.raw();
        (Parser::as_value(token), text)
    }

    fn take(&mut self) -> (Token, String) {
        let found = self.look();
        self.position += 1;
        found
    }

    fn parse(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.look() {
                (Token::Identifier | Token::Not, _) => {
                    let requirement = self.requirement().map_err(|e| format!("unable to parse requirement: {e}"))?;
                    requirements.push(requirement);
                    match self.take() {
                        (Token::End, _) => return Ok(requirements),
                        (Token::Comma, _) => {
                            let (next, text) = self.look();
                            if !matches!(next, Token::Identifier | Token::Not) {
                                return Err(format!("found '{text}', expected: identifier after ','"));
                            }
                        }
                        (_, text) => return Err(format!("found '{text}', expected: ',' or 'end of string'")),
                    }
                }
                (Token::End, _) => return Ok(requirements),
                (_, text) => return Err(format!("found '{text}', expected: !, identifier, or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut key) = self.take();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.take();
        }
        if token != Token::Identifier {
            return Err(format!("found '{key}', expected: identifier"));
        }
        if let Some(why) = check_key(&key) {
            return Err(format!("<nil>: Invalid value: {}: {why}", quoted(&key)));
        }
        let ends = matches!(self.look().0, Token::End | Token::Comma);
        let new = |operator, values| Requirement::new(&key, operator, values).map_err(|e| e.0);
        if negated {
            return new(Operator::DoesNotExist, Vec::new());
        }
        if ends {
            return new(Operator::Exists, Vec::new());
        }
        let (token, text) = self.raw();
        self.position += 1;
        let Token::Operator(operator) = token else {
            return Err(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt"));
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => self.exact_value()?,
        };
        new(operator, values.into_iter().map(SmolStr::from).collect())
    }

    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        let (token, text) = self.take();
        if token != Token::Open {
            return Err(format!("found '{text}' expected: '('"));
        }
        let (token, text) = self.look();
        match token {
            Token::Identifier | Token::Comma => {
                let values = self.identifiers()?;
                if self.take().0 != Token::Close {
                    return Err(format!("found '{text}', expected: ')'"));
                }
                Ok(values)
            }
            Token::Close => {
                self.take();
                Ok(BTreeSet::from([String::new()]))
            }
            _ => Err(format!("found '{text}', expected: ',', ')' or identifier")),
        }
    }

    fn identifiers(&mut self) -> Result<BTreeSet<String>, String> {
        let mut values = BTreeSet::new();
        loop {
            match self.take() {
                (Token::Identifier, text) => {
                    values.insert(text);
                    match self.look() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, text) => return Err(format!("found '{text}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.look().0 {
                        Token::Close => {
                            values.insert(String::new());
                            return Ok(values);
                        }
                        Token::Comma => {
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                (_, text) => return Err(format!("found '{text}', expected: ',', or identifier")),
            }
        }
    }

    fn exact_value(&mut self) -> Result<BTreeSet<String>, String> {
        if matches!(self.look().0, Token::End | Token::Comma) {
            return Ok(BTreeSet::from([String::new()]));
        }
        match self.take() {
            (Token::Identifier, text) => Ok(BTreeSet::from([text])),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let got = match LabelSelector::parse(text) {
            Ok(selector) => selector.to_string(),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn the_grammar_is_upstreams() {
        check("", "");
        check("x=a,y!=b , z in (q,p)", "x=a,y!=b,z in (p,q)");
        check("b,!a,c>5", "!a,b,c>5");
        check("in=notin", "in=notin");
        check("x in (,a)", "x in (,a)");
        check("x=", "x=");
        check("x==b==c", "found '==', expected: ',' or 'end of string'");
        check("x,", "found '', expected: identifier after ','");
        check("x in", "unable to parse requirement: found '' expected: '('");
        check("x a", "unable to parse requirement: found 'a', expected: in, notin, =, ==, !=, gt, lt");
        check("=", "found '=', expected: !, identifier, or 'end of string'");
        check(
            "x>a",
            "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' operators, the value must be an integer",
        );
    }

    #[test]
    fn absence_matches_negations() {
        let labels = crate::json_text::read(r#"{"app":"web","n":"7"}"#).unwrap();
        for (text, expected) in [
            ("app=web", true),
            ("app in (db)", false),
            ("tier notin (x)", true),
            ("tier!=x", true),
            ("!app", false),
            ("n>6,n<8", true),
        ] {
            let selector = LabelSelector::parse(text).unwrap();
            assert_eq!(selector.matches_value(Some(&labels)), expected, "{text}");
        }
        assert!(!LabelSelector::from_value(None).unwrap().matches_value(Some(&labels)));
        let empty = Value::Map(Map::new());
        assert!(LabelSelector::from_value(Some(&empty)).unwrap().matches_value(None));
    }
}
