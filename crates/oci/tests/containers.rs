//! Real containers, as root: what a specification says is what the process inside finds.

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use support::Bundle;

fn output(bundle: &Bundle) -> String {
    let outcome = bundle.run().unwrap();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    outcome.stdout
}

#[test]
fn a_process_runs_in_namespaces_of_its_own() {
    let script = "echo $$; hostname; ls /; cat /proc/self/cgroup; cat /proc/net/dev | grep -c :; echo $HOME; exit 7";
    let outcome = Bundle::new(&["sh", "-c", script]).run().unwrap();
    assert_eq!(outcome.code, 7, "{outcome:?}");
    assert!(outcome.stdout.starts_with("1\ninside\nbin\ndev\netc\n"), "{outcome:?}");
    assert!(outcome.stdout.contains(":pids:/\n") || outcome.stdout.contains("0::/\n"), "{outcome:?}");
    assert!(outcome.stdout.ends_with("\n1\n/root\n"), "{outcome:?}");
}

#[test]
fn users_groups_and_capabilities_are_those_asked_for() {
    let mut bundle = Bundle::new(&["sh", "-c", "id; umask; grep -E 'Cap|NoNewPrivs|Groups' /proc/self/status; pwd"]);
    let process = &mut bundle.spec["process"];
    process["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 6], "umask": 63});
    process["cwd"] = json!("/home/user/made");
    process["capabilities"] = json!({"bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_KILL"],
        "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
    let said = output(&bundle);
    assert!(said.starts_with("uid=1000(user) gid=1000 groups=5,6\n0077\n"), "{said}");
    let line = |name: &str| said.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(line("CapBnd:"), "0000000000000021");
    for name in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
        assert_eq!(line(name), "0000000000000020", "{name}");
    }
    assert_eq!(line("NoNewPrivs:"), "1");
    assert!(said.ends_with("/home/user/made\n"), "{said}");
}

#[test]
fn devices_links_and_hidden_paths_are_in_place() {
    let script = "echo x > /dev/null; head -c 2 /dev/zero | stat -c %s -; ls /secret; ls -l /dev/ptmx /dev/fd; \
        echo 1 > /proc/sys/kernel/pid_max; cat /proc/kcore; ls /sys/fs/cgroup; touch /sys/fs/cgroup/x";
    let outcome = Bundle::new(&["sh", "-c", script]).run().unwrap();
    assert!(outcome.stdout.contains("-> pts/ptmx") && outcome.stdout.contains("-> /proc/self/fd"), "{outcome:?}");
    assert!(!outcome.stdout.contains("file\n"), "{outcome:?}");
    assert!(outcome.stderr.contains("/proc/sys/kernel/pid_max: Read-only file system"), "{outcome:?}");
    assert!(outcome.stderr.contains("/sys/fs/cgroup/x: Read-only file system"), "{outcome:?}");
}

#[test]
fn mounts_follow_their_options() {
    let mut bundle = Bundle::new(&[
        "sh",
        "-c",
        "cat /data/f /one; touch /data/x; touch /rw/y && mount | grep ' /scratch '; touch /z",
    ]);
    let (data, file) = (bundle.folder.join("data"), bundle.folder.join("one"));
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("f"), "shared\n").unwrap();
    fs::write(&file, "single\n").unwrap();
    bundle.spec["root"]["readonly"] = json!(true);
    bundle.spec["mounts"].as_array_mut().unwrap().extend([
        json!({"destination": "/data", "source": data, "type": "bind", "options": ["rbind", "ro", "rprivate"]}),
        json!({"destination": "/rw", "source": data, "type": "bind", "options": ["rbind", "rw"]}),
        json!({"destination": "/one", "source": file, "type": "bind", "options": ["bind"]}),
        json!({"destination": "/scratch", "source": "tmpfs", "type": "tmpfs", "options": ["size=64k", "noexec"]}),
    ]);
    let outcome = bundle.run().unwrap();
    assert!(outcome.stdout.starts_with("shared\nsingle\ntmpfs on /scratch type tmpfs (rw,noexec"), "{outcome:?}");
    assert!(outcome.stderr.contains("/data/x: Read-only") && outcome.stderr.contains("/z: Read-only"), "{outcome:?}");
    assert!(data.join("y").exists());
}

#[test]
fn a_filter_decides_system_calls() {
    for no_new_privileges in [true, false] {
        let mut bundle = Bundle::new(&["sh", "-c", "mkdir /tmp/a; ls /tmp; echo done"]);
        bundle.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]});
        let outcome = bundle.run().unwrap();
        assert_eq!(outcome.stdout, "done\n");
        assert!(outcome.stderr.contains("Operation not supported"), "{outcome:?}");
    }
}

