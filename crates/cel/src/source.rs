//! Where something stands in an expression, and how errors point at it.

use std::fmt;

/// One complaint about an expression and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Characters (not bytes) before the place.
    pub offset: usize,
    pub message: String,
}

/// Everything that is wrong with an expression; displayed with the line and a caret under each place, in the form that
/// clients of Kubernetes know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issues {
    text: String,
    pub issues: Vec<Issue>,
}

/// More than this is not read by anyone.
const MAX_ISSUES: usize = 100;

impl Issues {
    pub(crate) fn new(text: &str, mut issues: Vec<Issue>) -> Issues {
        issues.sort_by_key(|issue| issue.offset);
        issues.truncate(MAX_ISSUES);
        Issues { text: text.to_string(), issues }
    }
}

/// The line (from 1), the column (from 0) and the text of the line at an offset in characters.
pub(crate) fn locate(text: &str, offset: usize) -> (usize, usize, &str) {
    let mut seen = 0;
    for (number, line) in text.split('\n').enumerate() {
        let length = line.chars().count();
        if offset <= seen + length {
            return (number + 1, offset - seen, line);
        }
        seen += length + 1;
    }
    (1, 0, "")
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, issue) in self.issues.iter().enumerate() {
            let (line, column, snippet) = locate(&self.text, issue.offset);
            let newline = if i > 0 { "\n" } else { "" };
            write!(f, "{newline}ERROR: <input>:{line}:{}: {}", column + 1, issue.message)?;
            write!(f, "\n | {}\n | ", snippet.replace('\t', " "))?;
            for _ in 0..column {
                f.write_str(".")?;
            }
            f.write_str("^")?;
        }
        Ok(())
    }
}

impl std::error::Error for Issues {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_stands_under_the_place() {
        let issues = Issues::new("a +\nbé c", vec![Issue { offset: 7, message: "no".into() }]);
        assert_eq!(issues.to_string(), "ERROR: <input>:2:4: no\n | bé c\n | ...^");
    }
}
