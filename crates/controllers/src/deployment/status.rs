//! What is told about a Deployment: counts, and the conditions Available, Progressing and ReplicaFailure.

use api::apps::{Deployment, DeploymentCondition, DeploymentStatus};
use apimachinery::Time;

use super::plan::Limits;
use super::replicasets::Sets;

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

pub fn condition(kind: &str, status: &str, reason: &str, message: String, now: Time) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.into(),
        status: status.into(),
        last_update_time: now,
        last_transition_time: now,
        reason: reason.into(),
        message,
    }
}

fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().find(|c| c.type_ == kind)
}

/// Puts a condition in place of the one of its type, unless that says the same already.
pub fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    if let Some(current) = find(status, &condition.type_)
        && current.status == condition.status
    {
        if current.reason == condition.reason {
            return;
        }
        condition.last_transition_time = current.last_transition_time;
    }
    remove(status, &condition.type_);
    status.conditions.push(condition);
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    status.conditions.retain(|c| c.type_ != kind);
}

/// The deadline, unless it is so long that it means none.
pub fn deadline(deployment: &Deployment) -> Option<i32> {
    deployment.spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)
}

/// Sets Progressing, if progress is judged at all; says whether anything changed.
pub fn set_progressing(deployment: &mut Deployment, reason: &str, message: String, now: Time) -> bool {
    if deadline(deployment).is_none() {
        return false;
    }
    let before = deployment.status.conditions.clone();
    let status = if reason == "ReplicaSetCreateError" { "False" } else { "True" };
    set(&mut deployment.status, condition(PROGRESSING, status, reason, message, now));
    deployment.status.conditions != before
}

/// Whether Progressing was ever told.
pub fn tells_progress(deployment: &Deployment) -> bool {
    find(&deployment.status, PROGRESSING).is_some()
}

/// Marks a pause or its end, so that the time of the pause does not count; says whether anything changed.
pub fn set_paused(deployment: &mut Deployment, now: Time) -> bool {
    if deadline(deployment).is_none() {
        return false;
    }
    let current = find(&deployment.status, PROGRESSING).map(|c| c.reason.as_str());
    let marked = current == Some("DeploymentPaused");
    if current == Some(TIMED_OUT) || marked == deployment.spec.paused {
        return false;
    }
    let (reason, message) = match deployment.spec.paused {
        true => ("DeploymentPaused", "Deployment is paused"),
        false => ("DeploymentResumed", "Deployment is resumed"),
    };
    set(&mut deployment.status, condition(PROGRESSING, "Unknown", reason, message.into(), now));
    true
}

/// Counts, and whether enough is available.
pub fn count(deployment: &Deployment, sets: &Sets, now: Time) -> DeploymentStatus {
    let limits = Limits::of(deployment);
    let sum = |of: fn(&api::apps::ReplicaSetStatus) -> i32| sets.all().map(|set| of(&set.status)).sum::<i32>();
    let available = sum(|s| s.available_replicas);
    let unseen = |s: &api::apps::ReplicaSetStatus| s.observed_generation == 0 && s.terminating_replicas.is_none();
    let terminating: Option<i32> =
        sets.all().filter(|set| !unseen(&set.status)).map(|set| set.status.terminating_replicas).sum();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: sum(|s| s.replicas),
        updated_replicas: sets.new.as_ref().map_or(0, |set| set.status.replicas),
        ready_replicas: sum(|s| s.ready_replicas),
        available_replicas: available,
        unavailable_replicas: (sets.total() - available).max(0),
        terminating_replicas: terminating,
        collision_count: deployment.status.collision_count,
        conditions: deployment.status.conditions.clone(),
    };
    let (truth, reason, message) = if available >= limits.replicas - limits.unavailable {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status, condition("Available", truth, reason, message.into(), now));
    status
}

/// Whether the rollout is through.
pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    new.updated_replicas > old.updated_replicas
        || new.replicas - new.updated_replicas < old.replicas - old.updated_replicas
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

fn has_timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Time) -> bool {
    let (Some(seconds), Some(current)) = (deadline(deployment), find(status, PROGRESSING)) else { return false };
    match current.reason.as_str() {
        AVAILABLE => false,
        TIMED_OUT => true,
        _ => current.last_update_time.0 + i64::from(seconds) < now.0,
    }
}

