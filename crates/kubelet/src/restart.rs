//! Whether and when a container starts again.

use api::core::pod::Pod;
use api::core::pod::container::{Container, ContainerRestartRule};

use crate::observed::{Seen, State};

/// First and longest delay between restarts of a container that ends again and again.
const FIRST: i64 = 10;
const LONGEST: i64 = 300;
const SECOND: i64 = 1_000_000_000;

/// The growing delay of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    /// Seconds; 0 before the first restart.
    delay: i64,
    /// When it last grew, nanoseconds since 1970.
    grown: i64,
}

impl Backoff {
    /// How long a container that ended at `finished` still waits, in nanoseconds; 0 or less when it may start.
    pub fn wait(&self, finished: i64, now: i64) -> i64 {
        if self.expired(now) { 0 } else { finished + self.delay * SECOND - now }
    }

    /// The delay that holds now, in seconds.
    pub fn delay(&self) -> i64 {
        self.delay
    }

    /// To be called when the container starts again.
    pub fn grow(&mut self, now: i64) {
        self.delay = if self.expired(now) || self.delay == 0 { FIRST } else { (self.delay * 2).min(LONGEST) };
        self.grown = now;
    }

    /// A container that ran well for long starts over.
    fn expired(&self, now: i64) -> bool {
        now - self.grown > 2 * LONGEST * SECOND
    }
}

/// Whether an init container runs beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn applies(rule: &ContainerRestartRule, code: i32) -> bool {
    let Some(codes) = &rule.exit_codes else { return false };
    match codes.operator.as_str() {
        "In" => codes.values.contains(&code),
        "NotIn" => !codes.values.contains(&code),
        _ => false,
    }
}

/// Whether a container that ended with a code starts again (KEP-5307: its own rules and policy go before the pod's).
pub fn after_exit(pod: &Pod, container: &Container, code: i32) -> bool {
    if container.restart_policy_rules.iter().any(|rule| applies(rule, code)) {
        return true;
    }
    match container.restart_policy.as_deref().unwrap_or(&pod.spec.restart_policy) {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

/// Whether a container is to be started, given its newest run.
pub fn wanted(pod: &Pod, container: &Container, latest: Option<&Seen>) -> bool {
    match latest {
        None => true,
        Some(seen) => match seen.state {
            State::Running => false,
            State::Created | State::Unknown => true,
            State::Exited => after_exit(pod, container, seen.exit_code),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::core::pod::container::ContainerRestartRuleOnExitCodes;

    #[test]
    fn delays_double_up_to_five_minutes() {
        let mut backoff = Backoff::default();
        let mut now = 1_000_000 * SECOND;
        assert!(backoff.wait(now, now) <= 0);
        let mut delays = Vec::new();
        for _ in 0..7 {
            backoff.grow(now);
            delays.push(backoff.wait(now, now) / SECOND);
            now += 1;
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
        now += 601 * SECOND;
        assert_eq!(backoff.wait(now, now), 0);
        backoff.grow(now);
        assert_eq!(backoff.delay(), 10);
    }

    #[test]
    fn policies_and_rules() {
        let mut pod = Pod::default();
        let mut container = Container::default();
        let mut case = |policy: &str, own: Option<&str>, code| {
            pod.spec.restart_policy = policy.into();
            container.restart_policy = own.map(String::from);
            after_exit(&pod, &container, code)
        };
        assert!(case("Always", None, 0));
        assert!(!case("OnFailure", None, 0) && case("OnFailure", None, 1));
        assert!(!case("Never", None, 1) && case("Never", Some("Always"), 0) && !case("Always", Some("Never"), 1));
        container.restart_policy = Some("Never".into());
        container.restart_policy_rules = vec![ContainerRestartRule {
            action: "Restart".into(),
            exit_codes: Some(ContainerRestartRuleOnExitCodes { operator: "In".into(), values: vec![42] }),
        }];
        assert!(after_exit(&pod, &container, 42) && !after_exit(&pod, &container, 1));
    }
}
