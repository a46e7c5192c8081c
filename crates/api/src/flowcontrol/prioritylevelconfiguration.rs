//! PriorityLevelConfiguration: shares the server's capacity among request classes.

use crate::checks::{name, one_of};
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::dns_subdomain;
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Time};

use crate::cells::{scalar_or, text};
use crate::served::served;

/// PriorityLevelConfiguration: shares the server's capacity among request classes.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration")]
pub struct PriorityLevelConfiguration {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, required)]
    pub spec: PriorityLevelConfigurationSpec,
    #[api(3, omitempty)]
    pub status: PriorityLevelConfigurationStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationSpec")]
pub struct PriorityLevelConfigurationSpec {
    #[api(1, required)]
    pub type_: String,
    #[api(2, omitempty)]
    pub limited: Option<LimitedPriorityLevelConfiguration>,
    #[api(3, omitempty)]
    pub exempt: Option<ExemptPriorityLevelConfiguration>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.LimitedPriorityLevelConfiguration")]
pub struct LimitedPriorityLevelConfiguration {
    #[api(1)]
    pub nominal_concurrency_shares: Option<i32>,
    #[api(2, omitempty, required)]
    pub limit_response: LimitResponse,
    #[api(3, omitempty)]
    pub lendable_percent: Option<i32>,
    #[api(4, omitempty)]
    pub borrowing_limit_percent: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.ExemptPriorityLevelConfiguration")]
pub struct ExemptPriorityLevelConfiguration {
    #[api(1, omitempty)]
    pub nominal_concurrency_shares: Option<i32>,
    #[api(2, omitempty)]
    pub lendable_percent: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.LimitResponse")]
pub struct LimitResponse {
    #[api(1, required)]
    pub type_: String,
    #[api(2, omitempty)]
    pub queuing: Option<QueuingConfiguration>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.QueuingConfiguration")]
pub struct QueuingConfiguration {
    #[api(1)]
    pub queues: i32,
    #[api(2)]
    pub hand_size: i32,
    #[api(3)]
    pub queue_length_limit: i32,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationStatus")]
pub struct PriorityLevelConfigurationStatus {
    #[api(1, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<PriorityLevelConfigurationCondition>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationCondition")]
pub struct PriorityLevelConfigurationCondition {
    #[api(1, omitempty, required)]
    pub type_: String,
    #[api(2, omitempty)]
    pub status: String,
    #[api(3, omitempty)]
    pub last_transition_time: Time,
    #[api(4, omitempty)]
    pub reason: String,
    #[api(5, omitempty)]
    pub message: String,
}

pub fn kind() -> Kind {
    Kind::cluster::<PriorityLevelConfiguration>("flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations")
        .status()
        .generation(Generation::OnSpec)
        .code_column("Type", "string", |o, _| text(o, &["spec", "type"]))
        .code_column("NominalConcurrencyShares", "string", |o, _| {
            scalar_or(o, &["spec", "limited", "nominalConcurrencyShares"], "<none>")
        })
        .code_column("Queues", "string", |o, _| {
            scalar_or(o, &["spec", "limited", "limitResponse", "queuing", "queues"], "<none>")
        })
        .code_column("HandSize", "string", |o, _| {
            scalar_or(o, &["spec", "limited", "limitResponse", "queuing", "handSize"], "<none>")
        })
        .code_column("QueueLengthLimit", "string", |o, _| {
            scalar_or(o, &["spec", "limited", "limitResponse", "queuing", "queueLengthLimit"], "<none>")
        })
        .age()
        .example(
            r#"{"metadata": {"name": "robots"}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 10,
            "limitResponse": {"type": "Queue", "queuing": {"queues": 16, "handSize": 4,
            "queueLengthLimit": 50}}}}}"#,
        )
}

served!(PriorityLevelConfiguration, "flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations", false);

impl Rules for PriorityLevelConfiguration {
    fn set_defaults(&mut self) {
        if let Some(exempt) = &mut self.spec.exempt {
            exempt.nominal_concurrency_shares.get_or_insert(0);
            exempt.lendable_percent.get_or_insert(0);
        }
        if let Some(limited) = &mut self.spec.limited {
            limited.nominal_concurrency_shares.get_or_insert(30);
            limited.lendable_percent.get_or_insert(0);
            if let Some(queuing) = &mut limited.limit_response.queuing {
                for (field, value) in
                    [(&mut queuing.hand_size, 8), (&mut queuing.queues, 64), (&mut queuing.queue_length_limit, 50)]
                {
                    if *field == 0 {
                        *field = value;
                    }
                }
            }
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        let spec = &self.spec;
        let type_ = path.child("type");
        if (self.metadata.name == "exempt") != (spec.type_ == "Exempt") {
            errors.invalid(&type_, spec.type_.as_str(), "must be 'Exempt' if and only if `name` is 'exempt'");
        }
        one_of(errors, &type_, &spec.type_, &["Exempt", "Limited"]);
        let (limited, exempt) = (path.child("limited"), path.child("exempt"));
        match (spec.type_.as_str(), &spec.limited) {
            (other, Some(_)) if other != "Limited" => errors.forbidden(&limited, ""),
            ("Limited", None) => errors.required(&limited, ""),
            ("Limited", Some(level)) => {
                if let Some(shares) = level.nominal_concurrency_shares.filter(|shares| *shares < 0) {
                    let message = "must be a non-negative integer";
                    errors.invalid(&limited.child("nominalConcurrencyShares"), shares, message);
                }
                if let Some(percent) = level.lendable_percent.filter(|percent| !(0..=100).contains(percent)) {
                    let message = "must be between 0 and 100, inclusive";
                    errors.invalid(&limited.child("lendablePercent"), percent, message);
                }
                if let Some(percent) = level.borrowing_limit_percent.filter(|percent| *percent < 0) {
                    let message = "if specified, must be a non-negative integer";
                    errors.invalid(&limited.child("borrowingLimitPercent"), percent, message);
                }
                limit_response(errors, &limited.child("limitResponse"), &level.limit_response);
            }
            _ => {}
        }
        if spec.type_ == "Limited" && spec.exempt.is_some() {
            errors.forbidden(&exempt, "");
        }
    }
}

fn limit_response(errors: &mut Errors, path: &Path<'_>, response: &LimitResponse) {
    one_of(errors, &path.child("type"), &response.type_, &["Queue", "Reject"]);
    let field = path.child("queuing");
    match (response.type_.as_str(), &response.queuing) {
        (other, Some(_)) if other != "Queue" => errors.forbidden(&field, ""),
        ("Queue", None) => errors.required(&field, ""),
        ("Queue", Some(queuing)) => {
            for (part, value) in [
                ("queueLengthLimit", queuing.queue_length_limit),
                ("queues", queuing.queues),
                ("handSize", queuing.hand_size),
            ] {
                if value <= 0 {
                    errors.invalid(&field.child(part), value, "must be positive");
                }
            }
            if queuing.queues > 10_000_000 {
                errors.invalid(&field.child("queues"), queuing.queues, "must not be greater than 10000000");
            }
            if queuing.hand_size > queuing.queues {
                let message = format!("should not be greater than queues ({})", queuing.queues);
                errors.invalid(&field.child("handSize"), queuing.hand_size, message);
            } else if queuing.hand_size > 0 {
                // A hand of queues is dealt from one hash of 60 bits.
                let decks = (0..queuing.hand_size).map(|dealt| f64::from(queuing.queues - dealt).log2());
                if decks.take(61).sum::<f64>().ceil() > 60.0 {
                    let message = format!(
                        "required entropy bits of deckSize {} and handSize {} should not be greater than 60",
                        queuing.queues, queuing.hand_size
                    );
                    errors.invalid(&field.child("handSize"), queuing.hand_size, message);
                }
            }
        }
        _ => {}
    }
}
