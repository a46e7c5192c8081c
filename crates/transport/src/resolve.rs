//! The one resolver: hosts file, then DNS as resolv.conf says, spoken by ourselves over UDP and TCP.
//!
//! # Why
//! A static glibc cannot load the name service modules that `getaddrinfo` needs, so the standard library's lookup would
//! fail on the machines we run on. Both files are read again when they change.

use crate::{Error, Result};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Answers are kept for their TTL, but never longer than this.
const MAX_TTL: u32 = 30;

/// Names whose answers are kept.
const MAX_CACHED: usize = 1024;

/// Names tried because of the search list, as in glibc.
const MAX_SEARCH: usize = 32;

/// Turns names into addresses; cheap to clone.
#[derive(Clone, Debug)]
pub struct Resolver {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hosts_path: PathBuf,
    resolv_path: PathBuf,
    port: u16,
    files: Mutex<Files>,
    cache: Mutex<HashMap<String, (Instant, Vec<IpAddr>)>>,
}

/// Both files as last read, with the times that tell whether they changed.
#[derive(Debug, Default)]
struct Files {
    stamp: Option<[Option<SystemTime>; 2]>,
    hosts: Arc<HashMap<String, Vec<IpAddr>>>,
    config: Arc<Config>,
}

/// What resolv.conf says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Servers in the order they are asked.
    pub servers: Vec<IpAddr>,
    /// Domains appended to short names.
    pub search: Vec<String>,
    /// Names with at least this many dots are tried as they are first.
    pub ndots: usize,
    /// Wait for one answer.
    pub timeout: Duration,
    /// Rounds over all servers.
    pub attempts: usize,
    /// Whether TCP is used from the start.
    pub tcp: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            servers: vec![Ipv4Addr::LOCALHOST.into()],
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            tcp: false,
        }
    }
}

impl Config {
    /// Parses resolv.conf; lines it does not understand are skipped, as every resolver does.
    pub fn parse(text: &str) -> Self {
        let mut config = Self { servers: Vec::new(), ..Self::default() };
        for line in text.lines() {
            let mut words = line.split([' ', '\t']).filter(|w| !w.is_empty());
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|w| w.split('%').next()).and_then(|w| w.parse::<IpAddr>().ok());
                    config.servers.extend(address);
                }
                Some("domain" | "search") => {
                    config.search = words.map(|w| w.trim_end_matches('.').to_ascii_lowercase()).collect();
                    config.search.retain(|d| !d.is_empty());
                    config.search.truncate(MAX_SEARCH);
                }
                Some("options") => words.for_each(|w| config.option(w)),
                _ => {}
            }
        }
        config.servers.truncate(3);
        if config.servers.is_empty() {
            config.servers = Self::default().servers;
        }
        config
    }

    fn option(&mut self, word: &str) {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        let number = value.parse::<u64>().ok();
        match (name, number) {
            ("ndots", Some(n)) => self.ndots = n.min(15) as usize,
            ("timeout", Some(n)) => self.timeout = Duration::from_secs(n.clamp(1, 30)),
            ("attempts", Some(n)) => self.attempts = n.clamp(1, 5) as usize,
            ("use-vc", _) => self.tcp = true,
            _ => {}
        }
    }

    /// Full names to ask for, in order.
    fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(full) = host.strip_suffix('.') {
            return vec![full.to_owned()];
        }
        let mut out: Vec<String> = self.search.iter().map(|d| format!("{host}.{d}")).collect();
        let dots = host.bytes().filter(|b| *b == b'.').count();
        out.insert(if dots >= self.ndots { 0 } else { out.len() }, host.to_owned());
        out
    }
}

/// Parses a hosts file.
fn parse_hosts(text: &str) -> HashMap<String, Vec<IpAddr>> {
    let mut out: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        if let Some(ip) = words.next().and_then(|w| w.split('%').next()).and_then(|w| w.parse::<IpAddr>().ok()) {
            for name in words {
                let ips = out.entry(name.trim_end_matches('.').to_ascii_lowercase()).or_default();
                if !ips.contains(&ip) {
                    ips.push(ip);
                }
            }
        }
    }
    out
}

