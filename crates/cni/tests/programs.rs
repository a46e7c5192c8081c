//! The plugins as programs, and foreign programs as plugins.
//!
//! This test is its own plugin: called with `CNI_COMMAND` set it answers as the plugin it is called by, so that links to
//! it in a folder are what an administrator would have installed.

mod lab;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use cni::{Network, NetworkConfig};
use lab::{Lab, ip};
use linux::netlink::namespace::Namespace;
use serde_json::{Value, json};

fn main() -> ExitCode {
    if std::env::var_os("CNI_COMMAND").is_some() {
        return cni::plugin_main(None);
    }
    let tests: [(&str, fn()); 6] = [
        ("plugins_answer_as_programs", plugins_answer_as_programs),
        ("a_foreign_list_is_run", a_foreign_list_is_run),
        ("a_failing_plugin_is_told_and_cleaned_up_after", a_failing_plugin_is_told_and_cleaned_up_after),
        ("a_changed_list_does_not_hinder_detaching", a_changed_list_does_not_hinder_detaching),
        ("the_bridge_plugin_connects_pods", the_bridge_plugin_connects_pods),
        ("garbage_is_collected_by_command", garbage_is_collected_by_command),
    ];
    let wanted = std::env::args().nth(1).filter(|word| !word.starts_with('-')).unwrap_or_default();
    for (name, test) in tests.iter().filter(|(name, _)| name.contains(&wanted)) {
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

/// Links to this program under plugins' names.
fn install(folder: &Path, names: &[&str]) {
    fs::create_dir_all(folder).unwrap();
    for name in names {
        symlink(std::env::current_exe().unwrap(), folder.join(name)).unwrap();
    }
}

fn script(folder: &Path, name: &str, text: &str) {
    fs::create_dir_all(folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn configure(lab: &Lab, list: &Value) {
    fs::create_dir_all(&lab.config.config_folder).unwrap();
    fs::write(lab.config.config_folder.join("10-test.conflist"), list.to_string()).unwrap();
}

fn ipam(lab: &Lab, subnet: &str) -> Value {
    json!({"type": "host-local", "dataDir": lab.folder.path().join("data/ipam"), "ranges": [[{"subnet": subnet}]]})
}

/// Runs one program as a runtime would, inside the host's namespace.
fn run(host: &Namespace, program: &Path, variables: &[(&str, &str)], input: &Value) -> (bool, Value) {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).envs(variables.iter().copied());
    let output = host
        .run(|| {
            let mut child = command.spawn().unwrap();
            serde_json::to_writer(child.stdin.take().unwrap(), input).unwrap();
            child.wait_with_output().unwrap()
        })
        .unwrap();
    let value = if output.stdout.is_empty() { Value::Null } else { serde_json::from_slice(&output.stdout).unwrap() };
    (output.status.success(), value)
}

fn plugins_answer_as_programs() {
    let lab = Lab::new(&[]);
    let bin = lab.folder.path().join("bin");
    install(&bin, &["routed", "host-local", "loopback", "portmap", "bridge"]);
    let before = lab.state();
    let (_, versions) =
        run(&lab.host, &bin.join("routed"), &[("CNI_COMMAND", "VERSION")], &json!({"cniVersion": "1.1.0"}));
    assert!(versions["supportedVersions"].as_array().unwrap().contains(&json!("1.1.0")));

    let (namespace, pod) = lab.pod("a");
    let path = pod.netns_path.display().to_string();
    let call = |command: &'static str| {
        vec![
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", path.as_str()),
            ("CNI_PATH", bin.to_str().unwrap()),
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_UID=u1"),
        ]
    };
    let mut config =
        json!({"cniVersion": "0.4.0", "name": "net", "type": "routed", "ipam": ipam(&lab, "10.42.0.0/24")});
    let (ok, result) = run(&lab.host, &bin.join("routed"), &call("ADD"), &config);
    assert!(ok, "{result}");
    assert_eq!((&result["ips"][0]["address"], &result["ips"][0]["version"]), (&json!("10.42.0.2/32"), &json!("4")));
    assert_eq!(lab::exchange(&lab.host, &namespace, ip("10.42.0.2")), ip("192.0.2.10"));
    config["prevResult"] = result;
    assert!(run(&lab.host, &bin.join("routed"), &call("CHECK"), &config).0);
    assert!(run(&lab.host, &bin.join("routed"), &call("DEL"), &config).0);
    assert!(run(&lab.host, &bin.join("routed"), &call("DEL"), &config).0);
    assert!(!run(&lab.host, &bin.join("routed"), &call("CHECK"), &config).0);
    assert_eq!(lab.state(), before);

    config["cniVersion"] = json!("9.9.9");
    let (ok, error) = run(&lab.host, &bin.join("routed"), &call("ADD"), &config);
    assert_eq!((ok, &error["code"]), (false, &json!(1)));
}

fn a_foreign_list_is_run() {
    let lab = Lab::new(&[]);
    let bin = lab.folder.path().join("bin");
    install(&bin, &["routed", "host-local"]);
    let log = lab.folder.path().join("log");
    // A plugin of somebody else, that notes what it is called with and passes the result on.
    let note = format!(
        "input=$(cat)\necho \"$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS $input\" >> {}\n\
         [ $CNI_COMMAND = ADD ] && echo \"$input\" | sed 's/.*\"prevResult\":\\({{.*}}\\),\"runtimeConfig.*/\\1/'\nexit 0",
        log.display()
    );
    script(&bin, "noter", &note);
    configure(
        &lab,
        &json!({"cniVersion": "1.0.0", "name": "foreign", "plugins": [
            {"type": "routed", "ipam": ipam(&lab, "10.50.0.0/24")},
            {"type": "noter", "capabilities": {"portMappings": true}, "zzz": 1},
        ]}),
    );
    let (namespace, mut pod) = lab.pod("a");
    pod.port_mappings =
        vec![cni::PortMapping { host_port: 99, container_port: 8080, protocol: cni::Protocol::Tcp, host_ip: None }];
    let attachment = lab.host.run(|| lab.network.add(&pod)).unwrap().unwrap();
    assert_eq!(attachment.ips, [ip("10.50.0.2")]);
    assert_eq!(lab::exchange(&lab.host, &namespace, ip("10.50.0.2")), ip("192.0.2.10"));
    lab.host.run(|| lab.network.check(&pod)).unwrap().unwrap();
    lab.del(&pod).unwrap();
    let log = fs::read_to_string(log).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(lines[0].starts_with("ADD sandbox-a eth0 ") && lines[0].contains("K8S_POD_NAME=a"));
    for line in &lines {
        let config: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
        assert_eq!(config["runtimeConfig"]["portMappings"][0]["hostPort"], 99);
        assert_eq!(config["prevResult"]["ips"][0]["address"], "10.50.0.2/32");
        assert_eq!(config.get("capabilities"), None);
    }
}

fn a_failing_plugin_is_told_and_cleaned_up_after() {
    let lab = Lab::new(&[]);
    let bin = lab.folder.path().join("bin");
    install(&bin, &["routed", "host-local"]);
    let before = lab.state();
    let list = |last: &str| {
        json!({"cniVersion": "1.0.0", "name": "foreign", "plugins": [
            {"type": "routed", "ipam": ipam(&lab, "10.50.0.0/24")}, {"type": last},
        ]})
    };
    script(
        &bin,
        "angry",
        "cat >/dev/null\n[ $CNI_COMMAND = ADD ] || exit 0\necho '{\"code\": 11, \"msg\": \"come back later\"}'\nexit 1",
    );
    script(&bin, "mute", "cat >/dev/null\n[ $CNI_COMMAND = ADD ] || exit 0\necho it broke >&2\nexit 3");
    script(&bin, "babbler", "cat >/dev/null\n[ $CNI_COMMAND = ADD ] || exit 0\necho no json");
    for (name, text) in [
        ("angry", "come back later"),
        ("mute", "it broke"),
        ("babbler", "answer of plugin"),
        ("missing", "neither built in"),
    ] {
        configure(&lab, &list(name));
        let (_namespace, pod) = lab.pod("a");
        let error = lab.host.run(|| lab.network.add(&pod)).unwrap().unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        if name == "missing" {
            // It is unknown what it would undo: what is recorded stays until it is there or the record is collected.
            script(&bin, "missing", "exit 0");
            lab.del(&pod).unwrap();
        }
        assert_eq!(lab.state(), before, "{name}");
    }
    fs::remove_file(bin.join("missing")).unwrap();
    assert!(lab.host.run(|| lab.network.status()).unwrap().is_err());
}

fn a_changed_list_does_not_hinder_detaching() {
    let lab = Lab::new(&[]);
    let before = lab.state();
    configure(
        &lab,
        &json!({"cniVersion": "1.0.0", "name": "one", "plugins": [{"type": "routed", "ipam": ipam(&lab, "10.50.0.0/24")}]}),
    );
    let pod = lab.add("a");
    assert_eq!(pod.ips, [ip("10.50.0.2")], "a plugin of ours needs no program");
    configure(
        &lab,
        &json!({"cniVersion": "1.0.0", "name": "two", "plugins": [{"type": "routed", "ipam": ipam(&lab, "10.60.0.0/24")}]}),
    );
    let again = Network::new(NetworkConfig { ..lab.config.clone() });
    lab.host.run(|| again.del(&pod.pod)).unwrap().unwrap();
    assert_eq!(lab.state(), before);
}

fn the_bridge_plugin_connects_pods() {
    let lab = Lab::new(&[]);
    configure(
        &lab,
        &json!({"cniVersion": "1.0.0", "name": "lan", "plugins": [
            {"type": "bridge", "bridge": "skbr0", "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
             "ipam": ipam(&lab, "10.70.0.0/24")},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]}),
    );
    let (a, b) = (lab.add("a"), lab.add("b"));
    assert_eq!(a.ips, [ip("10.70.0.2")]);
    assert_eq!(lab::exchange(&a.namespace, &b.namespace, b.ips[0]), a.ips[0]);
    assert_eq!(lab::exchange(&a.namespace, &lab.world, ip("192.0.2.1")), ip("192.0.2.10"), "masqueraded");
    lab.host.run(|| lab.network.check(&a.pod)).unwrap().unwrap();
    lab.del(&a.pod).unwrap();
    assert!(lab.host.run(|| lab.network.check(&a.pod)).unwrap().is_err());
    assert_eq!(lab::exchange(&lab.host, &b.namespace, b.ips[0]), ip("10.70.0.1"));
    lab.del(&b.pod).unwrap();
}

fn garbage_is_collected_by_command() {
    let lab = Lab::new(&["10.42.0.0/24"]);
    let before = lab.state();
    let bin = lab.folder.path().join("bin");
    let pod = lab.add("a");
    install(&bin, &["routed"]);
    let data = lab.config.data_folder.join("addresses");
    let config = |valid: Value| {
        json!({"cniVersion": "1.1.0", "name": "skiff", "type": "routed", "cni.dev/valid-attachments": valid,
               "ipam": {"type": "host-local", "dataDir": data, "ranges": [[{"subnet": "10.42.0.0/24"}]]}})
    };
    let gc = [("CNI_COMMAND", "GC"), ("CNI_PATH", bin.to_str().unwrap())];
    let keep = json!([{"containerID": "sandbox-a", "ifname": "eth0"}]);
    assert!(run(&lab.host, &bin.join("routed"), &gc, &config(keep)).0);
    lab.host.run(|| lab.network.check(&pod.pod)).unwrap().unwrap();
    assert!(run(&lab.host, &bin.join("routed"), &gc, &config(json!([]))).0);
    assert!(lab.host.run(|| lab.network.check(&pod.pod)).unwrap().is_err());
    fs::remove_file(bin.join("routed")).unwrap();
    lab.del(&pod.pod).unwrap();
    assert_eq!(lab.state(), before);
}
