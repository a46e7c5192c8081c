//! Text to tokens.

use smol_str::SmolStr;

use crate::source::Issue;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Ident(SmolStr),
    Int(SmolStr),
    Uint(SmolStr),
    Float(SmolStr),
    String(SmolStr),
    Bytes(Vec<u8>),
    /// An operator, a bracket or one of the words `in`, `true`, `false`, `null`.
    Punct(&'static str),
    End,
}

#[derive(Debug, Clone)]
pub(crate) struct Spanned {
    pub token: Token,
    /// In characters.
    pub offset: usize,
    /// As it was written, for messages.
    pub text: SmolStr,
}

/// Longer operators first.
const PUNCTUATION: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}",
];

struct Lexer<'a> {
    rest: &'a str,
    offset: usize,
    tokens: Vec<Spanned>,
    issues: Vec<Issue>,
}

/// Reads all tokens; what is none is reported and skipped.
pub(crate) fn tokens(text: &str) -> (Vec<Spanned>, Vec<Issue>) {
    let mut lexer = Lexer { rest: text, offset: 0, tokens: Vec::new(), issues: Vec::new() };
    while lexer.step() {}
    let end = Spanned { token: Token::End, offset: lexer.offset, text: "<EOF>".into() };
    lexer.tokens.push(end);
    (lexer.tokens, lexer.issues)
}

impl<'a> Lexer<'a> {
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        self.offset += taken.chars().count();
        taken
    }

    fn push(&mut self, token: Token, bytes: usize) {
        let offset = self.offset;
        let text = SmolStr::new(self.take(bytes));
        self.tokens.push(Spanned { token, offset, text });
    }

    fn fail(&mut self, bytes: usize) {
        let offset = self.offset;
        let text = self.take(bytes).to_string();
        self.issues.push(Issue { offset, message: format!("Syntax error: token recognition error at: '{text}'") });
    }

    /// Whether there may be more.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        if first.is_ascii_whitespace() || first == '\u{c}' {
            self.take(1);
            return true;
        }
        if self.rest.starts_with("//") {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.take(end);
            return true;
        }
        if let Some(length) = self.prefix_of_text() {
            self.quoted(length);
        } else if first.is_ascii_digit() || (first == '.' && self.rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
            self.number();
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
            let token = match &self.rest[..end] {
                "in" => Token::Punct("in"),
                "true" => Token::Punct("true"),
                "false" => Token::Punct("false"),
                "null" => Token::Punct("null"),
                name => Token::Ident(name.into()),
            };
            self.push(token, end);
        } else if let Some(op) = PUNCTUATION.iter().find(|p| self.rest.starts_with(**p)) {
            self.push(Token::Punct(op), op.len());
        } else {
            self.fail(first.len_utf8());
        }
        true
    }

    /// How many letters (`r`, `b`) stand before a quote here, if a quoted text starts here.
    fn prefix_of_text(&self) -> Option<usize> {
        let bytes = self.rest.as_bytes();
        let length = bytes.iter().take_while(|b| matches!(b, b'r' | b'R' | b'b' | b'B')).count();
        let quote = bytes.get(length).is_some_and(|b| matches!(b, b'"' | b'\''));
        let letters = bytes[..length].to_ascii_lowercase();
        (quote && matches!(letters.as_slice(), b"" | b"r" | b"b" | b"rb" | b"br")).then_some(length)
    }

    fn quoted(&mut self, prefix: usize) {
        let letters = self.rest[..prefix].to_ascii_lowercase();
        let (raw, bytes) = (letters.contains('r'), letters.contains('b'));
        let body = &self.rest[prefix..];
        let quote = if body.starts_with("\"\"\"") {
            "\"\"\""
        } else if body.starts_with("'''") {
            "'''"
        } else {
            &body[..1]
        };
        let inner = &body[quote.len()..];
        let Some(end) = end_of_text(inner, quote, raw) else {
            // Upstream shows what follows until the end of the line.
            let line = self.rest.find('\n').unwrap_or(self.rest.len());
            self.fail(line.max(1));
            return;
        };
        let content = &inner[..end];
        let length = prefix + quote.len() * 2 + end;
        match unescape(content, raw, bytes) {
            Ok(token) => self.push(token, length),
            Err(why) => {
                self.issues.push(Issue { offset: self.offset, message: format!("Syntax error: {why}") });
                self.push(Token::String("".into()), length);
            }
        }
    }

    fn number(&mut self) {
        let bytes = self.rest.as_bytes();
        if self.rest.starts_with("0x") && bytes.get(2).is_some_and(u8::is_ascii_hexdigit) {
            let end = 2 + bytes[2..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
            return self.integer(end);
        }
        let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut end = digits(0);
        let mut float = false;
        if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
            end += 1 + digits(end + 1);
            float = true;
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = if end + 1 + sign <= bytes.len() { digits(end + 1 + sign) } else { 0 };
            if exponent > 0 {
                end += 1 + sign + exponent;
                float = true;
            }
        }
        if float {
            let token = Token::Float(self.rest[..end].into());
            return self.push(token, end);
        }
        self.integer(end);
    }

    fn integer(&mut self, end: usize) {
        let text = SmolStr::new(&self.rest[..end]);
        match self.rest.as_bytes().get(end) {
            Some(b'u' | b'U') => self.push(Token::Uint(text), end + 1),
            _ => self.push(Token::Int(text), end),
        }
    }
}

