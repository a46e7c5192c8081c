//! Text in quotes as Go's `%q` writes it, which is how messages of the API show what clients sent.

use std::fmt::{self, Write};

/// Displays a text in double quotes; what cannot be printed stands as Go's escapes (`\x01`, `\u00ad`).
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(&'a str);

/// The text in quotes.
pub fn quoted(text: &str) -> Quoted<'_> {
    Quoted(text)
}

/// Whether Go prints a character as it is: letters, marks, numbers, punctuation, symbols and the space.
pub fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    // Rust's table is the same but for marks, which it escapes where nothing stands before them.
    let mut after = ['a'; 2];
    after[1] = c;
    let text: String = after.iter().collect();
    text.escape_debug().eq(text.chars())
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if is_printable(c) => f.write_char(c)?,
                '\u{7}' => f.write_str("\\a")?,
                '\u{8}' => f.write_str("\\b")?,
                '\u{c}' => f.write_str("\\f")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                '\u{b}' => f.write_str("\\v")?,
                c if c < ' ' || c == '\u{7f}' => write!(f, "\\x{:02x}", c as u32)?,
                c if c <= '\u{ffff}' => write!(f, "\\u{:04x}", c as u32)?,
                c => write!(f, "\\U{:08x}", c as u32)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_those_of_go() {
        // (text, what `%q` makes of it)
        let cases = [
            ("plain", r#""plain""#),
            ("a \"b\" \\ 'c'", r#""a \"b\" \\ 'c'""#),
            ("\u{0}\u{1}\u{7}\u{8}\t\n\u{b}\u{c}\r\u{1b}\u{7f}", r#""\x00\x01\a\b\t\n\v\f\r\x1b\x7f""#),
            ("é ü 世界 \u{301}e\u{301} 🦀", "\"é ü 世界 \u{301}e\u{301} 🦀\""),
            ("\u{85}\u{a0}\u{ad}\u{200b}\u{2028}\u{feff}", r#""\u0085\u00a0\u00ad\u200b\u2028\ufeff""#),
            ("\u{e000}\u{10ffff}", r#""\ue000\U0010ffff""#),
        ];
        for (text, wanted) in cases {
            assert_eq!(quoted(text).to_string(), wanted);
        }
    }
}
