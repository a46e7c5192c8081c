//! The node's own object: registration, status, lease.

mod lease;
pub mod machine;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::core::node::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeRuntimeHandler,
    NodeSpec, NodeStatus, NodeSystemInfo,
};
use api::core::nodeselector::Taint;
use apimachinery::{Api, GroupVersionResource, Map, ObjectMeta, Quantity, SmolStr, Status, Time, Value};
use client::{Client, Informer, PatchKind, Recorder, Scope};
use runtime::Runtime;
use tokio::sync::Notify;

/// Upstream's name of the release whose behaviour the node has.
const VERSION: &str = "v1.37.2";
/// How often the status is written although nothing changed.
const REPORT: Duration = Duration::from_secs(300);
/// How often the host is looked at, which tells nobody when it changes.
const LOOK: Duration = Duration::from_secs(60);
/// The same while the node is not ready.
const UNREADY_LOOK: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_secs(1);
/// Images named in the status.
const IMAGES: usize = 50;

/// What the node is told about itself.
#[derive(Clone, Debug)]
pub struct Identity {
    pub name: SmolStr,
    pub ips: Vec<IpAddr>,
    /// Labels and taints for a node that is new.
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// Where the kubelet's server listens.
    pub port: u16,
    pub max_pods: i64,
    /// The folder whose file system is the node's ephemeral storage.
    pub data: std::path::PathBuf,
}

/// Keeps the node's object until the task is aborted. `ready` is told when the node became ready first.
pub async fn run(
    client: Client,
    recorder: Recorder,
    runtime: Runtime,
    network: Arc<cni::Network>,
    me: Identity,
    machine: machine::Machine,
) {
    let uid = loop {
        match register(&client, &me, &machine).await {
            Ok(uid) => break uid,
            Err(status) => tracing::warn!(%status, "the node could not be registered, trying again"),
        }
        tokio::time::sleep(RETRY).await;
    };
    tokio::join!(
        lease::run(client.clone(), me.name.clone(), uid),
        report(client, recorder, runtime, network, me, machine)
    );
}