impl Default for Resolver {
    fn default() -> Self {
        Self::system()
    }
}

impl Resolver {
    /// By `/etc/hosts` and `/etc/resolv.conf`.
    pub fn system() -> Self {
        Self::with_files("/etc/hosts", "/etc/resolv.conf", 53)
    }

    /// By other files, and asking servers at another port.
    pub fn with_files(hosts: impl Into<PathBuf>, resolv: impl Into<PathBuf>, port: u16) -> Self {
        let (files, cache) = Default::default();
        Self { inner: Arc::new(Inner { hosts_path: hosts.into(), resolv_path: resolv.into(), port, files, cache }) }
    }

    /// All addresses of a host, preferred first; an address stands for itself.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>> {
        let failed = |reason: &str| Error::Resolve { host: host.to_owned(), reason: reason.to_owned() };
        let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = literal.parse::<IpAddr>() {
            return Ok(vec![ip]);
        }
        if host.is_empty() || host.len() > 254 {
            return Err(failed("not a host name"));
        }
        let name = host.to_ascii_lowercase();
        let bare = name.trim_end_matches('.');
        let (hosts, config) = self.inner.files();
        if let Some(ips) = hosts.get(bare) {
            return Ok(ips.clone());
        }
        // RFC 6761: these never leave the machine.
        if bare == "localhost" || bare.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        if let Some(ips) = self.inner.cached(&name) {
            return Ok(ips);
        }
        let mut reason = "no such name".to_owned();
        for candidate in config.candidates(&name) {
            let Ok(full) = Name::from_ascii(&candidate).map(|mut n| {
                n.set_fqdn(true);
                n
            }) else {
                reason = "not a host name".into();
                continue;
            };
            let (v4, v6) = tokio::join!(
                self.inner.ask(&config, &full, RecordType::A),
                self.inner.ask(&config, &full, RecordType::AAAA)
            );
            let mut found = Found::default();
            for answer in [v4, v6] {
                match answer {
                    Ok(part) => found.merge(part),
                    Err(e) => reason = e.to_string(),
                }
            }
            if !found.ips.is_empty() {
                self.inner.remember(name, &found);
                return Ok(found.ips);
            }
        }
        Err(failed(&reason))
    }
}

/// Addresses and how long they hold.
#[derive(Debug, Default)]
struct Found {
    ips: Vec<IpAddr>,
    ttl: Option<u32>,
}

impl Found {
    fn merge(&mut self, other: Self) {
        self.ips.extend(other.ips);
        self.ttl = [self.ttl, other.ttl].into_iter().flatten().min();
    }
}

impl Inner {
    /// What the files say now; a missing file says nothing.
    fn files(&self) -> (Arc<HashMap<String, Vec<IpAddr>>>, Arc<Config>) {
        let modified = |p: &Path| std::fs::metadata(p).and_then(|m| m.modified()).ok();
        let stamp = Some([modified(&self.hosts_path), modified(&self.resolv_path)]);
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.stamp != stamp {
            let read = |p: &Path| std::fs::read_to_string(p).unwrap_or_default();
            files.hosts = Arc::new(parse_hosts(&read(&self.hosts_path)));
            files.config = Arc::new(Config::parse(&read(&self.resolv_path)));
            files.stamp = stamp;
            self.cache.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        (files.hosts.clone(), files.config.clone())
    }

    fn cached(&self, name: &str) -> Option<Vec<IpAddr>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(name).filter(|(until, _)| *until > Instant::now()).map(|(_, ips)| ips.clone())
    }

    fn remember(&self, name: String, found: &Found) {
        let ttl = found.ttl.unwrap_or(0).min(MAX_TTL);
        if ttl > 0 {
            let now = Instant::now();
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if cache.len() >= MAX_CACHED {
                cache.retain(|_, (until, _)| *until > now);
            }
            if cache.len() < MAX_CACHED {
                cache.insert(name, (now + Duration::from_secs(ttl.into()), found.ips.clone()));
            }
        }
    }