/// Sets Progressing and ReplicaFailure in `status`, which is about to replace the one of `deployment`.
pub fn judge_progress(deployment: &Deployment, sets: &Sets, status: &mut DeploymentStatus, now: Time) {
    let current = find(&deployment.status, PROGRESSING).cloned();
    let through = status.replicas == status.updated_replicas && current.as_ref().is_some_and(|c| c.reason == AVAILABLE);
    if deadline(deployment).is_none() {
        remove(status, PROGRESSING);
    } else if !through {
        let subject = match &sets.new {
            Some(set) => format!("ReplicaSet {:?}", set.metadata.name),
            None => format!("Deployment {:?}", deployment.metadata.name),
        };
        if is_complete(deployment, status) {
            let message = format!("{subject} has successfully progressed.");
            set(status, condition(PROGRESSING, "True", AVAILABLE, message, now));
        } else if has_progressed(&deployment.status, status) {
            let message = format!("{subject} is progressing.");
            let mut fresh = condition(PROGRESSING, "True", "ReplicaSetUpdated", message, now);
            // The same reason again still means progress, so the time of the update moves on.
            if let Some(current) = current.filter(|c| c.status == "True") {
                fresh.last_transition_time = current.last_transition_time;
            }
            remove(status, PROGRESSING);
            set(status, fresh);
        } else if has_timed_out(deployment, status, now) {
            let message = format!("{subject} has timed out progressing.");
            set(status, condition(PROGRESSING, "False", TIMED_OUT, message, now));
        }
    }
    let failure = sets.all().flat_map(|set| &set.status.conditions).find(|c| c.type_ == "ReplicaFailure");
    match failure {
        Some(failure) => {
            let mut told = condition(&failure.type_, &failure.status, &failure.reason, failure.message.clone(), now);
            (told.last_update_time, told.last_transition_time) =
                (failure.last_transition_time, failure.last_transition_time);
            set(status, told);
        }
        None => remove(status, "ReplicaFailure"),
    }
}

/// Seconds until the rollout may be stuck; `None` when there is nothing to wait for.
pub fn next_check(deployment: &Deployment, now: Time) -> Option<u64> {
    let (seconds, current) = (deadline(deployment)?, find(&deployment.status, PROGRESSING)?);
    if is_complete(deployment, &deployment.status) || matches!(current.reason.as_str(), TIMED_OUT | AVAILABLE) {
        return None;
    }
    let left = current.last_update_time.0 + i64::from(seconds) - now.0;
    // One more second, since times are told in whole ones.
    Some(left.max(0) as u64 + 1)
}

#[cfg(test)]
mod tests {
    use api::apps::ReplicaSet;

    use super::*;

    fn deployment(replicas: i32) -> Deployment {
        let mut deployment = Deployment::default();
        deployment.metadata.name = "web".into();
        deployment.metadata.generation = 1;
        deployment.spec.replicas = Some(replicas);
        deployment.spec.progress_deadline_seconds = Some(60);
        deployment.spec.strategy.type_ = "RollingUpdate".into();
        deployment
    }

    fn sets(replicas: i32, available: i32) -> Sets {
        let mut set = ReplicaSet::default();
        set.metadata.name = "web-1".into();
        set.spec.replicas = Some(replicas);
        set.status.observed_generation = 1;
        set.status.terminating_replicas = Some(1);
        (set.status.replicas, set.status.ready_replicas) = (replicas, available);
        set.status.available_replicas = available;
        Sets { new: Some(set), old: Vec::new() }
    }

    fn step(deployment: &mut Deployment, sets: &Sets, now: i64) -> (String, String, i64) {
        let mut status = count(deployment, sets, Time(now));
        judge_progress(deployment, sets, &mut status, Time(now));
        deployment.status = status;
        let told = find(&deployment.status, PROGRESSING).cloned().unwrap_or_default();
        (told.status, told.reason, told.last_update_time.0)
    }

    #[test]
    fn progress_is_told_until_it_ends_or_stops() {
        let mut web = deployment(2);
        assert!(set_progressing(&mut web, "NewReplicaSetCreated", String::new(), Time(1)));
        assert_eq!(step(&mut web, &sets(2, 0), 10), ("True".into(), "ReplicaSetUpdated".into(), 10));
        assert_eq!(find(&web.status, "Available").unwrap().reason, "MinimumReplicasUnavailable");
        assert_eq!(next_check(&web, Time(20)), Some(51));
        assert_eq!(step(&mut web, &sets(2, 1), 20), ("True".into(), "ReplicaSetUpdated".into(), 20));
        assert_eq!(step(&mut web, &sets(2, 1), 81), ("False".into(), TIMED_OUT.into(), 81));
        assert_eq!(next_check(&web, Time(90)), None);
        assert_eq!(step(&mut web, &sets(2, 2), 100), ("True".into(), AVAILABLE.into(), 100));
        assert_eq!(
            find(&web.status, PROGRESSING).unwrap().message,
            "ReplicaSet \"web-1\" has successfully progressed."
        );
        assert_eq!(web.status.terminating_replicas, Some(1));
        // Scaling later is no rollout.
        assert_eq!(step(&mut web, &sets(2, 1), 200), ("True".into(), AVAILABLE.into(), 100));
    }

    #[test]
    fn pauses_stop_the_clock() {
        let mut web = deployment(1);
        web.spec.paused = true;
        assert!(set_paused(&mut web, Time(1)) && !set_paused(&mut web, Time(2)));
        web.spec.paused = false;
        assert!(set_paused(&mut web, Time(1000)));
        let told = find(&web.status, PROGRESSING).unwrap();
        assert_eq!((told.reason.as_str(), told.last_update_time), ("DeploymentResumed", Time(1000)));
    }
}
