//! `skiff cni NAME`: a pod network plugin as a program of its own, for other runtimes and for `cnitool`.

use std::process::ExitCode;

/// Answer as a pod network plugin; the call comes by environment and standard input, as the protocol says.
#[derive(clap::Args)]
pub struct Cni {
    /// Which plugin: routed, bridge, loopback, portmap or host-local.
    name: String,
}

impl Cni {
    /// Answers one call.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        Ok(cni::plugin_main(Some(&self.name)))
    }
}

/// Answers as a plugin if the program was called by a plugin's name with a plugin's environment, as by a link to it
/// in `/opt/cni/bin`.
pub fn by_name() -> Option<ExitCode> {
    std::env::var_os("CNI_COMMAND")?;
    let called = std::env::args_os().next()?;
    let name = std::path::Path::new(&called).file_name()?.to_str()?.to_owned();
    cni::plugins::find(&name).map(|_| cni::plugin_main(Some(&name)))
}
