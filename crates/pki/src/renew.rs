//! When a certificate is renewed: a pure decision on its validity.

use crate::cert::CertInfo;
use std::time::{Duration, SystemTime};

/// What to do about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Keep it; look again after this time.
    Keep(Duration),
    /// It still holds, but two thirds of its life are over: renew now.
    Due,
    /// It does not hold any more, or not yet: renew before anything else.
    Expired,
}

/// Decides for a certificate at `now`.
pub fn decide(cert: &CertInfo, now: SystemTime) -> Renewal {
    let (start, end, now) = (cert.not_before, cert.not_after, crate::unix(now) as i64);
    if now >= end || now < start {
        return Renewal::Expired;
    }
    let due = start + (end - start) / 3 * 2;
    if now >= due { Renewal::Due } else { Renewal::Keep(Duration::from_secs((due - now) as u64)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renews_at_two_thirds_of_life() {
        let cert = CertInfo { not_before: 1000, not_after: 4000, ..Default::default() };
        let at = |s| decide(&cert, SystemTime::UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(at(999), Renewal::Expired);
        assert_eq!(at(1000), Renewal::Keep(Duration::from_secs(2000)));
        assert_eq!(at(2999), Renewal::Keep(Duration::from_secs(1)));
        assert_eq!(at(3000), Renewal::Due);
        assert_eq!(at(3999), Renewal::Due);
        assert_eq!(at(4000), Renewal::Expired);
    }
}
