//! How many replicas each ReplicaSet of a Deployment gets.

use api::apps::{Deployment, ReplicaSet};
use apimachinery::IntOrString;

/// The numbers that bound a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub replicas: i32,
    /// Pods above `replicas` at most.
    pub surge: i32,
    /// Pods below `replicas` that may be missing.
    pub unavailable: i32,
    /// Whether pods are replaced step by step.
    pub rolling: bool,
}

impl Limits {
    pub fn of(deployment: &Deployment) -> Limits {
        let spec = &deployment.spec;
        let replicas = spec.replicas.unwrap_or(1);
        if spec.strategy.type_ == "Recreate" {
            return Limits { replicas, surge: 0, unavailable: 0, rolling: false };
        }
        let rolling = spec.strategy.rolling_update.as_ref();
        let scaled = |value: Option<&IntOrString>, up| value.and_then(|v| v.scaled(replicas, up)).unwrap_or(0);
        let surge = scaled(rolling.and_then(|r| r.max_surge.as_ref()), true);
        let mut unavailable = scaled(rolling.and_then(|r| r.max_unavailable.as_ref()), false);
        // Percentages of few replicas may both come to nothing, and then nothing could ever move.
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Limits { replicas, surge, unavailable: unavailable.min(replicas), rolling: true }
    }

    fn least_available(&self) -> i32 {
        self.replicas - self.unavailable
    }
}

/// A ReplicaSet as the plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub wanted: i32,
    pub available: i32,
}

impl Size {
    pub fn of(set: &ReplicaSet) -> Size {
        Size { wanted: set.spec.replicas.unwrap_or(1), available: set.status.available_replicas }
    }
}

/// The size of the new ReplicaSet, given the sum of all sizes.
pub fn grow_new(limits: &Limits, new: Size, total: i32) -> i32 {
    if new.wanted >= limits.replicas || !limits.rolling {
        return limits.replicas;
    }
    let room = (limits.replicas + limits.surge - total).max(0);
    new.wanted + room.min(limits.replicas - new.wanted)
}

/// The sizes of the old ReplicaSets, which are given oldest first: first what is not available goes, then as many
/// available pods as can be missed.
pub fn shrink_old(limits: &Limits, new: Size, old: &[Size]) -> Vec<i32> {
    let mut sizes: Vec<i32> = old.iter().map(|set| set.wanted).collect();
    let total: i32 = sizes.iter().sum::<i32>() + new.wanted;
    // Pods of the new set that are not available yet must not let more old ones go.
    let mut spare = total - limits.least_available() - (new.wanted - new.available);
    if spare <= 0 {
        return sizes;
    }
    for (size, set) in sizes.iter_mut().zip(old) {
        let down = spare.min(*size - set.available).max(0);
        *size -= down;
        spare -= down;
    }
    let available = old.iter().map(|set| set.available).sum::<i32>() + new.available;
    let mut spare = (available - limits.least_available()).max(0);
    for size in &mut sizes {
        let down = spare.min(*size);
        *size -= down;
        spare -= down;
    }
    sizes
}

/// A ReplicaSet when the Deployment is scaled amid a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub wanted: i32,
    /// What all sets together could be at most when this one was last sized.
    pub most_before: Option<i32>,
}

