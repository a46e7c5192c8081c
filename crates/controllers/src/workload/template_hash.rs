//! The hash that names a version of a pod template.

use apimachinery::Value;
use apimachinery::codec::json;

/// Digits that cannot spell words, the ones that generated names use.
const DIGITS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a of 32 bits over the canonical bytes and the count of collisions so far, in harmless letters.
pub fn hash(template: &Value, collisions: Option<i32>) -> String {
    let mut sum = 0x811c_9dc5u32;
    let suffix = collisions.map(|n| n.to_le_bytes());
    for byte in json::encode_free(template).iter().chain(suffix.iter().flatten()) {
        sum = (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    sum.to_string().bytes().map(|digit| char::from(DIGITS[usize::from(digit) % DIGITS.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collisions_change_the_hash() {
        let tree = json::parse(br#"{"spec":{"containers":[{"name":"a"}]}}"#).unwrap();
        let other = json::parse(br#"{"spec":{"containers":[{"name":"b"}]}}"#).unwrap();
        assert_eq!(hash(&tree, None), hash(&tree, None));
        assert_ne!(hash(&tree, None), hash(&other, None));
        assert_ne!(hash(&tree, None), hash(&tree, Some(1)));
        assert!(hash(&tree, None).bytes().all(|b| DIGITS.contains(&b)));
    }
}
