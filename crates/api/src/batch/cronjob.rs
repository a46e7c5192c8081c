//! CronJob: creates jobs on a schedule.

use crate::batch::job::job_spec;
use crate::batch::job::job_spec_defaults;
use crate::checks::{name, one_of};
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{dns_subdomain, nonnegative};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Time, Value};

use crate::batch::job::JobTemplateSpec;
use crate::cells::{count, joined, scalar_or, selector, since, str_of, text, text_or};
use crate::core::references::ObjectReference;
use crate::served::served;

/// CronJob: creates jobs on a schedule.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.batch.v1.CronJob")]
pub struct CronJob {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, required)]
    pub spec: CronJobSpec,
    #[api(3, omitempty)]
    pub status: CronJobStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.batch.v1.CronJobSpec")]
pub struct CronJobSpec {
    #[api(1, required)]
    pub schedule: String,
    #[api(8, omitempty)]
    pub time_zone: Option<String>,
    #[api(2, omitempty)]
    pub starting_deadline_seconds: Option<i64>,
    #[api(3, omitempty, enumeration("Allow", "Forbid", "Replace"))]
    pub concurrency_policy: String,
    #[api(4, omitempty)]
    pub suspend: Option<bool>,
    #[api(5, required)]
    pub job_template: JobTemplateSpec,
    #[api(6, omitempty)]
    pub successful_jobs_history_limit: Option<i32>,
    #[api(7, omitempty)]
    pub failed_jobs_history_limit: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.batch.v1.CronJobStatus")]
pub struct CronJobStatus {
    #[api(1, omitempty, list = "atomic")]
    pub active: Vec<ObjectReference>,
    #[api(4, omitempty)]
    pub last_schedule_time: Option<Time>,
    #[api(5, omitempty)]
    pub last_successful_time: Option<Time>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<CronJob>("batch", "v1", "cronjobs")
        .short(&["cj"])
        .category(&["all"])
        .status()
        .generation(Generation::OnSpec)
        .code_column("Schedule", "string", |o, _| text(o, &["spec", "schedule"]))
        .code_column("Timezone", "string", |o, _| text_or(o, &["spec", "timeZone"], "<none>"))
        .code_column("Suspend", "boolean", |o, _| scalar_or(o, &["spec", "suspend"], "<unset>"))
        .code_column("Active", "integer", |o, _| Value::Int(count(o, &["status", "active"])))
        .code_column("Last Schedule", "string", last_schedule_cell)
        .age()
        .wide_code_column("Containers", "string", |o, _| {
            joined(o, &["spec", "jobTemplate", "spec", "template", "spec", "containers"], "name")
        })
        .wide_code_column("Images", "string", |o, _| {
            joined(o, &["spec", "jobTemplate", "spec", "template", "spec", "containers"], "image")
        })
        .wide_code_column("Selector", "string", |o, _| selector(o, &["spec", "jobTemplate", "spec", "selector"]))
        .example(
            r#"{"metadata": {"name": "nightly"}, "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": {"metadata": {"labels": {"app": "once"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "once", "image": "registry.example/once:1",
            "command": ["true"]}]}}}}}}"#,
        )
}

served!(CronJob, "batch", "v1", "cronjobs", true);

impl Rules for CronJob {
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        job_spec_defaults(&mut spec.job_template.spec);
        if spec.concurrency_policy.is_empty() {
            spec.concurrency_policy = "Allow".into();
        }
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        let spec = &self.spec;
        let schedule = path.child("schedule");
        if spec.schedule.is_empty() {
            errors.required(&schedule, "");
        } else {
            if let Err(fault) = parse_schedule(&spec.schedule) {
                errors.invalid(&schedule, spec.schedule.as_str(), fault);
            }
            if spec.schedule.contains("TZ") {
                let message = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
                errors.invalid(&schedule, spec.schedule.as_str(), message);
            }
        }
        nonnegative(errors, &path.child("startingDeadlineSeconds"), spec.starting_deadline_seconds.unwrap_or(0));
        if let Some(zone) = &spec.time_zone {
            let field = path.child("timeZone");
            let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+');
            if zone.is_empty() {
                errors.invalid(&field, "", "timeZone must be nil or non-empty string");
            } else if zone.eq_ignore_ascii_case("local") {
                let message = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
                errors.invalid(&field, zone.as_str(), message);
            } else if zone.len() > 100 || !zone.bytes().all(known) || jiff::tz::TimeZone::get(zone).is_err() {
                errors.invalid(&field, zone.as_str(), format!("unknown time zone {zone}"));
            }
        }
        let policies = ["Allow", "Forbid", "Replace"];
        one_of(errors, &path.child("concurrencyPolicy"), &spec.concurrency_policy, &policies);
        let template = path.child("jobTemplate");
        let job = template.child("spec");
        let job_template = &spec.job_template.spec;
        if job_template.manual_selector == Some(true) {
            errors.not_supported(&job.child("manualSelector"), true, &["nil", "false"]);
        }
        if let Some(selector) = &job_template.selector {
            let message = "`selector` will be auto-generated";
            errors.invalid(&job.child("selector"), apimachinery::Api::to_value(selector), message);
        }
        job_spec(errors, &job, job_template);
        for (field, limit) in [
            ("successfulJobsHistoryLimit", spec.successful_jobs_history_limit),
            ("failedJobsHistoryLimit", spec.failed_jobs_history_limit),
        ] {
            nonnegative(errors, &path.child(field), i64::from(limit.unwrap_or(0)));
        }
    }

    fn validate_create(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        // Eleven characters are left for the time in the names of its jobs.
        if self.metadata.name.len() > 52 {
            let metadata = Path::new("metadata");
            let message = "must be no more than 52 characters";
            errors.invalid(&metadata.child("name"), self.metadata.name.as_str(), message);
        }
    }
}

