//! The parts of dates and spans.

use super::Decl;
use crate::time::{Civil, Timestamp, zone_offset};
use crate::value::{Error, Value};

macro_rules! part {
    ($name:literal, $function:expr, $id:literal) => {
        Decl(
            $name,
            |args| part(args, $function),
            &[
                (concat!("timestamp_to_", $id), "timestamp.() int"),
                (concat!("timestamp_to_", $id, "_with_tz"), "timestamp.(string) int"),
            ],
        )
    };
}

pub(crate) const TABLE: &[Decl] = &[
    part!("getFullYear", |c, _| c.year, "year"),
    part!("getMonth", |c, _| i64::from(c.month) - 1, "month"),
    part!("getDayOfYear", |c, _| i64::from(c.yearday), "day_of_year"),
    part!("getDayOfMonth", |c, _| i64::from(c.day) - 1, "day_of_month"),
    part!("getDate", |c, _| i64::from(c.day), "day_of_month_1_based"),
    part!("getDayOfWeek", |c, _| i64::from(c.weekday), "day_of_week"),
    part!("getHours", |c, _| i64::from(c.hour), "hours"),
    part!("getMinutes", |c, _| i64::from(c.minute), "minutes"),
    part!("getSeconds", |c, _| i64::from(c.second), "seconds"),
    part!("getMilliseconds", |_, t| i64::from(t.nanos / 1_000_000), "milliseconds"),
    Decl("getHours", |args| span(args, 3_600_000_000_000), &[("duration_to_hours", "duration.() int")]),
    Decl("getMinutes", |args| span(args, 60_000_000_000), &[("duration_to_minutes", "duration.() int")]),
    Decl("getSeconds", |args| span(args, 1_000_000_000), &[("duration_to_seconds", "duration.() int")]),
    Decl("getMilliseconds", |args| span(args, 1_000_000), &[("duration_to_milliseconds", "duration.() int")]),
];

fn part<'a>(args: &[Value<'a>], of: fn(&Civil, &Timestamp) -> i64) -> Result<Value<'a>, Error> {
    let (time, offset) = match args {
        [Value::Timestamp(time)] => (time, 0),
        [Value::Timestamp(time), Value::String(zone)] => {
            let offset = zone_offset(zone, time).ok_or_else(|| Error::new(format!("unknown time zone {zone}")))?;
            (time, offset)
        }
        _ => return Err(Error::no_such_overload()),
    };
    Ok(Value::Int(of(&time.civil(offset), time)))
}

fn span<'a>(args: &[Value<'a>], unit: i64) -> Result<Value<'a>, Error> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / unit)),
        _ => Err(Error::no_such_overload()),
    }
}
