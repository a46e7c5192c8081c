//! Tokens to a tree: the whole grammar, with limits on size and depth.

use smol_str::SmolStr;

use crate::ast::{Entry, Expr, Field, Id, Kind, Literal, op};
use crate::lexer::{Spanned, Token, tokens};
use crate::macros;
use crate::source::{Issue, Issues};

/// Longer expressions (in characters) are refused.
pub const MAX_LENGTH: usize = 100_000;
/// How deep nodes may stand under each other.
pub const MAX_DEPTH: u16 = 250;
/// How deep brackets may be nested.
const MAX_NESTING: usize = 120;

/// Words that no identifier may be.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "package",
    "namespace",
    "null",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// What may begin an operand, as messages list it.
const OPERAND: &str =
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// A tree and where each of its nodes stands.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub root: Expr,
    /// By [`Id`], in characters.
    pub offsets: Vec<usize>,
}

/// A message is already in `issues`.
pub(crate) struct Failed;

pub(crate) struct Parser {
    tokens: Vec<Spanned>,
    at: usize,
    nesting: usize,
    offsets: Vec<usize>,
    issues: Vec<Issue>,
}

/// Parses an expression and expands its macros.
pub fn parse(text: &str) -> Result<Parsed, Issues> {
    let length = text.chars().count();
    if length > MAX_LENGTH {
        let message = format!("expression code point size exceeds limit: size: {length}, limit {MAX_LENGTH}");
        return Err(Issues::new("", vec![Issue { offset: 0, message }]));
    }
    let (tokens, issues) = tokens(text);
    let mut parser = Parser { tokens, at: 0, nesting: 0, offsets: Vec::new(), issues };
    let root = parser.whole();
    match root {
        Ok(root) if parser.issues.is_empty() => Ok(Parsed { root, offsets: parser.offsets }),
        _ => Err(Issues::new(text, parser.issues)),
    }
}

impl Parser {
    fn whole(&mut self) -> Result<Expr, Failed> {
        let root = self.expr()?;
        if self.peek().token != Token::End {
            // One token too many, or something else was meant here.
            let last = self.tokens.get(self.at + 1).is_some_and(|t| t.token == Token::End);
            let what = if last { "extraneous" } else { "mismatched" };
            let text = self.peek().text.clone();
            return self.fail_here(format!("Syntax error: {what} input '{text}' expecting <EOF>"));
        }
        Ok(root)
    }

    fn peek(&self) -> &Spanned {
        // The last token is the end, which nothing consumes.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn is(&self, punct: &str) -> bool {
        matches!(&self.peek().token, Token::Punct(p) if *p == punct)
    }

    /// Consumes a punctuation and says where it stood.
    fn accept(&mut self, punct: &str) -> Option<usize> {
        let offset = self.peek().offset;
        self.is(punct).then(|| {
            self.at += 1;
            offset
        })
    }

    fn expect(&mut self, punct: &str) -> Result<usize, Failed> {
        match self.accept(punct) {
            Some(offset) => Ok(offset),
            None => self.unexpected(&format!("'{punct}'")),
        }
    }

    fn unexpected<T>(&mut self, expecting: &str) -> Result<T, Failed> {
        let text = match self.peek().text.as_str() {
            "<EOF>" => "<EOF>".to_string(),
            text => text.to_string(),
        };
        self.fail_here(format!("Syntax error: mismatched input '{text}' expecting {expecting}"))
    }

    fn fail_here<T>(&mut self, message: String) -> Result<T, Failed> {
        let offset = self.peek().offset;
        self.fail(offset, message)
    }

    pub(crate) fn fail<T>(&mut self, offset: usize, message: impl Into<String>) -> Result<T, Failed> {
        self.issues.push(Issue { offset, message: message.into() });
        Err(Failed)
    }

    pub(crate) fn fail_at<T>(&mut self, id: Id, message: impl Into<String>) -> Result<T, Failed> {
        self.fail(self.offset(id), message)
    }

    pub(crate) fn id(&mut self, offset: usize) -> Id {
        self.offsets.push(offset);
        (self.offsets.len() - 1) as Id
    }

    /// How many nodes there are.
    pub(crate) fn count(&self) -> usize {
        self.offsets.len()
    }

    pub(crate) fn offset(&self, id: Id) -> usize {
        self.offsets.get(id as usize).copied().unwrap_or(0)
    }

    /// A node at a place; fails when the tree would be too deep.
    pub(crate) fn node(&mut self, offset: usize, kind: Kind) -> Result<Expr, Failed> {
        let expr = Expr::new(self.id(offset), kind);
        if expr.depth > MAX_DEPTH {
            return self.fail(offset, format!("expression recursion limit exceeded: {MAX_DEPTH}"));
        }
        Ok(expr)
    }

    pub(crate) fn call(&mut self, offset: usize, function: &str, args: Vec<Expr>) -> Result<Expr, Failed> {
        self.node(offset, Kind::Call { target: None, function: function.into(), args })
    }

