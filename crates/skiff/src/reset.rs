//! Ends what runs of a data folder and removes all that it made, whether its daemon is alive or dead.
//!
//! # Why
//! Each step can be done again, and the record of what was made goes last: a reset that was interrupted is taken up by
//! the next one. Pods are removed in order first, so that others' network plugins hear of it, and then by force.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cri::v1;
use futures::StreamExt;
use linux::cgroup::{Cgroup, Layout};
use nix::fcntl::Flock;
use pki::kubeconfig::{Kubeconfig, Source};
use pki::{Authority, Hierarchy};
use runtime::remains::Remains;

use crate::folder::{self, LOCK, RECORD, Record, Role};
use crate::{host, local, process};

/// How long a daemon may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a daemon is ended that something starts again.
const TRIES: u32 = 5;
/// How many pods are removed at the same time.
const AT_ONCE: usize = 16;
/// Below these folders of a data folder, what is mounted was mounted by us.
const MOUNTS: [&str; 4] = ["runtime/pods", "runtime/containers", "runtime/images", "kubelet/pods"];

/// A data folder that can be reset.
pub struct Target {
    data: PathBuf,
    /// A folder from before there were records has none.
    record: Option<Record>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.record {
            Some(record) => write!(f, "the {} with the data folder {}", record.role, self.data.display()),
            None => write!(f, "whatever uses the data folder {}", self.data.display()),
        }
    }
}

impl Target {
    /// Looks at a folder; `None` if there is nothing. Refuses folders that are not Skiff's.
    pub fn find(folder: &Path) -> anyhow::Result<Option<Target>> {
        let data = match folder.canonicalize() {
            Ok(data) => data,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot look into {}", folder.display())),
        };
        // <clusters>/NAME/NODE/var/lib/skiff
        if let Some(cluster) = data.ancestors().nth(4).filter(|cluster| cluster.join("cluster.json").is_file()) {
            let name = cluster.file_name().unwrap_or_default().to_string_lossy();
            bail!("{} belongs to the local cluster {name}: use `skiff cluster delete {name}`", data.display());
        }
        let record = Record::read(&data)?;
        let entries = fs::read_dir(&data).with_context(|| format!("cannot look into {}", data.display()))?;
        let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        if record.is_none() && (names.is_empty() || names == ["clusters"]) {
            return Ok(None);
        }
        let old = data.join("pki").is_dir() && (data.join("store/FORMAT").is_file() || data.join("runtime").is_dir());
        ensure!(
            record.is_some() || old,
            "{} is no data folder of Skiff: name the right one with --data-dir",
            data.display()
        );
        Ok(Some(Target { data, record }))
    }

    /// Whether pods were kept here.
    fn had_node(&self) -> bool {
        self.data.join("runtime").is_dir() || self.record.as_ref().is_some_and(|record| record.node.is_some())
    }

    /// Ends and removes everything.
    pub fn reset(mut self) -> anyhow::Result<()> {
        ensure!(
            !self.had_node() || nix::unistd::geteuid().is_root(),
            "a node can be removed by root alone: run this with sudo"
        );
        let _lock = self.end_daemon()?;
        let outside = self.record.as_ref().map(|record| record.outside.clone()).unwrap_or_default();
        if self.had_node() {
            self.end_pods()?;
            self.unmount()?;
            self.release_network()?;
            self.remove_groups(&outside.cgroups);
        }
        for path in &outside.kubeconfigs {
            self.remove_kubeconfig(path);
        }
        for path in outside.sockets.iter().filter(|path| UnixStream::connect(path).is_err()) {
            remove_file(path)?;
        }
        self.remove_data()?;
        for folder in outside.folders.iter().rev() {
            // Stays if there is anything else in it.
            let _ = fs::remove_dir(folder);
        }
        for name in [RECORD, LOCK] {
            remove_file(&self.data.join(name))?;
        }
        let _ = fs::remove_dir(&self.data);
        if let Some(Record { role: Role::Agent, node: Some(node), url, .. }) = &self.record {
            let name = &node.name;
            println!(
                "the cluster at {url} still has the node: `kubectl delete node {name}` removes it, and \
                 `kubectl --namespace kube-system delete secret {name}.node-password.skiff` frees its name"
            );
        }
        Ok(())
    }

