//! Rolls the pods of a Deployment from one template to the next by scaling ReplicaSets.
//!
//! `plan` decides how many replicas each ReplicaSet gets, `status` what is told about it, `replicasets` reads and
//! writes them; this file is the order of steps.

mod plan;
mod replicasets;
mod status;

use std::time::Duration;

use api::apps::{Deployment, ReplicaSet};
use apimachinery::resource::Resource;
use apimachinery::{SmolStr, Status};
use client::{Informer, Key, Outcome, Queue, run_workers};

use crate::Context;
use crate::shared::PodView;
use crate::shared::pod_index::PodIndex;
use crate::workload::{Manager, OwnerView, now, wake_by_owners};
use plan::Limits;
use replicasets::Sets;

/// Runs the controller.
pub async fn run(cx: Context) {
    let deployments = OwnerView::follow(&cx.watcher, Deployment::resource());
    let sets = OwnerView::follow(&cx.watcher, ReplicaSet::resource());
    let pods = cx.shared.pods().clone();
    deployments.synced().await;
    sets.synced().await;
    pods.synced().await;
    let queue: Queue<Key> = Queue::new();
    wake_by_owners(&deployments, &queue);
    wake_by_sets(&sets, &deployments, &queue);
    wake_by_last_pods(&pods, &sets, &queue);
    run_workers("deployment-controller", queue, 4, move |key| {
        let (cx, sets) = (cx.clone(), sets.clone());
        async move { reconcile(&cx, &sets, &key).await }
    })
    .await;
}

fn wake_by_sets(sets: &Informer<OwnerView>, deployments: &Informer<OwnerView>, queue: &Queue<Key>) {
    let (deployments, queue) = (deployments.clone(), queue.clone());
    sets.on_change(move |change| {
        for set in [change.old, change.new].into_iter().flatten() {
            if let Some(owner) = set.controller.as_ref().filter(|o| o.kind == "Deployment") {
                queue.add(Key::new(change.key.namespace.clone(), owner.name.clone()));
            }
        }
        if let Some(set) = change.new.filter(|set| set.controller.is_none()) {
            let matching = deployments.filter(|key, deployment| {
                key.namespace == change.key.namespace
                    && deployment.selector.matches(|label| set.labels.get(label).map(SmolStr::as_str))
            });
            matching.into_iter().for_each(|(key, _)| queue.add(key));
        }
    });
}

/// Recreate waits until the last old pod is gone, which no ReplicaSet may tell.
fn wake_by_last_pods(pods: &Informer<PodView>, sets: &Informer<OwnerView>, queue: &Queue<Key>) {
    let (sets, queue) = (sets.clone(), queue.clone());
    pods.on_change(move |change| {
        let finished = |pod: &PodView| pod.phase == "Succeeded" || pod.phase == "Failed";
        let Some(old) = change.old.filter(|_| change.new.is_none_or(|new| finished(new))) else { return };
        let Some(owner) = old.controller.as_ref().filter(|o| o.kind == "ReplicaSet") else { return };
        let set = sets.get(&change.key.namespace, &owner.name);
        if let Some(deployment) = set.and_then(|set| set.controller.clone()) {
            queue.add(Key::new(change.key.namespace.clone(), deployment.name));
        }
    });
}

async fn reconcile(cx: &Context, cache: &Informer<OwnerView>, key: &Key) -> Result<Outcome, Status> {
    let Some(mut deployment) = cx.client.try_get::<Deployment>(&key.namespace, &key.name).await? else {
        return Ok(Outcome::Done);
    };
    let selector = crate::workload::selector(deployment.spec.selector.as_ref())?;
    if selector.is_everything() {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        cx.recorder.warning(&Manager::of(&deployment).subject, "SelectingAll", message);
        if deployment.status.observed_generation < deployment.metadata.generation {
            deployment.status.observed_generation = deployment.metadata.generation;
            cx.client.update_status(&deployment).await?;
        }
        return Ok(Outcome::Done);
    }
    let all = replicasets::claim(cx, cache, &Manager::of(&deployment), &selector).await?;
    let mut sets = Sets::sort(&deployment, all);
    if deployment.metadata.deletion_timestamp.is_some() {
        return tell(cx, &mut deployment, &sets, false).await;
    }
    if status::set_paused(&mut deployment, now(cx)) {
        deployment = cx.client.update_status(&deployment).await?;
    }
    replicasets::sync_revision(cx, &mut deployment, &mut sets).await?;
    if deployment.spec.paused || is_scaled(&deployment, &sets) {
        replicasets::scale_all(cx, &deployment, &mut sets).await?;
        if deployment.spec.paused {
            replicasets::clean_up(cx, &deployment, &sets).await?;
        }
        return tell(cx, &mut deployment, &sets, false).await;
    }
    match deployment.spec.strategy.type_.as_str() {
        "Recreate" => recreate(cx, &mut deployment, &mut sets).await?,
        _ => roll(cx, &mut deployment, &mut sets).await?,
    }
    tell(cx, &mut deployment, &sets, true).await
}

/// Whether the wanted number changed since the ReplicaSets were last sized.
fn is_scaled(deployment: &Deployment, sets: &Sets) -> bool {
    let wanted = Limits::of(deployment).replicas;
    sets.active().any(|set| replicasets::desired(set).is_some_and(|desired| desired != wanted))
}

