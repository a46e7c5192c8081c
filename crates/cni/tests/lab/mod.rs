//! A host and its pods as network namespaces of this process.
#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use cni::{Network, NetworkConfig, PodNetwork};
use linux::netlink::link::VethEnd;
use linux::netlink::namespace::Namespace;

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub struct Lab {
    pub host: Namespace,
    /// The other end of the host's uplink.
    pub world: Namespace,
    pub network: Network,
    pub config: NetworkConfig,
    pub folder: tempfile::TempDir,
}

pub struct Pod {
    pub namespace: Namespace,
    pub pod: PodNetwork,
    pub ips: Vec<IpAddr>,
}

impl Lab {
    /// A host 192.0.2.10, 2001:db8::10 with forwarding on and a neighbour .1 that is its default route.
    pub fn new(ranges: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (host, world) = (Namespace::create().unwrap(), Namespace::create().unwrap());
        let mut socket = host.route_socket().unwrap();
        let far = VethEnd { name: "eth0", namespace: Some(world.as_fd()), ..VethEnd::default() };
        socket.add_veth(&VethEnd { name: "up0", ..VethEnd::default() }, &far, 1400).unwrap();
        for (space, name, last) in [(&host, "up0", "10"), (&world, "eth0", "1")] {
            let mut socket = space.route_socket().unwrap();
            for name in ["lo", name] {
                let link = socket.link(name).unwrap();
                socket.set_link_up(link.index, true).unwrap();
            }
            let link = socket.link(name).unwrap();
            socket.add_address(link.index, ip(&format!("192.0.2.{last}")), 24).unwrap();
            socket.add_address(link.index, ip(&format!("2001:db8::{last}")), 64).unwrap();
        }
        let mut socket = host.route_socket().unwrap();
        for (any, gateway) in [("0.0.0.0", "192.0.2.1"), ("::", "2001:db8::1")] {
            let route = linux::netlink::route::Route::to(ip(any), 0);
            let gateway = Some(ip(gateway));
            socket.replace_route(&linux::netlink::route::Route { gateway, ..route }).unwrap();
        }
        host.run(|| {
            cni::node::enable_forwarding(false).unwrap();
            cni::node::enable_forwarding(true).unwrap();
        })
        .unwrap();
        let mut config = NetworkConfig::new(folder.path().join("data"));
        config.config_folder = folder.path().join("net.d");
        config.plugin_paths = vec![folder.path().join("bin")];
        config.pod_ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        Self { host, world, network: Network::new(config.clone()), config, folder }
    }

    pub fn pod(&self, name: &str) -> (Namespace, PodNetwork) {
        let namespace = Namespace::create().unwrap();
        let pod = PodNetwork {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            sandbox_id: format!("sandbox-{name}"),
            netns_path: namespace.path(),
            port_mappings: Vec::new(),
            ips: Vec::new(),
        };
        (namespace, pod)
    }

    pub fn add(&self, name: &str) -> Pod {
        self.add_sandbox(name, &format!("sandbox-{name}"))
    }

    pub fn add_sandbox(&self, name: &str, sandbox: &str) -> Pod {
        let (namespace, mut pod) = self.pod(name);
        pod.sandbox_id = sandbox.to_owned();
        let ips = self.host.run(|| self.network.add(&pod)).unwrap().unwrap().ips;
        Pod { namespace, pod, ips }
    }

    pub fn del(&self, pod: &PodNetwork) -> cni::Result<()> {
        self.host.run(|| self.network.del(pod)).unwrap()
    }

    /// All that an attachment adds to the host: links, routes, neighbours, files.
    pub fn state(&self) -> Vec<String> {
        let mut socket = self.host.route_socket().unwrap();
        let mut state: Vec<String> = Vec::new();
        state.extend(socket.links().unwrap().iter().map(|link| format!("link {}", link.name)));
        // The uplink's own routes come and go with its link-local addresses.
        let uplink = socket.link("up0").unwrap().index;
        let routes = socket.routes().unwrap().into_iter().filter(|route| route.link != Some(uplink));
        state.extend(routes.map(|route| format!("route {}/{}", route.destination, route.prefix)));
        state
            .extend(socket.neighbours().unwrap().iter().filter(|n| n.permanent).map(|n| format!("neighbour {}", n.ip)));
        let mut folders = vec![self.folder.path().join("data")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if path.is_dir() {
                    folders.push(path);
                } else if name != "lock" && !name.starts_with("last_reserved_ip") {
                    state.push(format!("file {name}"));
                }
            }
        }
        state.sort();
        state
    }
}

/// Listens at `address` inside `server`, connects from `client`, sends bytes both ways; gives the client's address as
/// the server saw it.
pub fn exchange(client: &Namespace, server: &Namespace, address: IpAddr) -> IpAddr {
    let listener = server.run(|| TcpListener::bind(SocketAddr::new(address, 8080))).unwrap().unwrap();
    let seen = serve_once(listener);
    let text = ask(client, SocketAddr::new(address, 8080)).unwrap();
    assert_eq!(text, "you said hello");
    seen.join().unwrap()
}

/// Answers one connection on a thread; gives the client's address.
pub fn serve_once(listener: TcpListener) -> std::thread::JoinHandle<IpAddr> {
    std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut word = [0; 5];
        stream.read_exact(&mut word).unwrap();
        stream.write_all(format!("you said {}", String::from_utf8_lossy(&word)).as_bytes()).unwrap();
        peer.ip()
    })
}

pub fn ask(client: &Namespace, address: SocketAddr) -> std::io::Result<String> {
    let mut stream = client.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(3))).unwrap()?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"hello")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
