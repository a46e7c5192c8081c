//! Upstream's API server with its store, as the peer of a run: `kube-apiserver` v1.37.2 and etcd 3.7.0.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use pki::{Authority, Credential, Hierarchy, Identity};
use testkit::Daemon;

use super::build;

const SERVER: &str = "https://127.0.0.1:7443";
const STORE: &str = "http://127.0.0.1:7379";
const STORE_PEERS: &str = "http://127.0.0.1:7380";

/// The programs of the peer.
pub struct Peer {
    server: PathBuf,
    store: PathBuf,
}

/// A peer that serves.
pub struct Running {
    pub kubeconfig: PathBuf,
    server: Daemon,
    store: Daemon,
}

impl Peer {
    /// Looks for the programs, which others build.
    pub fn find() -> anyhow::Result<Peer> {
        let missing = |name: &str| format!("{name} is not in {}", build::cache().join("bin").display());
        Ok(Peer {
            server: build::cached("kube-apiserver").with_context(|| missing("kube-apiserver"))?,
            store: build::cached("etcd").with_context(|| missing("etcd"))?,
        })
    }

    /// Starts both in an empty folder, with certificates of their own.
    pub async fn start(&self, folder: &Path) -> anyhow::Result<Running> {
        let keys = Hierarchy::open(folder.join("pki"))?;
        keys.prepare()?;
        let file = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
            let path = folder.join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let names = ["kubernetes.default.svc", "localhost", "127.0.0.1"];
        let serving: Credential = keys.server("kube-apiserver", names)?;
        let (cert, key) = (file("serving.crt", &serving.cert_pem())?, file("serving.key", &serving.key.to_pem())?);
        let client_ca = file("client-ca.crt", &keys.ca(Authority::Client)?.bundle_pem())?;
        let signing = pki::PrivateKey::generate()?;
        let accounts = file("accounts.key", &signing.to_pem())?;
        let verifying = file("accounts.pub", &signing.public().to_pem())?;
        let kubeconfig = folder.join("kubeconfig");
        keys.kubeconfig(&Identity::Admin, SERVER)?.write(&kubeconfig)?;

        let mut command = Command::new(&self.store);
        command.arg("--data-dir").arg(folder.join("etcd"));
        command.args(["--listen-client-urls", STORE, "--advertise-client-urls", STORE]);
        command.args(["--listen-peer-urls", STORE_PEERS, "--log-level", "error"]);
        let mut store = Daemon::start(&mut command, &folder.join("etcd.log"))?;

        let mut command = Command::new(&self.server);
        command.args(["--etcd-servers", STORE, "--bind-address", "127.0.0.1", "--secure-port", "7443"]);
        command.args(["--service-cluster-ip-range", "10.43.0.0/16", "--allow-privileged"]);
        command.args(["--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction"]);
        command.args(["--service-account-issuer", "https://kubernetes.default.svc"]);
        command.arg("--service-account-key-file").arg(&verifying);
        command.arg("--service-account-signing-key-file").arg(&accounts);
        command.arg("--tls-cert-file").arg(cert).arg("--tls-private-key-file").arg(key);
        command.arg("--client-ca-file").arg(client_ca).arg("--cert-dir").arg(folder.join("certs"));
        let mut server = Daemon::start(&mut command, &folder.join("apiserver.log"))?;
        server.ready(&kubeconfig, Duration::from_millis(20)).await?;
        store.check()?;
        Ok(Running { kubeconfig, server, store })
    }
}

impl Running {
    /// Ends both.
    pub fn stop(self) -> anyhow::Result<()> {
        self.server.stop()?;
        self.store.stop()
    }
}