/// One step of a rolling update: up if there is room, else down as far as availability allows.
async fn roll(cx: &Context, deployment: &mut Deployment, sets: &mut Sets) -> Result<(), Status> {
    replicasets::ensure_new(cx, deployment, sets).await?;
    let limits = Limits::of(deployment);
    let Some(new) = sets.new.as_ref() else { return Ok(()) };
    let size = plan::grow_new(&limits, plan::Size::of(new), sets.total());
    if replicasets::scale_new(cx, deployment, sets, size).await? {
        return Ok(());
    }
    let Some(new) = sets.new.as_ref() else { return Ok(()) };
    sets.old.sort_by_key(replicasets::age);
    let old: Vec<plan::Size> = sets.old.iter().map(plan::Size::of).collect();
    let sizes = plan::shrink_old(&limits, plan::Size::of(new), &old);
    if replicasets::scale_old(cx, deployment, sets, &sizes).await? {
        return Ok(());
    }
    if status::is_complete(deployment, &deployment.status) {
        replicasets::clean_up(cx, deployment, sets).await?;
    }
    Ok(())
}

/// One step of a recreation: everything old down, and only when its pods are gone the new one up.
async fn recreate(cx: &Context, deployment: &mut Deployment, sets: &mut Sets) -> Result<(), Status> {
    let nothing = vec![0; sets.old.len()];
    if replicasets::scale_old(cx, deployment, sets, &nothing).await? || runs_old_pods(cx.shared.pod_index(), sets) {
        return Ok(());
    }
    replicasets::ensure_new(cx, deployment, sets).await?;
    replicasets::scale_new(cx, deployment, sets, Limits::of(deployment).replicas).await?;
    if status::is_complete(deployment, &deployment.status) {
        replicasets::clean_up(cx, deployment, sets).await?;
    }
    Ok(())
}

fn runs_old_pods(index: &PodIndex, sets: &Sets) -> bool {
    sets.old.iter().any(|set| {
        set.status.replicas > 0
            || index.owned(&set.metadata.uid).iter().any(|(_, pod)| pod.phase != "Succeeded" && pod.phase != "Failed")
    })
}

/// Writes the status if it changed, and says when to look again whether the rollout is stuck.
async fn tell(cx: &Context, deployment: &mut Deployment, sets: &Sets, rollout: bool) -> Result<Outcome, Status> {
    let now = now(cx);
    let mut status = status::count(deployment, sets, now);
    if rollout {
        status::judge_progress(deployment, sets, &mut status, now);
    }
    if status != deployment.status {
        deployment.status = status;
        *deployment = cx.client.update_status(deployment).await?;
    }
    let after = status::next_check(deployment, now).filter(|_| rollout);
    Ok(after.map_or(Outcome::Done, |seconds| Outcome::After(Duration::from_secs(seconds))))
}

#[cfg(test)]
mod tests {
    use apimachinery::Value;

    use super::*;
    use crate::context::tests::{context, eventually};

    const DEPLOYMENT: &str = r#"{"metadata":{"name":"web","namespace":"a","uid":"d","generation":1},"spec":{"replicas":4,
        "selector":{"matchLabels":{"app":"web"}},"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1,
        "maxUnavailable":1}},"progressDeadlineSeconds":600,"revisionHistoryLimit":10,"template":{"metadata":{"labels":
        {"app":"web"}},"spec":{"containers":[{"name":"c","image":"one"}]}}}}"#;

    #[tokio::test]
    async fn a_new_template_rolls_and_a_scale_is_shared_out() {
        let backend = testkit::FakeBackend::new();
        let (deployments, sets) = (Deployment::resource(), ReplicaSet::resource());
        backend.put(&deployments, DEPLOYMENT);
        let task = tokio::spawn(run(context(&backend)));
        let sizes = || {
            let mut sizes: Vec<(String, i64)> = backend
                .all(&sets)
                .iter()
                .map(|set| {
                    let revision = ["metadata", "annotations", "deployment.kubernetes.io/revision"];
                    let size = set.at(&["spec", "replicas"]).and_then(Value::as_i64).unwrap_or_default();
                    (set.str_at(&revision).unwrap_or_default().to_string(), size)
                })
                .collect();
            sizes.sort();
            sizes
        };
        eventually(|| sizes() == [("1".into(), 4)]).await;
        let revision = ["metadata", "annotations", "deployment.kubernetes.io/revision"];
        eventually(|| backend.get(&deployments, "a", "web").unwrap().str_at(&revision) == Some("1")).await;
        let mut deployment = context(&backend).client.get::<Deployment>("a", "web").await.unwrap();
        // All four are available, so one may go and two may come.
        let mut set =
            context(&backend).client.list::<ReplicaSet>("a", Default::default()).await.unwrap().items.remove(0);
        set.status.replicas = 4;
        set.status.ready_replicas = 4;
        set.status.available_replicas = 4;
        context(&backend).client.update_status(&set).await.unwrap();
        deployment.spec.template.spec.containers[0].image = "two".into();
        deployment.metadata.generation = 2;
        context(&backend).client.update(&deployment).await.unwrap();
        eventually(|| sizes() == [("1".into(), 3), ("2".into(), 2)]).await;
        task.abort();
    }
}