    fn expr(&mut self) -> Result<Expr, Failed> {
        if self.nesting >= MAX_NESTING {
            return self.fail_here(format!("expression recursion limit exceeded: {MAX_NESTING}"));
        }
        self.nesting += 1;
        let result = self.conditional();
        self.nesting -= 1;
        result
    }

    fn conditional(&mut self) -> Result<Expr, Failed> {
        let condition = self.logic(op::OR, "||")?;
        let Some(offset) = self.accept("?") else { return Ok(condition) };
        let yes = self.logic(op::OR, "||")?;
        self.expect(":")?;
        let no = self.expr()?;
        self.call(offset, op::CONDITIONAL, vec![condition, yes, no])
    }

    /// A chain of `||` or `&&`, made a balanced tree so that long chains are not deep.
    fn logic(&mut self, function: &str, sign: &str) -> Result<Expr, Failed> {
        let inner = |parser: &mut Parser| match function {
            op::OR => parser.logic(op::AND, "&&"),
            _ => parser.binary(0),
        };
        let mut terms = vec![inner(self)?];
        let mut offsets = Vec::new();
        while let Some(offset) = self.accept(sign) {
            offsets.push(offset);
            terms.push(inner(self)?);
        }
        self.balance(function, terms, &offsets)
    }

    fn balance(&mut self, function: &str, mut terms: Vec<Expr>, offsets: &[usize]) -> Result<Expr, Failed> {
        if terms.len() > 1 {
            let middle = terms.len().div_ceil(2);
            let right = terms.split_off(middle);
            let left = self.balance(function, terms, &offsets[..middle - 1])?;
            let right = self.balance(function, right, &offsets[middle..])?;
            return self.call(offsets[middle - 1], function, vec![left, right]);
        }
        match terms.pop() {
            Some(term) => Ok(term),
            None => Err(Failed),
        }
    }

