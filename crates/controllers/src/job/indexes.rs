//! Sets of indexes as ordered intervals, in the text form of a job's status such as `0,2-5`.

use std::fmt;

/// Closed intervals, ascending, with a gap between any two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(u32, u32)>);

impl Indexes {
    /// Reads the text form, leaving out what is malformed or not below `completions`.
    pub fn parse(text: &str, completions: u32) -> Indexes {
        let mut indexes = Indexes::default();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else { continue };
            if first >= completions {
                break;
            }
            if first <= last {
                indexes.push(first, last.min(completions - 1));
            }
        }
        indexes
    }

    /// Adds an interval that begins no earlier than the last one.
    fn push(&mut self, first: u32, last: u32) {
        match self.0.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
            _ => self.0.push((first, last)),
        }
    }

    /// The union.
    pub fn with(&self, other: &Indexes) -> Indexes {
        let mut all: Vec<(u32, u32)> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        let mut union = Indexes::default();
        all.into_iter().for_each(|(first, last)| union.push(first, last));
        union
    }

    pub fn total(&self) -> i32 {
        self.0.iter().map(|(first, last)| (last - first + 1) as i32).sum()
    }

    pub fn has(&self, index: u32) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&index))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many are in both.
    pub fn shared(&self, other: &Indexes) -> i32 {
        let overlap = |a: &(u32, u32), b: &(u32, u32)| (i64::from(a.1.min(b.1)) - i64::from(a.0.max(b.0)) + 1).max(0);
        self.0.iter().map(|a| other.0.iter().map(|b| overlap(a, b)).sum::<i64>()).sum::<i64>() as i32
    }

    /// The first `count` below `completions` that are not in the set.
    pub fn missing(&self, count: usize, completions: u32) -> Vec<u32> {
        let mut missing = Vec::new();
        let mut next = 0;
        for (first, last) in &self.0 {
            missing.extend((next..(*first).min(completions)).take(count - missing.len()));
            next = last.saturating_add(1);
        }
        missing.extend((next..completions).take(count - missing.len()));
        missing
    }
}

impl FromIterator<u32> for Indexes {
    fn from_iter<I: IntoIterator<Item = u32>>(all: I) -> Indexes {
        let mut all: Vec<u32> = all.into_iter().collect();
        all.sort_unstable();
        let mut indexes = Indexes::default();
        all.into_iter().for_each(|index| indexes.push(index, index));
        indexes
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "," })?;
            match last - first {
                0 => write!(f, "{first}")?,
                1 => write!(f, "{first},{last}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_both_ways() {
        for (text, completions, expected) in [
            ("", 5, ""),
            ("0,2-5", 10, "0,2-5"),
            ("0,1", 10, "0,1"),
            ("0,1,2", 10, "0-2"),
            ("0,2-9", 5, "0,2-4"),
            ("7", 5, ""),
            ("x,3,5-4", 9, "3"),
        ] {
            assert_eq!(Indexes::parse(text, completions).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn sets_are_joined_and_gaps_found() {
        let a = Indexes::parse("0,4-6", 20);
        let b: Indexes = [1, 7, 9].into_iter().collect();
        let union = a.with(&b);
        assert_eq!((union.to_string().as_str(), union.total()), ("0,1,4-7,9", 7));
        assert!(union.has(5) && !union.has(8));
        assert_eq!(union.missing(3, 20), [2, 3, 8]);
        assert_eq!(union.missing(9, 11), [2, 3, 8, 10]);
        assert_eq!(union.missing(2, 3), [2]);
        assert_eq!(union.shared(&Indexes::parse("0-4", 20)), 3);
    }
}