    /// Asks the servers in turn until one gives an answer; that a name does not exist is an answer too.
    async fn ask(&self, config: &Config, name: &Name, kind: RecordType) -> io::Result<Found> {
        let mut last = io::Error::other("no name server is configured");
        for _ in 0..config.attempts {
            for ip in &config.servers {
                let server = SocketAddr::new(*ip, self.port);
                match tokio::time::timeout(config.timeout, exchange(server, name, kind, config.tcp)).await {
                    Ok(Ok(answer)) => match answer.metadata.response_code {
                        ResponseCode::NoError => return Ok(addresses(&answer)),
                        ResponseCode::NXDomain => return Ok(Found::default()),
                        code => last = io::Error::other(format!("name server {ip} answered {code}")),
                    },
                    Ok(Err(e)) => last = io::Error::other(format!("name server {ip}: {e}")),
                    Err(_) => last = io::Error::other(format!("name server {ip} did not answer")),
                }
            }
        }
        Err(last)
    }
}

/// The addresses of an answer. Names along a CNAME chain are not compared: the server asked is trusted to recurse.
fn addresses(answer: &Message) -> Found {
    let mut found = Found::default();
    for record in &answer.answers {
        let ip = match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(a) => Some(IpAddr::V6(a.0)),
            _ => None,
        };
        found.merge(Found { ips: ip.into_iter().collect(), ttl: Some(record.ttl) });
    }
    found
}

/// One question and its answer, over UDP unless the answer is cut short.
async fn exchange(server: SocketAddr, name: &Name, kind: RecordType, tcp: bool) -> io::Result<Message> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    let bytes = question.to_vec().map_err(io::Error::other)?;
    let fits = |answer: &Message| {
        answer.metadata.id == question.metadata.id
            && answer.metadata.message_type == hickory_proto::op::MessageType::Response
            && answer.queries.first().is_some_and(|q| q.name() == name && q.query_type() == kind)
    };
    if !tcp {
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        // A socket of its own, connected: the kernel picks a random port and drops what others send to it.
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        socket.connect(server).await?;
        socket.send(&bytes).await?;
        let mut buffer = vec![0; 4096];
        loop {
            let length = socket.recv(&mut buffer).await?;
            // What does not fit is a late or forged answer; the right one may still come.
            if let Ok(answer) = Message::from_vec(&buffer[..length])
                && fits(&answer)
            {
                if answer.metadata.truncation {
                    break;
                }
                return Ok(answer);
            }
        }
    }
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(io::Error::other)?;
    if fits(&answer) { Ok(answer) } else { Err(io::Error::other("the answer is to another question")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_glibc_does() {
        let text = "# c\nnameserver 10.96.0.10\nnameserver fe80::1%eth0\nnameserver junk\nsearch a.B. c\noptions ndots:5 timeout:99 attempts:0 use-vc rotate\n";
        let config = Config::parse(text);
        assert_eq!(config.servers, ["10.96.0.10".parse::<IpAddr>().unwrap(), "fe80::1".parse().unwrap()]);
        assert_eq!((config.ndots, config.timeout.as_secs(), config.attempts, config.tcp), (5, 30, 1, true));
        assert_eq!(config.candidates("svc.ns"), ["svc.ns.a.b", "svc.ns.c", "svc.ns"]);
        assert_eq!(config.candidates("a.b.c.d.e.f"), ["a.b.c.d.e.f", "a.b.c.d.e.f.a.b", "a.b.c.d.e.f.c"]);
        assert_eq!(config.candidates("svc."), ["svc"]);
        assert_eq!(Config::parse(""), Config::default());
    }

    #[test]
    fn hosts_lines_have_comments_and_aliases() {
        let hosts = parse_hosts("127.0.0.1 localhost\n::1 localhost ip6 # c\n# x\nbad name\n10.0.0.1 A. b");
        assert_eq!(hosts["localhost"].len(), 2);
        assert_eq!(hosts["a"], hosts["b"]);
        assert!(!hosts.contains_key("name") && !hosts.contains_key("c"));
    }
}
