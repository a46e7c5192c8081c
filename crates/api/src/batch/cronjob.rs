//! CronJob: creates jobs on a schedule.

use crate::batch::job::job_spec_defaults;
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules, Time, Value};

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
}

fn last_schedule_cell(object: &Value, now: i64) -> Value {
    match str_of(object, &["status", "lastScheduleTime"]) {
        "" => "<none>".into(),
        time => since(time, now).into(),
    }
}