/// Where a quoted text ends, in bytes; `None` when it does not.
fn end_of_text(inner: &str, quote: &str, raw: bool) -> Option<usize> {
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        if inner[at..].starts_with(quote) {
            return Some(at);
        }
        if c == '\\' && !raw {
            chars.next();
        }
        if (c == '\n' || c == '\r') && quote.len() == 1 {
            return None;
        }
    }
    None
}

/// Resolves escapes; in bytes, octal and hexadecimal escapes are bytes, else they are characters.
fn unescape(content: &str, raw: bool, bytes: bool) -> Result<Token, &'static str> {
    if raw || !content.contains('\\') {
        return Ok(match bytes {
            true => Token::Bytes(content.as_bytes().to_vec()),
            false => Token::String(content.into()),
        });
    }
    let mut out: Vec<u8> = Vec::with_capacity(content.len());
    let mut chars = content.chars();
    let put = |out: &mut Vec<u8>, c: char| out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    while let Some(c) = chars.next() {
        if c != '\\' {
            put(&mut out, c);
            continue;
        }
        let escape = chars.next().ok_or("unable to unescape string, found '\\' as last character")?;
        let digits = match escape {
            'a' => put_and(&mut out, 0x07),
            'b' => put_and(&mut out, 0x08),
            'f' => put_and(&mut out, 0x0c),
            'n' => put_and(&mut out, b'\n'),
            'r' => put_and(&mut out, b'\r'),
            't' => put_and(&mut out, b'\t'),
            'v' => put_and(&mut out, 0x0b),
            '\\' | '\'' | '"' | '`' | '?' => put_and(&mut out, escape as u8),
            'x' | 'X' => Some((2, 16, 0)),
            'u' if !bytes => Some((4, 16, 0)),
            'U' if !bytes => Some((8, 16, 0)),
            '0'..='3' => Some((2, 8, escape as u32 - '0' as u32)),
            _ => return Err("unable to unescape string"),
        };
        let Some((count, radix, start)) = digits else { continue };
        let mut value = start;
        for _ in 0..count {
            let digit = chars.next().and_then(|c| c.to_digit(radix)).ok_or("unable to unescape string")?;
            value = value * radix + digit;
        }
        if bytes {
            out.push(value as u8);
        } else {
            put(&mut out, char::from_u32(value).ok_or("invalid unicode code point")?);
        }
    }
    if bytes {
        return Ok(Token::Bytes(out));
    }
    let text = String::from_utf8(out).map_err(|_| "invalid unicode code point")?;
    Ok(Token::String(text.into()))
}

fn put_and(out: &mut Vec<u8>, byte: u8) -> Option<(usize, u32, u32)> {
    out.push(byte);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Token> {
        let (tokens, issues) = tokens(text);
        assert!(issues.is_empty(), "{text}: {issues:?}");
        tokens.into_iter().map(|t| t.token).filter(|t| *t != Token::End).collect()
    }

    #[test]
    fn literals_are_read() {
        for (text, token) in [
            ("12", Token::Int("12".into())),
            ("0xfF", Token::Int("0xfF".into())),
            ("12u", Token::Uint("12".into())),
            ("1.5e-3", Token::Float("1.5e-3".into())),
            (".5", Token::Float(".5".into())),
            (r#"'a\n\x41\u00e9\101'"#, Token::String("a\nAéA".into())),
            (r#"r'a\n'"#, Token::String(r"a\n".into())),
            ("'''a\n'b'''", Token::String("a\n'b".into())),
            (r"b'\xff\000é'", Token::Bytes(vec![255, 0, 0xc3, 0xa9])),
        ] {
            assert_eq!(read(text), [token], "{text}");
        }
        assert_eq!(read("1.size // no").len(), 3);
    }

    #[test]
    fn what_is_no_token_is_reported() {
        for text in ["a = b", "'abc", "a $ b", r"'\q'", "a & b", "'a\nb'"] {
            assert!(!tokens(text).1.is_empty(), "{text}");
        }
    }
}