#[test]
fn limits_hold() {
    let mut bundle = Bundle::new(&["sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M count=1; ulimit -n"]);
    bundle.spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 80}]);
    bundle.spec["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    bundle.spec["linux"]["resources"]["pids"] = json!({"limit": 20});
    bundle.spec["linux"]["resources"]["cpu"] = json!({"shares": 512, "quota": 50000, "period": 100000});
    let container = bundle.create().unwrap();
    let spec = oci::load_spec(&bundle.folder).unwrap();
    let group = oci::cgroup_of(&spec).unwrap().unwrap();
    assert_eq!(group.stats().memory.limit, Some(16 << 20));
    assert_eq!(group.processes(), [container.pid]);
    assert_eq!((group.oom_kills(), group.stats().processes), (0, 1));
    let mut container = container;
    container.start().unwrap();
    let outcome = container.finish();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "77\n"), "{outcome:?}");
    assert_eq!(group.oom_kills(), 1);
}

#[test]
fn failing_starts_say_why() {
    let said = |arguments: &[&str]| Bundle::new(arguments).run().unwrap_err();
    assert_eq!(said(&["foo"]), r#"unable to start container process: exec: "foo": executable file not found in $PATH"#);
    assert_eq!(
        said(&["/no/such"]),
        r#"unable to start container process: exec: "/no/such": stat /no/such: no such file or directory"#
    );
    assert_eq!(said(&["/etc/passwd"]), r#"unable to start container process: exec: "/etc/passwd": permission denied"#);
    let bundle = Bundle::new(&["/bin/script"]);
    fs::write(bundle.root().join("bin/script"), "#!/no/interpreter\n").unwrap();
    fs::set_permissions(bundle.root().join("bin/script"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut container = bundle.create().unwrap();
    assert_eq!(container.start().unwrap_err(), "exec /bin/script: no such file or directory");
    assert_eq!(container.finish().code, 128);
    let mut bundle = Bundle::new(&["sh"]);
    bundle.spec["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/x", "source": "/no/such", "options": ["bind"]}));
    assert!(
        bundle
            .run()
            .unwrap_err()
            .ends_with(r#"error mounting "/no/such" to rootfs at "/x": no such file or directory"#)
    );
    let mut bundle = Bundle::new(&["sh"]);
    bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.spec["process"]["cwd"] = json!("/etc/passwd");
    let said = bundle.run().unwrap_err();
    assert!(said.contains(r#"chdir to cwd ("/etc/passwd") set in config.json failed: not a directory"#), "{said}");
}

#[test]
fn another_process_joins_a_container() {
    let bundle = Bundle::new(&["sleep", "100"]);
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let outcome = container.exec(
        json!({"args": ["sh", "-c", "hostname; cat /proc/1/cmdline; cat /proc/self/cgroup; echo no >&2; exit 3"]}),
    );
    let outcome = outcome.unwrap();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (3, "no\n"));
    assert!(outcome.stdout.starts_with("inside\nsleep\u{0}100\u{0}"), "{outcome:?}");
    assert!(outcome.stdout.contains(":memory:/\n") || outcome.stdout.contains("0::/\n"), "{outcome:?}");
    let missing = container.exec(json!({"args": ["foo"]})).unwrap_err();
    assert_eq!(missing, r#"unable to start container process: exec: "foo": executable file not found in $PATH"#);
    let spec = oci::load_spec(&bundle.folder).unwrap();
    oci::cgroup_of(&spec).unwrap().unwrap().signal(libc::SIGKILL).unwrap();
    assert_eq!(container.finish().code, 137);
}

#[test]
fn a_terminal_is_the_controlling_one() {
    let mut bundle = Bundle::new(&["sh", "-c", "tty; stty size; echo x > /dev/console; ls -l /dev/tty >/dev/null"]);
    bundle.spec["process"]["terminal"] = json!(true);
    bundle.spec["process"]["consoleSize"] = json!({"height": 30, "width": 100});
    let mut container = bundle.create().unwrap();
    let terminal = linux::pty::Master::new(container.terminal.take().unwrap()).unwrap();
    container.start().unwrap();
    let (mut said, mut bytes) = (Vec::new(), [0; 256]);
    loop {
        match terminal.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => said.extend_from_slice(&bytes[..count]),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
    }
    assert_eq!(String::from_utf8(said).unwrap(), "/dev/pts/0\r\n30 100\r\nx\r\n");
    assert_eq!(support::end_of(container.pid), 0);
}

#[test]
fn users_can_be_mapped() {
    let mut bundle = Bundle::new(&["sh", "-c", "id -u; cat /proc/self/uid_map; touch /tmp/x && stat -c %u /tmp/x"]);
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let mapping = json!([{"containerID": 0, "hostID": 200_000, "size": 1000}]);
    bundle.spec["linux"]["uidMappings"] = mapping.clone();
    bundle.spec["linux"]["gidMappings"] = mapping;
    let chown = |path: &std::path::Path| std::os::unix::fs::chown(path, Some(200_000), Some(200_000)).unwrap();
    chown(&bundle.root());
    for folder in ["tmp", "dev", "proc", "sys"] {
        chown(&bundle.root().join(folder));
    }
    let said = output(&bundle);
    let fields: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(fields, ["0", "0", "200000", "1000", "0"]);
    let mut text = String::new();
    fs::File::open(bundle.root().join("etc/passwd")).unwrap().read_to_string(&mut text).unwrap();
    assert!(text.starts_with("root:"));
}
