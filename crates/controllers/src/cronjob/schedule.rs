//! When a schedule fires: civil time in a time zone, turned into instants.

use api::batch::cronjob::Schedule;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A schedule that has not fired for this many days never will: the rarest day is a leap day of a certain weekday.
const LONGEST_GAP_DAYS: usize = 366 * 40;

/// A schedule in its time zone.
pub struct Clock {
    pub schedule: Schedule,
    pub zone: TimeZone,
}

/// When a job is due, and how many times were missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The time that the search began from.
    pub earliest: i64,
    /// The last time not later than now.
    pub last: Option<i64>,
    pub missed: i64,
}

impl Clock {
    /// The first time after `after`, in Unix seconds; none if there is none for decades.
    pub fn next(&self, after: i64) -> Option<i64> {
        let (minutes, hours, days, months, weekdays, any_day) = match self.schedule {
            Schedule::Every(seconds) => return after.checked_add(i64::try_from(seconds).ok()?),
            Schedule::Fields { minutes, hours, days, months, weekdays, any_day } => {
                (minutes, hours, days, months, weekdays, any_day)
            }
        };
        let has = |set: u64, value: i8| set >> value & 1 == 1;
        let start = self.zone.to_datetime(Timestamp::from_second(after).ok()?);
        let mut date: Date = start.date();
        for _ in 0..LONGEST_GAP_DAYS {
            let (in_month, in_week) = (has(days, date.day()), has(weekdays, date.weekday().to_sunday_zero_offset()));
            let fits = if any_day { in_month && in_week } else { in_month || in_week };
            if fits && has(months, date.month()) {
                for hour in (0..24).filter(|hour| has(hours, *hour)) {
                    for minute in (0..60).filter(|minute| has(minutes, *minute)) {
                        let at = self.instant(date.at(hour, minute, 0, 0)).filter(|at| *at > after);
                        if at.is_some() {
                            return at;
                        }
                    }
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// Times that a change of the clock skips do not happen; of those that happen twice the first counts.
    fn instant(&self, civil: DateTime) -> Option<i64> {
        let ambiguous = self.zone.to_ambiguous_timestamp(civil);
        if matches!(ambiguous.offset(), jiff::tz::AmbiguousOffset::Gap { .. }) {
            return None;
        }
        ambiguous.earlier().ok().map(Timestamp::as_second)
    }

    /// The last time between `earliest` and `now`. Far apart times are not walked through one by one.
    pub fn due(&self, earliest: i64, now: i64) -> Due {
        let nothing = Due { earliest, last: None, missed: 0 };
        let Some(first) = self.next(earliest).filter(|first| *first <= now) else { return nothing };
        let second = match self.next(first) {
            Some(second) if second <= now => second,
            _ => return Due { earliest, last: Some(first), missed: 1 },
        };
        // The distance of the first two times says about how many there were.
        let distance = (second - first).max(1);
        let missed = (now - first) / distance + 1;
        let mut last = None;
        let mut at = self.next(first + (missed - 2) * distance);
        while let Some(time) = at.filter(|time| *time <= now) {
            last = Some(time);
            at = self.next(time);
        }
        Due { earliest, last, missed }
    }

    /// Seconds until the next time, given what was due last.
    pub fn wait(&self, due: Due, now: i64) -> Option<i64> {
        let from = due.last.unwrap_or(if due.missed == 0 { due.earliest } else { now });
        self.next(from).map(|next| (next - now).max(0))
    }

    /// RFC 3339 with the offset of the zone.
    pub fn rfc3339(&self, at: i64) -> String {
        self.text(at, "%Y-%m-%dT%H:%M:%S%:z").replace("+00:00", "Z")
    }

    /// As mails write it, in UTC.
    pub fn rfc1123(at: i64) -> String {
        Clock { schedule: Schedule::Every(1), zone: TimeZone::UTC }.text(at, "%a, %d %b %Y %H:%M:%S %z")
    }

    fn text(&self, at: i64, format: &str) -> String {
        let at = Timestamp::UNIX_EPOCH.saturating_add(SignedDuration::from_secs(at)).unwrap_or(Timestamp::UNIX_EPOCH);
        at.to_zoned_datetime(self.zone.clone()).strftime(format).to_string()
    }
}

#[cfg(test)]
mod tests {
    use api::batch::cronjob::parse_schedule;
    use apimachinery::time::{parse_rfc3339, rfc3339};

    use super::*;

    fn clock(schedule: &str, zone: &str) -> Clock {
        Clock { schedule: parse_schedule(schedule).unwrap(), zone: TimeZone::get(zone).unwrap() }
    }

    fn at(text: &str) -> i64 {
        parse_rfc3339(text).unwrap().0
    }

    #[test]
    fn the_next_time_is_found() {
        for (schedule, zone, after, expected) in [
            ("*/15 * * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:15:00Z"),
            ("*/15 * * * *", "UTC", "2026-01-01T00:14:59Z", "2026-01-01T00:15:00Z"),
            ("0 3 * * *", "UTC", "2026-01-01T03:00:00Z", "2026-01-02T03:00:00Z"),
            ("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 13 * 5", "UTC", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 13 * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-13T00:00:00Z"),
            ("@every 90s", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z"),
            ("0 9 * * *", "Asia/Tokyo", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 9 * * *", "America/New_York", "2026-07-01T00:00:00Z", "2026-07-01T13:00:00Z"),
            // The hour that does not exist in spring.
            ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z"),
            // The hour that exists twice in autumn.
            ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
        ] {
            let next = clock(schedule, zone).next(at(after)).unwrap();
            assert_eq!(rfc3339(next), expected, "{schedule} {zone} {after}");
        }
        assert_eq!(clock("0 0 31 2 *", "UTC").next(0), None);
    }

    #[test]
    fn missed_times_are_counted() {
        let hourly = clock("0 * * * *", "UTC");
        let start = at("2026-01-01T00:00:00Z");
        let hour = 3600;
        for (now, last, missed, wait) in [
            (start + 10, None, 0, hour - 10),
            (start + hour, Some(start + hour), 1, hour),
            (start + 3 * hour + 5, Some(start + 3 * hour), 3, hour - 5),
            (start + 500 * hour, Some(start + 500 * hour), 500, hour),
        ] {
            let due = hourly.due(start, now);
            assert_eq!((due.last, due.missed), (last, missed));
            assert_eq!(hourly.wait(due, now), Some(wait));
        }
    }

    #[test]
    fn times_are_written_in_their_zone() {
        let time = at("2026-07-01T13:00:00Z");
        assert_eq!(clock("0 9 * * *", "America/New_York").rfc3339(time), "2026-07-01T09:00:00-04:00");
        assert_eq!(clock("0 9 * * *", "UTC").rfc3339(time), "2026-07-01T13:00:00Z");
        assert_eq!(Clock::rfc1123(time), "Wed, 01 Jul 2026 13:00:00 +0000");
    }
}
