//! Asking the resolvers of the host about all names that are not the cluster's, with a small cache.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one resolver may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the list of resolvers is gone through.
const ROUNDS: usize = 2;
/// How many answers are kept.
const CACHED: usize = 4096;
/// How long an answer is kept at most, and one that says "no" without saying how long.
const LONGEST: Duration = Duration::from_secs(30);
const NEGATIVE: Duration = Duration::from_secs(5);
/// The largest answer we ask for by UDP: one that is not fragmented anywhere.
const UDP_SIZE: u16 = 1232;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    name: Name,
    kind: RecordType,
    dnssec: bool,
}

#[derive(Debug)]
struct Kept {
    message: Message,
    since: Instant,
    until: Instant,
}

/// Asks other resolvers.
#[derive(Debug)]
pub struct Forwarder {
    servers: Vec<SocketAddr>,
    cache: Mutex<HashMap<Key, Kept>>,
}

impl Forwarder {
    /// Asks these resolvers, in this order.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, cache: Mutex::new(HashMap::new()) }
    }

    /// The resolvers that a `resolv.conf` names, without those in `own` (asking ourselves would never end).
    pub fn from_resolv_conf(text: &str, own: &[IpAddr]) -> Self {
        const PORT: u16 = 53;
        let named = transport::resolve::Config::parse(text).servers;
        let servers = named.into_iter().filter(|ip| !own.contains(ip)).map(|ip| SocketAddr::new(ip, PORT)).collect();
        Self::new(servers)
    }

    /// The resolvers asked.
    pub fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// Answers a question; the answer's number is still to be set.
    pub async fn ask(&self, query: &Query, dnssec: bool, recursion: bool) -> Message {
        let key = Key { name: query.name().to_lowercase(), kind: query.query_type(), dnssec };
        if let Some(message) = self.cached(&key) {
            return message;
        }
        for _ in 0..ROUNDS {
            for server in &self.servers {
                let Some(answer) = self.exchange(*server, query, dnssec, recursion).await else { continue };
                // This one cannot help; the next may.
                let code = answer.metadata.response_code;
                if matches!(code, ResponseCode::ServFail | ResponseCode::Refused) && self.servers.len() > 1 {
                    continue;
                }
                self.keep(key, &answer);
                return answer;
            }
        }
        let mut failure = Message::query();
        failure.metadata.response_code = ResponseCode::ServFail;
        failure.into_response()
    }

    async fn exchange(&self, server: SocketAddr, query: &Query, dnssec: bool, recursion: bool) -> Option<Message> {
        // The number and the port are both by lot, so that nobody can answer in the resolver's place.
        let mut request = Message::query();
        request.metadata.recursion_desired = recursion;
        request.add_query(query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_SIZE).set_version(0).set_dnssec_ok(dnssec);
        request.set_edns(edns);
        let bytes = request.to_vec().ok()?;
        let by_udp = timeout(PATIENCE, udp(server, &bytes, &request)).await.ok()?.ok()?;
        if !by_udp.metadata.truncation {
            return Some(by_udp);
        }
        // Too long for UDP; if TCP does not work, the shortened one is better than nothing.
        match timeout(PATIENCE, tcp(server, &bytes, &request)).await {
            Ok(Ok(by_tcp)) => Some(by_tcp),
            _ => Some(by_udp),
        }
    }

    fn cached(&self, key: &Key) -> Option<Message> {
        let mut cache = self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        let kept = cache.get(key)?;
        if kept.until <= now {
            cache.remove(key);
            return None;
        }
        let mut message = kept.message.clone();
        let age = u32::try_from(now.duration_since(kept.since).as_secs()).unwrap_or(u32::MAX);
        for record in message.answers.iter_mut().chain(&mut message.authorities).chain(&mut message.additionals) {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(message)
    }

    fn keep(&self, key: Key, message: &Message) {
        let code = message.metadata.response_code;
        if message.metadata.truncation || !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
            return;
        }
        let records = message.answers.iter().chain(&message.authorities);
        let time = records.map(|record| u64::from(record.ttl)).min().map_or(NEGATIVE, Duration::from_secs).min(LONGEST);
        if time.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut cache = self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if cache.len() >= CACHED {
            cache.retain(|_, kept| kept.until > now);
            if cache.len() >= CACHED {
                cache.clear();
            }
        }
        cache.insert(key, Kept { message: message.clone(), since: now, until: now + time });
    }
}

/// Whether an answer belongs to a request.
fn belongs(answer: &Message, request: &Message) -> bool {
    answer.metadata.id == request.metadata.id && answer.queries == request.queries
}

async fn udp(server: SocketAddr, bytes: &[u8], request: &Message) -> std::io::Result<Message> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // A forged or late answer is passed over; the right one may still come.
        if let Ok(answer) = Message::from_vec(&buffer[..length])
            && belongs(&answer, request)
        {
            return Ok(answer);
        }
    }
}

async fn tcp(server: SocketAddr, bytes: &[u8], request: &Message) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(std::io::Error::other)?;
    if belongs(&answer, request) { Ok(answer) } else { Err(std::io::Error::other("an answer to another question")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_come_from_resolv_conf() {
        let text =
            "# c\nnameserver 192.0.2.1\nsearch a b\nnameserver fe80::1%eth0\nnameserver x\nnameserver 10.43.0.10\n";
        let forwarder = Forwarder::from_resolv_conf(text, &["10.43.0.10".parse().unwrap()]);
        let servers: Vec<String> = forwarder.servers().iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[fe80::1]:53"]);
    }

    #[tokio::test]
    async fn without_resolvers_the_answer_is_failure() {
        let query = Query::query(Name::from_ascii("example.org.").unwrap(), RecordType::A);
        let answer = Forwarder::new(vec![]).ask(&query, false, true).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    }
}