    /// Ends the daemon if it runs, and keeps others away.
    fn end_daemon(&mut self) -> anyhow::Result<Flock<fs::File>> {
        for _ in 0..TRIES {
            // At once after an end: a supervisor that starts the next daemon takes longer.
            if let Ok(lock) = folder::lock(&self.data, 1) {
                return Ok(lock);
            }
            self.record = Record::read(&self.data)?;
            let Some(record) = self.record.as_ref().filter(|record| record.process.is_alive()) else {
                // It has just begun or is just ending, or is none that can be seen from here.
                std::thread::sleep(Duration::from_millis(200));
                continue;
            };
            let own = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).ok();
            let its = |name: &str| fs::read_link(format!("/proc/{}/ns/{name}", record.process.pid)).ok();
            ensure!(
                ["net", "mnt"].iter().all(|name| own(name) == its(name)),
                "the {} runs in other namespaces: run this there, by `nsenter --target {} --net --mount`",
                record.role,
                record.process.pid
            );
            println!("ending the {} ({})", record.role, record.process);
            record.process.stop(PATIENCE)?;
        }
        let lock = folder::lock(&self.data, 1);
        lock.context("something starts it again or keeps it in other namespaces: stop that first")
    }

    /// Removes pods in order, then ends by force what is left of them.
    fn end_pods(&self) -> anyhow::Result<()> {
        let root = self.data.join("runtime");
        let remains = Remains::read(&root);
        if remains.pods > 0 {
            println!("ending {} pods", remains.pods);
            if let Err(error) = crate::commands::block_on(remove_pods(&self.data)) {
                println!("they cannot be removed in order ({error:#}), so they are killed");
            }
        }
        remains.end()?;
        let kubelet = fs::read_dir(self.data.join("kubelet/pods")).into_iter().flatten().flatten();
        let uids: Vec<String> = kubelet.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        for group in uids.iter().flat_map(|uid| kubelet::cgroups_of(uid)).filter_map(|path| group(&path)) {
            group.signal(nix::sys::signal::Signal::SIGKILL as i32)?;
            group.remove()?;
        }
        let mut logs = remains.logs;
        for entry in fs::read_dir(host::LOGS).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if uids.iter().any(|uid| name.strip_suffix(uid.as_str()).is_some_and(|rest| rest.ends_with('_'))) {
                logs.insert(entry.path());
            }
        }
        for folder in logs.iter().filter(|folder| folder.starts_with(host::LOGS)) {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Unmounts what was mounted for pods. Files are removed only once nothing is mounted over them: through a mount
    /// that is still there, others' files would go.
    fn unmount(&self) -> anyhow::Result<()> {
        let ours = |point: &Path| MOUNTS.iter().any(|below| point.starts_with(self.data.join(below)));
        for mount in linux::mount::list()?.iter().rev().filter(|mount| ours(&mount.point)) {
            let unmounted = linux::mount::unmount(&mount.point);
            unmounted.with_context(|| format!("cannot unmount {}", mount.point.display()))?;
        }
        match linux::mount::list()?.iter().find(|mount| ours(&mount.point)) {
            Some(left) => bail!("{} is still mounted", left.point.display()),
            None => Ok(()),
        }
    }

    /// Removes links, routes and tables, and puts settings back, if this folder's node was the last on this network.
    fn release_network(&self) -> anyhow::Result<()> {
        let (run, network) = (Path::new(host::RUN), host::network()?);
        let owner = host::owner(run, network)?;
        let was_here = self.record.as_ref().is_none_or(|record| {
            let here = record.node.as_ref().is_some_and(|node| node.network == network);
            here && process::boot().is_ok_and(|boot| boot == record.process.boot)
        });
        let ours = match &owner {
            Some(owner) => owner.canonicalize().as_deref().unwrap_or(owner) == self.data,
            None => was_here,
        };
        if !ours {
            if self.record.as_ref().is_some_and(|record| record.process.boot == process::boot().unwrap_or_default()) {
                println!(
                    "its node was on another network, or has made room for another node: that network is left alone"
                );
            }
            return Ok(());
        }
        let held = host::take(run, &self.data)?;
        let removed = cni::node::remove_all(&[proxy::TABLE])?;
        if !removed.is_empty() {
            println!("removed {} links, routes and tables", removed.len());
        }
        let record = self.data.join(cni::node::RECORD);
        if local::need_forwarding()? {
            // They go on with it, and put back what we found.
            let mut old = cni::node::recorded(&record)?;
            if let Some(found) = old.remove(cni::node::FORWARDING) {
                local::inherit_forwarding(&found)?;
                cni::node::write_record(&record, &old)?;
            }
        }
        cni::node::restore(&record)?;
        host::forget(run, network)?;
        drop(held);
        Ok(())
    }

    /// Removes the control groups that all pods share, if they are empty and were made by us.
    fn remove_groups(&self, made: &[String]) {
        for path in ["/skiff/shims", "/skiff", "/kubepods/burstable", "/kubepods/besteffort", "/kubepods"] {
            if made.iter().any(|top| Path::new(path).starts_with(top)) {
                for folder in group(path).iter().flat_map(Cgroup::folders) {
                    let _ = fs::remove_dir(folder);
                }
            }
        }
    }

    /// Removes a kubeconfig that is still this cluster's.
    fn remove_kubeconfig(&self, path: &Path) {
        let same = || -> anyhow::Result<bool> {
            let Some(text) = pki::file::read(path)? else { return Ok(false) };
            let folder = self.data.join("pki");
            let own = Hierarchy::existing(folder).context("there are no certificates to compare")?;
            let own = own.ca(Authority::Server)?.bundle_pem();
            let parsed = Kubeconfig::parse(&text, Path::new("/"), None)?;
            let theirs = parsed.cluster.certificate_authority.as_ref().map(Source::load).transpose()?;
            Ok(theirs.as_deref() == Some(own.as_bytes()))
        };
        match same().and_then(|same| if same { remove_file(path) } else { Ok(()) }) {
            Ok(()) => {}
            Err(error) => println!("{} is left: {error:#}", path.display()),
        }
    }

    /// Removes the folder's content, but for the record. Local clusters, other data folders and what an administrator
    /// has mounted here stay.
    fn remove_data(&self) -> anyhow::Result<()> {
        let mounts = linux::mount::list()?.into_iter().map(|mount| mount.point);
        let mut keep: Vec<PathBuf> =
            mounts.filter(|point| point.starts_with(&self.data) && *point != self.data).collect();
        for entry in fs::read_dir(&self.data)?.flatten() {
            let path = entry.path();
            if path.join(RECORD).is_file()
                || !local::Clusters::open(path.clone()).names().unwrap_or_default().is_empty()
            {
                keep.push(path);
            }
        }
        for path in &keep {
            println!("{} is left: it belongs to others", path.display());
        }
        keep.extend([RECORD, LOCK].map(|name| self.data.join(name)));
        for entry in fs::read_dir(&self.data)?.flatten() {
            remove_except(&entry.path(), &keep)?;
        }
        Ok(())
    }
}