fn labels(me: &Identity) -> BTreeMap<String, String> {
    let arch = machine::architecture();
    let own = [
        ("kubernetes.io/hostname", me.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ];
    let mut labels = me.labels.clone();
    labels.extend(own.map(|(k, v)| (k.to_owned(), v.to_owned())));
    labels
}

/// Makes the node's object, or brings its labels up to date; answers with its uid.
async fn register(client: &Client, me: &Identity, machine: &machine::Machine) -> Result<String, Status> {
    if let Some(known) = client.try_get::<Node>("", &me.name).await? {
        let wanted = labels(me);
        if wanted.iter().any(|(k, v)| known.metadata.labels.get(k) != Some(v)) {
            let mut tree = Map::new();
            for (key, value) in wanted {
                tree.insert(key, value);
            }
            let mut metadata = Map::new();
            metadata.insert("labels", tree);
            let mut patch = Map::new();
            patch.insert("metadata", metadata);
            client.patch::<Node>("", &me.name, "", PatchKind::Merge, Value::Map(patch)).await?;
        }
        return Ok(known.metadata.uid);
    }
    let node = Node {
        metadata: ObjectMeta { name: me.name.to_string(), labels: labels(me), ..ObjectMeta::default() },
        spec: NodeSpec { taints: me.taints.clone(), ..NodeSpec::default() },
        status: NodeStatus { ..describe(me, machine) },
    };
    Ok(client.create(&node).await?.metadata.uid)
}

/// The parts of the status that change with the machine only.
fn describe(me: &Identity, machine: &machine::Machine) -> NodeStatus {
    let capacity = machine.capacity(&me.data, me.max_pods);
    let mut addresses: Vec<NodeAddress> =
        me.ips.iter().map(|ip| NodeAddress { type_: "InternalIP".into(), address: ip.to_string() }).collect();
    addresses.push(NodeAddress { type_: "Hostname".into(), address: me.name.to_string() });
    NodeStatus {
        allocatable: allocatable(&capacity),
        capacity,
        addresses,
        daemon_endpoints: NodeDaemonEndpoints { kubelet_endpoint: DaemonEndpoint { port: i32::from(me.port) } },
        node_info: NodeSystemInfo {
            machine_id: machine.machine_id.clone(),
            system_uuid: machine.system_uuid.clone(),
            boot_id: machine.boot_id.clone(),
            kernel_version: machine.kernel.clone(),
            os_image: machine.os.clone(),
            container_runtime_version: format!("skiff://{}", env!("CARGO_PKG_VERSION")),
            kubelet_version: format!("{VERSION}+skiff"),
            operating_system: "linux".into(),
            architecture: machine::architecture().into(),
            ..NodeSystemInfo::default()
        },
        runtime_handlers: vec![NodeRuntimeHandler::default()],
        ..NodeStatus::default()
    }
}

/// What pods may use: all but a reserve of memory under which the kernel would start to kill.
pub fn allocatable(capacity: &BTreeMap<String, Quantity>) -> BTreeMap<String, Quantity> {
    let reserve = Quantity::new(100 << 20, apimachinery::quantity::Format::BinarySi);
    let mut allocatable = capacity.clone();
    if let Some(memory) = allocatable.get_mut("memory")
        && memory.value() > 2 * reserve.value()
    {
        memory.sub(reserve);
    }
    allocatable
}

async fn report(
    client: Client,
    recorder: Recorder,
    runtime: Runtime,
    network: Arc<cni::Network>,
    me: Identity,
    machine: machine::Machine,
) {
    let wake = Arc::new(Notify::new());
    // The pod range is given to a node after it has registered; the network is ready with it.
    let own = Scope { field_selector: format!("metadata.name={}", me.name), ..Scope::default() };
    let nodes = Informer::start(&client, GroupVersionResource::new("", "v1", "nodes"), own, |tree| {
        let ranges = tree.at(&["spec", "podCIDRs"]).and_then(Value::as_list).unwrap_or_default();
        Some(ranges.iter().filter_map(|r| r.as_str()?.parse::<ipnet::IpNet>().ok()).collect::<Vec<_>>())
    });
    let (to, name, ranges_of) = (wake.clone(), me.name.clone(), network.clone());
    nodes.on_change(move |change| {
        if change.key.name == name
            && let Some(ranges) = change.new
            && !ranges.is_empty()
            && change.old.is_none_or(|old| old != ranges)
        {
            if ranges_of.pod_ranges() != **ranges {
                ranges_of.set_pod_ranges(ranges.to_vec());
            }
            to.notify_one();
        }
    });
    let mut sent = Sent::default();
    loop {
        match write(&client, &recorder, &runtime, &network, &me, &machine, &mut sent).await {
            Ok(()) => {
                // A network that an administrator configures is found by looking for it.
                let pause = if sent.is_ready() { LOOK } else { UNREADY_LOOK };
                tokio::select! {
                    () = wake.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
            Err(status) => {
                tracing::warn!(%status, "the node's status could not be written, trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// What was told last.
#[derive(Default)]
struct Sent {
    status: Option<NodeStatus>,
    at: Option<tokio::time::Instant>,
}

impl Sent {
    fn is_ready(&self) -> bool {
        self.status.as_ref().is_some_and(|status| is_ready(&status.conditions))
    }
}

fn is_ready(conditions: &[NodeCondition]) -> bool {
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

async fn write(
    client: &Client,
    recorder: &Recorder,
    runtime: &Runtime,
    network: &Arc<cni::Network>,
    me: &Identity,
    machine: &machine::Machine,
    sent: &mut Sent,
) -> Result<(), Status> {
    let mut status = describe(me, machine);
    status.images = images(runtime).await;
    let now = Time(crate::seconds());
    let unready = match network.is_foreign() {
        Ok(true) => None,
        Ok(false) if network.pod_ranges().is_empty() => Some("the node has no range of pod addresses yet".to_owned()),
        Ok(false) => None,
        Err(error) => Some(error.to_string()),
    };
    let before = match &sent.status {
        Some(before) => before.conditions.clone(),
        None => client.get::<Node>("", &me.name).await?.status.conditions,
    };
    status.conditions = conditions(unready.as_deref(), machine.pressure(&me.data), &before, now);
    // Heartbeats alone are the lease's work.
    let same = sent.status.as_ref().is_some_and(|s| without_heartbeats(s) == without_heartbeats(&status));
    if same && sent.at.is_some_and(|at| at.elapsed() < REPORT) {
        return Ok(());
    }
    let mut patch = Map::new();
    let mut tree = status.to_value();
    if let Some(map) = tree.as_map_mut() {
        // Kubelets of other versions left these; ours tells the whole of the rest.
        map.remove("volumesInUse");
    }
    patch.insert("status", tree);
    client.patch::<Node>("", &me.name, "status", PatchKind::Strategic, Value::Map(patch)).await?;
    if is_ready(&status.conditions) != is_ready(&before) {
        let about = client::events::Subject {
            kind: "Node".into(),
            name: me.name.clone(),
            uid: me.name.clone(),
            ..Default::default()
        };
        let reason = if is_ready(&status.conditions) { "NodeReady" } else { "NodeNotReady" };
        recorder.normal(&about, reason, format!("Node {} status is now: {reason}", me.name));
    }
    *sent = Sent { status: Some(status), at: Some(tokio::time::Instant::now()) };
    Ok(())
}

fn without_heartbeats(status: &NodeStatus) -> NodeStatus {
    let mut status = status.clone();
    for condition in &mut status.conditions {
        condition.last_heartbeat_time = Time(0);
    }
    status
}

fn conditions(
    unready: Option<&str>,
    pressure: machine::Pressure,
    before: &[NodeCondition],
    now: Time,
) -> Vec<NodeCondition> {
    let of = |type_: &str, bad: bool, reasons: (&str, &str), messages: (&str, &str)| {
        (
            type_.to_owned(),
            if bad { "True" } else { "False" },
            if bad { reasons.0 } else { reasons.1 }.to_owned(),
            if bad { messages.0 } else { messages.1 }.to_owned(),
        )
    };
    let mut all = vec![
        of(
            "MemoryPressure",
            pressure.memory,
            ("KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"),
            ("kubelet has insufficient memory available", "kubelet has sufficient memory available"),
        ),
        of(
            "DiskPressure",
            pressure.disk,
            ("KubeletHasDiskPressure", "KubeletHasNoDiskPressure"),
            ("kubelet has disk pressure", "kubelet has no disk pressure"),
        ),
        of(
            "PIDPressure",
            pressure.pids,
            ("KubeletHasInsufficientPID", "KubeletHasSufficientPID"),
            ("kubelet has insufficient PID available", "kubelet has sufficient PID available"),
        ),
    ];
    all.push(match unready {
        None => ("Ready".into(), "True", "KubeletReady".into(), "kubelet is posting ready status".into()),
        Some(why) => (
            "Ready".into(),
            "False",
            "KubeletNotReady".into(),
            format!(
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:{why}"
            ),
        ),
    });
    all.into_iter()
        .map(|(type_, status, reason, message)| {
            let same = before.iter().find(|c| c.type_ == type_ && c.status == status);
            NodeCondition {
                last_transition_time: same.map_or(now, |c| c.last_transition_time),
                last_heartbeat_time: now,
                type_,
                status: status.into(),
                reason,
                message,
            }
        })
        .collect()
}

async fn images(runtime: &Runtime) -> Vec<ContainerImage> {
    let Ok(listed) = runtime.list_images(cri::v1::ListImagesRequest::default()).await else { return Vec::new() };
    let mut images: Vec<ContainerImage> = listed
        .images
        .into_iter()
        .map(|image| ContainerImage {
            size_bytes: i64::try_from(image.size).unwrap_or(i64::MAX),
            names: image.repo_digests.into_iter().chain(image.repo_tags).take(5).collect(),
        })
        .collect();
    images.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.names.cmp(&b.names)));
    images.truncate(IMAGES);
    images
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_keep_their_time() {
        let first = conditions(Some("no range"), machine::Pressure::default(), &[], Time(10));
        assert_eq!(first.iter().map(|c| c.status.as_str()).collect::<Vec<_>>(), ["False"; 4]);
        let second = conditions(None, machine::Pressure::default(), &first, Time(20));
        let times: Vec<i64> = second.iter().map(|c| c.last_transition_time.0).collect();
        assert_eq!(times, [10, 10, 10, 20]);
        assert_eq!(second[3].reason, "KubeletReady");
    }
}
