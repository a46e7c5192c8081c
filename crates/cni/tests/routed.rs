//! The default pod network with real packets, in network namespaces that vanish with the test.

mod lab;

use std::fs;

use cni::Network;
use lab::{Lab, ip};
use linux::netlink::namespace::Namespace;

#[test]
fn pods_reach_each_other_and_the_host_on_both_families() {
    let lab = Lab::new(&["10.42.0.0/24", "fd42::/64"]);
    let (a, b) = (lab.add("a"), lab.add("b"));
    assert_eq!(a.ips, [ip("10.42.0.2"), ip("fd42::2")]);
    assert_eq!(b.ips, [ip("10.42.0.3"), ip("fd42::3")]);
    for (from, to) in a.ips.iter().zip(&b.ips) {
        assert_eq!(lab::exchange(&a.namespace, &b.namespace, *to), *from, "the source address is kept");
    }
    for (pod, host) in a.ips.iter().zip([ip("192.0.2.10"), ip("2001:db8::10")]) {
        assert_eq!(lab::exchange(&lab.host, &a.namespace, *pod), host);
        assert_eq!(lab::exchange(&a.namespace, &lab.host, host), *pod);
    }
    lab.host.run(|| lab.network.check(&a.pod)).unwrap().unwrap();
    assert_eq!(lab.network.attachment(&a.pod).unwrap().unwrap().ips, a.ips);
}

#[test]
fn detaching_leaves_nothing() {
    let lab = Lab::new(&["10.42.0.0/24", "fd42::/64"]);
    let before = lab.state();
    let pod = lab.add("a");
    assert_ne!(lab.state(), before);
    lab.del(&pod.pod).unwrap();
    assert_eq!(lab.state(), before);
    lab.del(&pod.pod).unwrap();
    assert!(lab.host.run(|| lab.network.check(&pod.pod)).unwrap().is_err());

    // The namespace may be gone before DEL comes.
    let pod = lab.add("b");
    let lab::Pod { pod, namespace, .. } = pod;
    drop(namespace);
    lab.del(&pod).unwrap();
    assert_eq!(lab.state(), before);
}

#[test]
fn a_failed_attachment_leaves_nothing() {
    let lab = Lab::new(&["10.42.0.0/24"]);
    let before = lab.state();
    let (namespace, mut pod) = lab.pod("a");
    pod.ips = vec![ip("10.99.0.1")];
    assert!(lab.host.run(|| lab.network.add(&pod)).unwrap().is_err());
    assert_eq!(lab.state(), before);
    // The name of the pod's interface is taken: the pair cannot be made.
    namespace.route_socket().unwrap().add_bridge("eth0", 0, None).unwrap();
    pod.ips.clear();
    assert!(lab.host.run(|| lab.network.add(&pod)).unwrap().is_err());
    assert_eq!(lab.state(), before);
}

#[test]
fn what_a_crash_left_is_collected() {
    let lab = Lab::new(&["10.42.0.0/24"]);
    let before = lab.state();
    let (keep, lose) = (lab.add("keep"), lab.add("lose"));
    // The next process does not know the node's range yet.
    let again = Network::new(cni::NetworkConfig { pod_ranges: Vec::new(), ..lab.config.clone() });
    lab.host.run(|| again.gc(&|sandbox| sandbox == keep.pod.sandbox_id)).unwrap().unwrap();
    lab.host.run(|| lab.network.check(&keep.pod)).unwrap().unwrap();
    assert!(lab.host.run(|| lab.network.check(&lose.pod)).unwrap().is_err());
    assert!(!lab.state().contains(&"route 10.42.0.3/32".to_owned()));
    lab.host.run(|| again.del(&keep.pod)).unwrap().unwrap();
    assert_eq!(lab.state(), before);
}

#[test]
fn a_new_sandbox_of_a_pod_survives_the_late_end_of_the_old_one() {
    let lab = Lab::new(&["10.42.0.0/24"]);
    let old = lab.add("a");
    let new = lab.add_sandbox("a", "a-2");
    lab.del(&old.pod).unwrap();
    lab.host.run(|| lab.network.check(&new.pod)).unwrap().unwrap();
    assert_eq!(lab::exchange(&lab.host, &new.namespace, new.ips[0]), ip("192.0.2.10"));
}

#[test]
fn wanted_addresses_and_readiness() {
    let lab = Lab::new(&[]);
    assert!(lab.host.run(|| lab.network.status()).unwrap().unwrap_err().to_string().contains("no pod address range"));
    lab.network.set_pod_ranges(vec!["10.42.7.0/24".parse().unwrap()]);
    lab.host.run(|| lab.network.status()).unwrap().unwrap();
    let (_namespace, mut pod) = lab.pod("a");
    pod.ips = vec![ip("10.42.7.99")];
    assert_eq!(lab.host.run(|| lab.network.add(&pod)).unwrap().unwrap().ips, pod.ips);
    // A range taken away does not keep a pod from being detached.
    lab.network.set_pod_ranges(Vec::new());
    lab.del(&pod).unwrap();
    assert_eq!(fs::read_dir(lab.config.data_folder.join("attachments")).unwrap().count(), 0);
}

#[test]
fn many_pods_at_once_get_their_own_addresses() {
    let lab = Lab::new(&["10.42.0.0/24"]);
    let pods: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let lab = &lab;
                scope.spawn(move || (0..5).map(|n| lab.add(&format!("p{thread}-{n}"))).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut ips: Vec<_> = pods.iter().map(|pod| pod.ips[0]).collect();
    ips.sort();
    ips.dedup();
    assert_eq!(ips.len(), 40);
    assert_eq!(lab::exchange(&pods[3].namespace, &pods[38].namespace, pods[38].ips[0]), pods[3].ips[0]);
}

#[test]
fn an_unreadable_namespace_is_an_error() {
    let lab = Lab::new(&["10.42.0.0/24"]);
    let (namespace, mut pod) = lab.pod("a");
    pod.netns_path = "/proc/self/status".into();
    assert!(lab.host.run(|| lab.network.add(&pod)).unwrap().is_err());
    drop::<Namespace>(namespace);
}