    /// Relations (level 0), sums (1) and products (2), all from left to right.
    fn binary(&mut self, level: u8) -> Result<Expr, Failed> {
        const LEVELS: [&[(&str, &str)]; 3] = [
            &[
                ("==", op::EQUALS),
                ("!=", op::NOT_EQUALS),
                ("<", op::LESS),
                ("<=", op::LESS_EQUALS),
                (">", op::GREATER),
                (">=", op::GREATER_EQUALS),
                ("in", op::IN),
            ],
            &[("+", op::ADD), ("-", op::SUBTRACT)],
            &[("*", op::MULTIPLY), ("/", op::DIVIDE), ("%", op::MODULO)],
        ];
        let Some(operators) = LEVELS.get(level as usize) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some((sign, function)) = operators.iter().find(|(sign, _)| self.is(sign)) {
            let offset = self.expect(sign)?;
            let right = self.binary(level + 1)?;
            left = self.call(offset, function, vec![left, right])?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, Failed> {
        for (sign, function) in [("!", op::NOT), ("-", op::NEGATE)] {
            let Some(offset) = self.accept(sign) else { continue };
            let mut count = 1;
            // `-1` is a number, `--1` is the same twice negated.
            while self.accept(sign).is_some() {
                count += 1;
            }
            if sign == "-" && count == 1 && matches!(self.peek().token, Token::Int(_) | Token::Float(_)) {
                let literal = self.number(true)?;
                let operand = self.node(offset, Kind::Literal(literal))?;
                return self.postfix(operand);
            }
            let operand = self.member()?;
            return if count % 2 == 0 { Ok(operand) } else { self.call(offset, function, vec![operand]) };
        }
        self.member()
    }

    fn member(&mut self) -> Result<Expr, Failed> {
        let operand = self.primary()?;
        self.postfix(operand)
    }

    fn postfix(&mut self, mut operand: Expr) -> Result<Expr, Failed> {
        loop {
            if let Some(offset) = self.accept(".") {
                let optional = self.accept("?").is_some();
                let field = self.field_name()?;
                if optional {
                    let name = self.node(offset, Kind::Literal(Literal::String(field)))?;
                    operand = self.call(offset, op::OPT_SELECT, vec![operand, name])?;
                } else if let Some(open) = self.accept("(") {
                    let args = self.arguments(")")?;
                    operand = self.member_call(open, operand, field, args)?;
                } else {
                    operand = self.node(offset, Kind::Select { operand: Box::new(operand), field, test: false })?;
                }
            } else if let Some(offset) = self.accept("[") {
                let function = if self.accept("?").is_some() { op::OPT_INDEX } else { op::INDEX };
                let index = self.expr()?;
                self.expect("]")?;
                operand = self.call(offset, function, vec![operand, index])?;
            } else if self.is("{")
                && let Some(name) = operand.qualified()
            {
                operand = self.structure(name)?;
            } else {
                return Ok(operand);
            }
        }
    }

    fn member_call(&mut self, offset: usize, target: Expr, name: SmolStr, args: Vec<Expr>) -> Result<Expr, Failed> {
        match macros::member(self, offset, target, &name, args)? {
            macros::Expansion::Done(expr) => Ok(expr),
            macros::Expansion::Call(target, args) => {
                self.node(offset, Kind::Call { target: Some(Box::new(target)), function: name, args })
            }
        }
    }

    fn field_name(&mut self) -> Result<SmolStr, Failed> {
        match self.peek().token.clone() {
            Token::Ident(name) => {
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected("IDENTIFIER"),
        }
    }

    /// Expressions up to a closing bracket, with an optional comma at the end.
    fn arguments(&mut self, close: &str) -> Result<Vec<Expr>, Failed> {
        let mut args = Vec::new();
        if self.accept(close).is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if self.accept(",").is_none() {
                break;
            }
        }
        self.expect(close)?;
        Ok(args)
    }

    fn primary(&mut self) -> Result<Expr, Failed> {
        let Spanned { token, offset, .. } = self.peek().clone();
        match token {
            Token::Ident(name) => {
                self.at += 1;
                self.named(offset, name)
            }
            Token::Int(_) | Token::Uint(_) | Token::Float(_) => {
                let literal = self.number(false)?;
                self.node(offset, Kind::Literal(literal))
            }
            Token::String(text) => self.literal(offset, Literal::String(text)),
            Token::Bytes(bytes) => self.literal(offset, Literal::Bytes(bytes)),
            Token::Punct("true") => self.literal(offset, Literal::Bool(true)),
            Token::Punct("false") => self.literal(offset, Literal::Bool(false)),
            Token::Punct("null") => self.literal(offset, Literal::Null),
            Token::Punct("(") => {
                self.at += 1;
                let inner = self.expr()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Punct("[") => self.list(offset),
            Token::Punct("{") => self.map(offset),
            Token::Punct(".") => {
                self.at += 1;
                let name = self.field_name()?;
                self.named(offset, name)
            }
            Token::Punct(_) | Token::End => self.unexpected(OPERAND),
        }
    }

    fn named(&mut self, offset: usize, name: SmolStr) -> Result<Expr, Failed> {
        if RESERVED.contains(&name.as_str()) {
            return self.fail(offset, format!("Syntax error: reserved identifier: {name}"));
        }
        let Some(open) = self.accept("(") else { return self.node(offset, Kind::Ident(name)) };
        let args = self.arguments(")")?;
        if name == "has" {
            return macros::has(self, open, args);
        }
        self.call(open, &name, args)
    }

    fn literal(&mut self, offset: usize, literal: Literal) -> Result<Expr, Failed> {
        self.at += 1;
        self.node(offset, Kind::Literal(literal))
    }

    fn number(&mut self, negative: bool) -> Result<Literal, Failed> {
        let sign = if negative { "-" } else { "" };
        let literal = match &self.peek().token {
            Token::Int(text) => match text.strip_prefix("0x") {
                Some(digits) => i64::from_str_radix(&format!("{sign}{digits}"), 16).ok().map(Literal::Int),
                None => format!("{sign}{text}").parse().ok().map(Literal::Int),
            }
            .ok_or("invalid int literal"),
            Token::Uint(text) => match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            }
            .map(Literal::Uint)
            .ok_or("invalid uint literal"),
            Token::Float(text) => match format!("{sign}{text}").parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Literal::Double(number)),
                _ => Err("invalid double literal"),
            },
            _ => Err("invalid number"),
        };
        match literal {
            Ok(literal) => {
                self.at += 1;
                Ok(literal)
            }
            Err(why) => self.fail_here(format!("Syntax error: {why}")),
        }
    }

    fn list(&mut self, offset: usize) -> Result<Expr, Failed> {
        self.at += 1;
        let mut items = Vec::new();
        let mut optional = Vec::new();
        while !self.is("]") {
            if self.accept("?").is_some() {
                optional.push(items.len());
            }
            items.push(self.expr()?);
            if self.accept(",").is_none() {
                break;
            }
        }
        self.expect("]")?;
        self.node(offset, Kind::List { items, optional })
    }

    fn map(&mut self, offset: usize) -> Result<Expr, Failed> {
        self.at += 1;
        let mut entries = Vec::new();
        while !self.is("}") {
            let optional = self.accept("?").is_some();
            let key = self.expr()?;
            self.expect(":")?;
            let value = self.expr()?;
            entries.push(Entry { key, value, optional });
            if self.accept(",").is_none() {
                break;
            }
        }
        self.expect("}")?;
        self.node(offset, Kind::Map(entries))
    }

    fn structure(&mut self, name: String) -> Result<Expr, Failed> {
        let offset = self.expect("{")?;
        let mut fields = Vec::new();
        while !self.is("}") {
            let optional = self.accept("?").is_some();
            let name = self.field_name()?;
            let colon = self.expect(":")?;
            let id = self.id(colon);
            let value = self.expr()?;
            fields.push(Field { id, name, value, optional });
            if self.accept(",").is_none() {
                break;
            }
        }
        self.expect("}")?;
        self.node(offset, Kind::Struct { name: name.into(), fields })
    }
}