async fn remove_pods(data: &Path) -> anyhow::Result<()> {
    let network = cni::Network::new(cni::NetworkConfig::new(data.join("network")));
    let config = runtime::Config::new(data.join("runtime"), Some(Arc::new(network)))?;
    let runtime = runtime::Runtime::open(config).await?;
    let pods = runtime.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await?.items;
    let mut removals = futures::stream::iter(pods.into_iter().map(|pod| {
        let runtime = runtime.clone();
        async move { runtime.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: pod.id }).await }
    }))
    .buffer_unordered(AT_ONCE);
    let mut outcome = Ok(());
    while let Some(removed) = removals.next().await {
        if let Err(error) = removed {
            outcome = Err(error.into());
        }
    }
    outcome
}

fn group(path: &str) -> Option<Cgroup> {
    Cgroup::new(Layout::detect().ok()?, path).ok().filter(Cgroup::exists)
}

fn remove_file(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a file or tree, but for what is to be kept in it and the folders that lead there.
fn remove_except(path: &Path, keep: &[PathBuf]) -> anyhow::Result<()> {
    if keep.iter().any(|kept| kept == path) {
        return Ok(());
    }
    let cannot = || format!("cannot remove {}", path.display());
    if keep.iter().any(|kept| kept.starts_with(path)) {
        for entry in fs::read_dir(path).with_context(cannot)?.flatten() {
            remove_except(&entry.path(), keep)?;
        }
        return Ok(());
    }
    if path.symlink_metadata().with_context(cannot)?.is_dir() {
        fs::remove_dir_all(path).with_context(cannot)
    } else {
        remove_file(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    #[test]
    fn folders_that_are_not_ours_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        assert!(Target::find(&root.join("none")).unwrap().is_none());
        assert!(Target::find(&root).unwrap().is_none(), "it is empty");
        fs::write(root.join("letter"), "dear").unwrap();
        let message = Target::find(&root).err().unwrap().to_string();
        assert!(message.ends_with("is no data folder of Skiff: name the right one with --data-dir"), "{message}");
        let node = root.join("demo/demo-1/var/lib/skiff");
        fs::create_dir_all(&node).unwrap();
        fs::write(root.join("demo/cluster.json"), "{}").unwrap();
        let message = Target::find(&node).err().unwrap().to_string();
        assert!(message.ends_with("belongs to the local cluster demo: use `skiff cluster delete demo`"), "{message}");
        assert!(root.join("letter").exists());
    }

    #[test]
    fn a_control_plane_goes_and_others_things_stay() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        let data = root.join("data");
        let path = |name: &str| data.join(name);
        let mut folder = Folder::claim(&data, Role::Server, "https://127.0.0.1:6443", None).unwrap();
        let (ours, theirs) = (root.join("etc/skiff/ours"), root.join("etc/skiff/theirs"));
        let made = folder::Outside {
            kubeconfigs: vec![ours.clone(), theirs.clone(), root.join("none")],
            folders: vec![root.join("etc/skiff"), root.join("log")],
            ..folder::Outside::default()
        };
        folder.will_make(made).unwrap();
        drop(folder);
        let own = Hierarchy::open(path("pki")).unwrap();
        own.prepare().unwrap();
        let other = Hierarchy::open(root.join("other")).unwrap();
        fs::create_dir_all(root.join("etc/skiff")).unwrap();
        fs::create_dir_all(root.join("log")).unwrap();
        for (hierarchy, file) in [(&own, &ours), (&other, &theirs)] {
            let config = hierarchy.kubeconfig(&pki::Identity::Admin, "https://127.0.0.1:6443").unwrap();
            config.write(file).unwrap();
        }
        fs::create_dir_all(path("clusters/demo")).unwrap();
        fs::write(path("clusters/demo/cluster.json"), "{}").unwrap();
        drop(Folder::claim(&path("nested"), Role::Server, "https://127.0.0.1:6444", None).unwrap());
        fs::create_dir_all(path("store/db")).unwrap();
        std::os::unix::fs::symlink(root.join("other"), path("link")).unwrap();

        Target::find(&data).unwrap().unwrap().reset().unwrap();
        let mut left: Vec<_> = fs::read_dir(&data).unwrap().flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left, ["clusters", "nested"]);
        assert!(!ours.exists() && theirs.exists() && root.join("other").is_dir());
        assert!(root.join("etc/skiff").exists() && !root.join("log").exists());
        assert!(Record::read(&path("nested")).unwrap().is_some());
    }
}