/// Shares a new size out in proportion. `sets` are ordered by [`share_order`]; the first takes what rounding leaves.
pub fn share_out(limits: &Limits, replicas_told: i32, sets: &[Share]) -> Vec<i32> {
    let allowed = if limits.replicas > 0 { limits.replicas + limits.surge } else { 0 };
    let to_add = allowed - sets.iter().map(|s| s.wanted).sum::<i32>();
    let mut added = 0;
    let mut sizes = Vec::with_capacity(sets.len());
    for set in sets {
        let mut part = 0;
        if to_add != 0 && set.wanted != 0 && to_add != added {
            let fraction = fraction(limits, replicas_told, set);
            let left = to_add - added;
            part = if to_add > 0 { fraction.min(left) } else { fraction.max(left) };
        }
        added += part;
        sizes.push(set.wanted + part);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    sizes
}

/// By how much one set changes to keep its part of the whole.
fn fraction(limits: &Limits, replicas_told: i32, set: &Share) -> i32 {
    if limits.replicas == 0 {
        return -set.wanted;
    }
    let before = set.most_before.filter(|most| *most != 0).unwrap_or(replicas_told);
    if before == 0 {
        return 0;
    }
    let size = f64::from(set.wanted) * f64::from(limits.replicas + limits.surge) / f64::from(before);
    size.round() as i32 - set.wanted
}

#[cfg(test)]
mod tests {
    use api::apps::{DeploymentStrategy, RollingUpdateDeployment};

    use super::*;

    fn limits(replicas: i32, surge: i32, unavailable: i32) -> Limits {
        Limits { replicas, surge, unavailable, rolling: true }
    }

    fn size(wanted: i32, available: i32) -> Size {
        Size { wanted, available }
    }

    #[test]
    fn percentages_never_come_to_a_standstill() {
        let of = |replicas, surge: &str, unavailable: &str| {
            let mut deployment = Deployment::default();
            deployment.spec.replicas = Some(replicas);
            deployment.spec.strategy = DeploymentStrategy {
                type_: "RollingUpdate".into(),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::String(surge.into())),
                    max_unavailable: Some(IntOrString::String(unavailable.into())),
                }),
            };
            Limits::of(&deployment)
        };
        assert_eq!(of(10, "25%", "25%"), limits(10, 3, 2));
        assert_eq!(of(3, "0%", "10%"), limits(3, 0, 1));
        assert_eq!(of(0, "25%", "25%"), limits(0, 0, 0));
    }

    #[test]
    fn the_new_set_grows_into_the_room() {
        for (new, total, expected) in [(0, 10, 3), (3, 13, 3), (3, 11, 5), (9, 9, 10), (12, 12, 10)] {
            assert_eq!(grow_new(&limits(10, 3, 2), size(new, 0), total), expected, "{new} of {total}");
        }
    }

    #[test]
    fn old_sets_shrink_as_far_as_can_be_missed() {
        // Limits 10, 3, 2: eight must be available. Columns: new, old before, old after.
        let table: [(Size, &[Size], &[i32]); 7] = [
            (size(3, 0), &[size(10, 10)], &[8]),
            (size(5, 0), &[size(8, 8)], &[8]),
            (size(5, 5), &[size(8, 8)], &[3]),
            // What is broken goes first, wherever it is.
            (size(3, 0), &[size(5, 5), size(5, 3)], &[5, 3]),
            (size(3, 3), &[size(5, 5), size(5, 3)], &[2, 3]),
            (size(10, 10), &[size(0, 0), size(2, 2)], &[0, 0]),
            (size(10, 10), &[], &[]),
        ];
        for (i, (new, old, expected)) in table.into_iter().enumerate() {
            assert_eq!(shrink_old(&limits(10, 3, 2), new, old), expected, "row {i}");
        }
    }

    #[test]
    fn scaling_amid_a_rollout_keeps_proportions() {
        let share = |wanted| Share { wanted, most_before: Some(13) };
        // From 10 (at most 13: 8 old, 5 new) to 15 (at most 18 or 20).
        assert_eq!(share_out(&limits(15, 3, 2), 13, &[share(8), share(5)]), [11, 7]);
        assert_eq!(share_out(&limits(0, 3, 2), 13, &[share(8), share(5)]), [0, 0]);
        assert_eq!(share_out(&limits(10, 3, 2), 13, &[share(8), share(5)]), [8, 5]);
        let unknown = Share { wanted: 5, most_before: None };
        assert_eq!(share_out(&limits(10, 0, 0), 5, &[unknown]), [10]);
    }
}
