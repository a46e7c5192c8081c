//! Members of a real etcd for tests: started on free ports of loopback, killed, started again, and ended with the test.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use store::grpc::client::{Connect, EtcdConfig, EtcdStore, Stream};

/// How long a cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(90);

/// etcd's program, if it was built: `conformance/etcd/build` does that. `SKIFF_ETCD_REQUIRED` makes its lack an error.
pub fn program() -> Option<PathBuf> {
    let cache = std::env::var_os("SKIFF_CACHE").unwrap_or_else(|| "/var/cache/skiff".into());
    let path = Path::new(&cache).join("bin/etcd");
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("SKIFF_ETCD_REQUIRED").is_none(), "{} is missing: conformance/etcd/build", path.display());
    println!("LEFT OUT: {} is missing, so nothing was tried on an etcd cluster", path.display());
    None
}

struct Member {
    client: u16,
    peer: u16,
    folder: PathBuf,
    process: Option<Child>,
}

/// A cluster of etcd members.
pub struct Cluster {
    program: PathBuf,
    members: Vec<Member>,
    _folder: tempfile::TempDir,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    pub fn start(program: &Path, members: usize) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let members = (0..members).map(|n| Member {
            client: free_port(),
            peer: free_port(),
            folder: folder.path().join(n.to_string()),
            process: None,
        });
        let mut cluster = Cluster { program: program.to_owned(), members: members.collect(), _folder: folder };
        for n in 0..cluster.members.len() {
            cluster.begin(n);
        }
        cluster
    }

    /// Starts a member, anew or again.
    pub fn begin(&mut self, n: usize) {
        let peers: Vec<String> =
            self.members.iter().enumerate().map(|(n, m)| format!("m{n}=http://127.0.0.1:{}", m.peer)).collect();
        let member = &mut self.members[n];
        let (client, peer) =
            (format!("http://127.0.0.1:{}", member.client), format!("http://127.0.0.1:{}", member.peer));
        let mut command = Command::new(&self.program);
        command.args(["--name", &format!("m{n}"), "--data-dir"]).arg(&member.folder);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &peers.join(","), "--log-level", "error"]);
        // Tests on a slow machine: patient elections, and no waiting for its disk.
        command.args(["--heartbeat-interval", "200", "--election-timeout", "2000", "--unsafe-no-fsync"]);
        command.args(["--max-request-bytes", "8388608", "--max-txn-ops", "8192"]);
        member.process =
            Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }

    /// Kills a member.
    pub fn kill(&mut self, n: usize) {
        if let Some(mut process) = self.members[n].process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops a member in its tracks, or lets it go on: its connections stay open and say nothing, as in a partition.
    // Each test that starts members is compiled with this file, and not all freeze one.
    #[allow(dead_code)]
    pub fn freeze(&self, n: usize, frozen: bool) {
        use nix::sys::signal::{Signal, kill};
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        if let Some(process) = &self.members[n].process {
            kill(nix::unistd::Pid::from_raw(process.id() as i32), signal).unwrap();
        }
    }

    /// Connects to all members and waits until they answer.
    pub async fn connect(&self, watcher_bytes: usize) -> EtcdStore {
        let connect: Connect = Arc::new(|target: String| {
            Box::pin(async move {
                let stream = tokio::net::TcpStream::connect(target).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(Box::new(stream) as Box<dyn Stream>)
            })
        });
        let endpoints = self.members.iter().map(|m| format!("127.0.0.1:{}", m.client)).collect();
        let config = EtcdConfig { watcher_bytes, ..EtcdConfig::new(endpoints, connect) };
        let begun = Instant::now();
        loop {
            match EtcdStore::connect(config.clone()).await {
                Ok(store) => return store,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "etcd does not answer: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for n in 0..self.members.len() {
            self.kill(n);
        }
    }
}
