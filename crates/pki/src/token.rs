//! Join tokens, which let a machine into a cluster and tell it which cluster that is.
//!
//! ```text
//! S10<64 hexadecimal digits: SHA-256 of the server CA's certificate (DER)>::<user>:<secret>
//! ```
//! The hash lets the joining machine check the server before it shows the secret. `user` says what it may become:
//! `node` or `server`. A token without prefix and hash is only the secret; it trusts whoever answers first, so it is
//! accepted from a file made by hand but never printed.

use crate::{Error, Result};
use std::fmt;

/// A parsed join token. Its secret is not shown by `Debug`; `Display` gives the whole text.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the server CA's certificate, unless only a secret was given.
    pub ca_hash: Option<[u8; 32]>,
    /// Whom the secret belongs to: `node` or `server`.
    pub user: String,
    /// The secret.
    pub secret: String,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}, {})", self.user, self.ca_hash.map_or("no hash".into(), |h| crate::hex(&h)))
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ca_hash {
            Some(hash) => write!(f, "S10{}::{}:{}", crate::hex(&hash), self.user, self.secret),
            None => f.write_str(&self.secret),
        }
    }
}

impl JoinToken {
    /// A new token for the cluster of that server CA certificate (DER).
    pub fn generate(ca: &[u8], user: &str) -> Result<Self> {
        let secret = crate::hex(&crate::random::<16>()?);
        Ok(Self { ca_hash: Some(crate::sha256(ca)), user: user.into(), secret })
    }

    /// Parses the text of a token; surrounding blanks are ignored, as files end in a newline.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() > 512 {
            return Err(Error::JoinToken("longer than 512 characters"));
        }
        let Some(rest) = text.strip_prefix("S10") else {
            check_secret(text)?;
            return Ok(Self { ca_hash: None, user: "node".into(), secret: text.into() });
        };
        let (hash, rest) = rest.split_once("::").ok_or(Error::JoinToken("expected S10<hash>::<user>:<secret>"))?;
        let (user, secret) = rest.split_once(':').ok_or(Error::JoinToken("expected S10<hash>::<user>:<secret>"))?;
        if user.is_empty() || !user.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') {
            return Err(Error::JoinToken("the user must be lower-case letters"));
        }
        check_secret(secret)?;
        Ok(Self { ca_hash: Some(parse_hash(hash)?), user: user.into(), secret: secret.into() })
    }

    /// Whether the certificate (DER) is the one the token was made for; a token without hash accepts none.
    pub fn names_ca(&self, ca: &[u8]) -> bool {
        self.ca_hash.is_some_and(|h| crate::constant_time_eq(&h, &crate::sha256(ca)))
    }

    /// Whether a presented user and secret are this token's, in constant time.
    pub fn admits(&self, user: &str, secret: &str) -> bool {
        crate::constant_time_eq(self.secret.as_bytes(), secret.as_bytes())
            & crate::constant_time_eq(self.user.as_bytes(), user.as_bytes())
    }
}

fn check_secret(secret: &str) -> Result<()> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'~');
    if secret.len() < 16 {
        return Err(Error::JoinToken("the secret must have at least 16 characters"));
    }
    if !secret.bytes().all(fine) {
        return Err(Error::JoinToken("the secret may hold letters, digits, dot, dash, underscore and tilde"));
    }
    Ok(())
}

fn parse_hash(text: &str) -> Result<[u8; 32]> {
    let wrong = Error::JoinToken("the hash must have 64 hexadecimal digits");
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong);
    }
    let mut out = [0; 32];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16)
            .map_err(|_| Error::JoinToken("the hash must have 64 hexadecimal digits"))?;
    }
    Ok(out)
}

/// A bootstrap token of the Kubernetes kind, `abcdef.0123456789abcdef`, as id and secret.
pub fn parse_bootstrap(text: &str) -> Option<(&str, &str)> {
    let fine = |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.split_once('.').filter(|(id, secret)| fine(id, 6) && fine(secret, 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_name_their_cluster() {
        let token = JoinToken::generate(b"ca", "node").unwrap();
        let text = token.to_string();
        assert!(text.starts_with("S10") && text.len() == 3 + 64 + 2 + 5 + 32);
        let again = JoinToken::parse(&format!("{text}\n")).unwrap();
        assert_eq!(again, token);
        assert!(again.names_ca(b"ca") && !again.names_ca(b"cb"));
        assert!(again.admits("node", &token.secret));
        assert!(!again.admits("server", &token.secret) && !again.admits("node", "0123456789abcdef"));
        assert!(!format!("{token:?}").contains(&token.secret));
    }

    #[test]
    fn malformed_tokens_are_refused() {
        let hash = "0".repeat(64);
        for text in [
            "",
            "short",
            "S10",
            "S10::node:0123456789abcdef",
            &format!("S10{hash}:node:0123456789abcdef"),
            &format!("S10{hash}::node"),
            &format!("S10{hash}::NODE:0123456789abcdef"),
            &format!("S10{hash}::node:0123456789abc def"),
            &format!("S10{}é::node:0123456789abcdef", "0".repeat(62)),
            &"a".repeat(600),
        ] {
            assert!(JoinToken::parse(text).is_err(), "{text}");
        }
        let plain = JoinToken::parse("0123456789abcdef").unwrap();
        assert!(plain.ca_hash.is_none() && !plain.names_ca(b"ca"));
    }

    #[test]
    fn bootstrap_tokens_have_two_fixed_parts() {
        assert_eq!(parse_bootstrap("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for text in ["abcdef", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcde", "abcde.0123456789abcdef"] {
            assert_eq!(parse_bootstrap(text), None);
        }
    }
}