/// The minutes, hours, days of the month, months and days of the week of a schedule, each as a set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Bit sets, and whether either sort of day was a star: then both must match, else one of them.
    Fields { minutes: u64, hours: u64, days: u64, months: u64, weekdays: u64, any_day: bool },
    /// A fixed time between runs, in seconds.
    Every(u64),
}

/// Reads a schedule of five fields, or a word such as `@daily` or `@every 1h30m`.
pub fn parse_schedule(text: &str) -> Result<Schedule, String> {
    let text = text.trim();
    let text = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => text,
    };
    if let Some(period) = text.strip_prefix("@every ") {
        let duration = apimachinery::Duration::parse(period.trim());
        let duration = duration.ok_or_else(|| format!("failed to parse duration {text}"))?;
        return Ok(Schedule::Every(duration.as_std().as_secs().max(1)));
    }
    if text.starts_with('@') {
        return Err(format!("unrecognized descriptor: {text}"));
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = fields[..] else {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    };
    let any_day = matches!(days, "*" | "?") || matches!(weekdays, "*" | "?");
    let weekday_bits = field(weekdays, 0, 7, &WEEKDAYS)?;
    Ok(Schedule::Fields {
        minutes: field(minutes, 0, 59, &[])?,
        hours: field(hours, 0, 23, &[])?,
        days: field(days, 1, 31, &[])?,
        months: field(months, 1, 12, &MONTHS)?,
        // Sunday is 0 and 7.
        weekdays: (weekday_bits | (weekday_bits >> 7)) & 0x7f,
        any_day,
    })
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// One field of a schedule: a list of stars, numbers and ranges, each with an optional step.
fn field(text: &str, low: u32, high: u32, names: &[&str]) -> Result<u64, String> {
    let number = |part: &str| -> Result<u32, String> {
        let part = part.to_ascii_lowercase();
        if let Some(i) = names.iter().position(|name| *name == part) {
            return Ok(i as u32 + low);
        }
        part.parse()
            .map_err(|_| format!("failed to parse int from {part}: strconv.Atoi: parsing {part:?}: invalid syntax"))
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step)?)),
            None => (part, None),
        };
        if step == Some(0) {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        let (first, last) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (low, high),
            Some((first, last)) => (number(first)?, number(last)?),
            // A number with a step runs to the end.
            None if step.is_some() => (number(range)?, high),
            None => (number(range)?, number(range)?),
        };
        if first < low {
            return Err(format!("beginning of range ({first}) below minimum ({low}): {part}"));
        }
        if last > high {
            return Err(format!("end of range ({last}) above maximum ({high}): {part}"));
        }
        if first > last {
            return Err(format!("beginning of range ({first}) beyond end of range ({last}): {part}"));
        }
        bits |= (first..=last).step_by(step.unwrap_or(1) as usize).fold(0, |bits, i| bits | 1u64 << i);
    }
    Ok(bits)
}

fn last_schedule_cell(object: &Value, now: i64) -> Value {
    match str_of(object, &["status", "lastScheduleTime"]) {
        "" => "<none>".into(),
        time => since(time, now).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::refuses;

    #[test]
    fn schedules_are_five_fields_or_words() {
        let Ok(Schedule::Fields { minutes, hours, weekdays, any_day, .. }) = parse_schedule("*/30 9-11 * * mon-fri,7")
        else {
            panic!("a good schedule")
        };
        assert_eq!((minutes, hours, weekdays, any_day), (1 | 1 << 30, 0b111 << 9, 0b0111111, true));
        assert_eq!(parse_schedule("@every 90s"), Ok(Schedule::Every(90)));
        for bad in ["* * * *", "60 * * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "@often", "a * * * *"] {
            assert!(parse_schedule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bad_schedules_are_refused() {
        refuses(
            &kind(),
            &[("spec.schedule", "\"0 3 * *\"")],
            &["spec.schedule: Invalid value: \"0 3 * *\": expected exactly 5 fields, found 4: [0 3 * *]"],
        );
        refuses(
            &kind(),
            &[("spec.timeZone", "\"bad-time-zone\"")],
            &["spec.timeZone: Invalid value: \"bad-time-zone\": unknown time zone bad-time-zone"],
        );
    }
}
