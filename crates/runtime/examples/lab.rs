//! The runtime without the rest of the binary, for tests: `lab shim` is a shim, `lab SOCKET ROOT [CIDR]` serves CRI.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().map(String::as_str) == Some("shim") {
        return runtime::shim::run();
    }
    let [socket, root, rest @ ..] = arguments.as_slice() else { return ExitCode::FAILURE };
    let root = PathBuf::from(root);
    let ranges = rest.iter().filter_map(|range| range.parse().ok()).collect();
    let network = cni::Network::new(cni::NetworkConfig {
        config_folder: root.join("cni"),
        pod_ranges: ranges,
        ..cni::NetworkConfig::new(root.join("network"))
    });
    let Ok(executor) = tokio::runtime::Runtime::new() else { return ExitCode::FAILURE };
    let served = executor.block_on(async {
        let mut config = runtime::Config::new(root.clone(), Some(Arc::new(network)))?;
        config.registries = root.join("registries.json");
        runtime::serve(config, socket.as_ref(), std::future::pending()).await
    });
    if let Err(error) = served {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
