//! The growing wait between a job's failures.

/// Seconds before the second attempt.
const FIRST: i64 = 10;
/// Seconds at most.
const LONGEST: i64 = 600;

/// A job's failures since its last success. Kept in memory: after a restart of the controller it begins anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub failures: i32,
    pub last_failure: Option<i64>,
}

impl Record {
    /// The record after pods ended at these times.
    pub fn after(self, succeeded: &[i64], failed: &[i64]) -> Record {
        let Some(success) = succeeded.iter().max() else {
            return match failed.iter().max() {
                Some(last) => Record { failures: self.failures + failed.len() as i32, last_failure: Some(*last) },
                None => self,
            };
        };
        let later = failed.iter().filter(|at| *at > success);
        Record { failures: later.clone().count() as i32, last_failure: later.max().copied() }
    }

    /// Seconds until the next attempt.
    pub fn remaining(self, now: i64) -> i64 {
        self.last_failure.map_or(0, |last| remaining(self.failures, last, now))
    }
}

/// Seconds until the next attempt after this many failures, the last at `last`.
pub fn remaining(failures: i32, last: i64, now: i64) -> i64 {
    if failures <= 0 {
        return 0;
    }
    let wait = FIRST.saturating_mul(1 << (failures - 1).min(30)).min(LONGEST);
    (last + wait - now).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_until_a_success() {
        let record = Record::default();
        assert_eq!(record.after(&[], &[]), record);
        let failed = record.after(&[], &[5, 3]);
        assert_eq!(failed, Record { failures: 2, last_failure: Some(5) });
        assert_eq!(failed.remaining(10), 15);
        assert_eq!(failed.after(&[6], &[]), Record::default());
        assert_eq!(failed.after(&[6], &[5, 8]), Record { failures: 1, last_failure: Some(8) });
        assert_eq!(remaining(100, 0, 0), 600);
    }
}
