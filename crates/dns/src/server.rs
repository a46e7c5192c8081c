//! The protocol: questions come by UDP and TCP, answers go back the same way.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::answer::{Answer, answer, authority};
use crate::{Error, Forwarder, Records, Result};

/// The largest answer by UDP: one that is not fragmented anywhere.
const UDP_SIZE: u16 = 1232;
/// What an asker without EDNS can take.
const PLAIN_SIZE: u16 = 512;
/// How many questions are worked on at once, and how many connections are open.
const AT_ONCE: usize = 1024;
const CONNECTIONS: usize = 256;
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// Where the server listens.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// UDP and TCP addresses.
    pub listen: Vec<SocketAddr>,
    /// Who is answered beside nodes (addresses and lengths of prefixes), everybody when empty: a server that answers
    /// the whole world can be used to flood others.
    pub allow: Vec<(IpAddr, u8)>,
}

/// A server that listens, but does not answer until [`Server::run`].
#[derive(Debug)]
pub struct Server {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    records: Arc<RwLock<Records>>,
    forwarder: Forwarder,
    allow: Vec<(IpAddr, u8)>,
    working: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Server {
    /// Opens the sockets.
    pub async fn bind(config: &ServerConfig, records: Arc<RwLock<Records>>, forwarder: Forwarder) -> Result<Self> {
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for address in &config.listen {
            let failed = |source| Error::Listen { address: *address, source };
            let socket = UdpSocket::bind(address).await.map_err(failed)?;
            // With port 0 both take the one that UDP got.
            let bound = socket.local_addr().map_err(failed)?;
            tcp.push(TcpListener::bind(bound).await.map_err(failed)?);
            udp.push(socket);
        }
        let shared = Shared {
            records,
            forwarder,
            allow: config.allow.clone(),
            working: Arc::new(Semaphore::new(AT_ONCE)),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
        };
        Ok(Self { udp, tcp, shared: Arc::new(shared) })
    }

    /// The addresses listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.udp.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Answers until the task is dropped.
    pub async fn run(self) {
        let mut tasks = tokio::task::JoinSet::new();
        for socket in self.udp {
            tasks.spawn(serve_udp(Arc::new(socket), self.shared.clone()));
        }
        for listener in self.tcp {
            tasks.spawn(serve_tcp(listener, self.shared.clone()));
        }
        while tasks.join_next().await.is_some() {}
    }
}

impl Shared {
    fn allows(&self, peer: IpAddr) -> bool {
        // An IPv4 asker at an IPv6 socket.
        let peer = match peer {
            IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
            ip => ip,
        };
        self.allow.is_empty()
            || peer.is_loopback()
            || self.allow.iter().any(|prefix| contains(*prefix, peer))
            || self.records.read().unwrap_or_else(std::sync::PoisonError::into_inner).is_node(peer)
    }
}

fn contains((network, length): (IpAddr, u8), ip: IpAddr) -> bool {
    match (network, ip) {
        (IpAddr::V4(network), IpAddr::V4(ip)) => {
            (network.to_bits() ^ ip.to_bits()).leading_zeros() >= u32::from(length.min(32))
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) => {
            (network.to_bits() ^ ip.to_bits()).leading_zeros() >= u32::from(length.min(128))
        }
        _ => false,
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut buffer = vec![0; 4096];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An earlier answer could not be delivered; that says nothing about the next question.
            Err(_) => continue,
        };
        if !shared.allows(peer.ip()) {
            continue;
        }
        // Too many questions at once: the asker will ask again.
        let Ok(permit) = shared.working.clone().try_acquire_owned() else { continue };
        let question = buffer[..length].to_vec();
        let (socket, shared) = (socket.clone(), shared.clone());
        tokio::spawn(async move {
            let _permit = permit;
            if let Some(reply) = respond(&question, &shared, false).await {
                let _ = socket.send_to(&reply, peer).await;
            }
        });
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok(permit) = shared.connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((_, peer)) if !shared.allows(peer.ip()) => {}
            Ok((stream, _)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    let _ = converse(stream, &shared).await;
                });
            }
            // Out of descriptors, most likely: they come back.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    loop {
        let length = match timeout(SILENCE, stream.read_u16()).await {
            Ok(Ok(length)) => length,
            _ => return Ok(()),
        };
        let mut question = vec![0; usize::from(length)];
        timeout(SILENCE, stream.read_exact(&mut question)).await??;
        let Some(reply) = respond(&question, shared, true).await else { return Ok(()) };
        let Ok(length) = u16::try_from(reply.len()) else { return Ok(()) };
        timeout(SILENCE, stream.write_all(&[&length.to_be_bytes()[..], &reply].concat())).await??;
    }
}

/// Answers one message; `None` for what deserves no answer.
async fn respond(bytes: &[u8], shared: &Shared, stream: bool) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let request = match Message::from_vec(bytes) {
        Ok(request) if request.metadata.message_type == MessageType::Query => request,
        // Answering an answer could go on for ever.
        Ok(_) => return None,
        Err(_) if bytes.len() < HEADER || bytes[2] & 0x80 != 0 => return None,
        Err(_) => {
            let id = u16::from_be_bytes([bytes[0], bytes[1]]);
            return Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok();
        }
    };
    let mut reply = reply_to(&request, shared).await;
    reply.metadata.id = request.metadata.id;
    reply.metadata.op_code = request.metadata.op_code;
    reply.metadata.message_type = MessageType::Response;
    reply.metadata.recursion_desired = request.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    // The question is repeated letter by letter, with the asker's capitals: some check that.
    reply.queries.clone_from(&request.queries);
    reply.edns = request.edns.as_ref().map(|asked| {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_SIZE).set_version(0).set_dnssec_ok(asked.flags().dnssec_ok);
        edns
    });
    let limit = match (&request.edns, stream) {
        (_, true) => u16::MAX,
        (Some(edns), false) => edns.max_payload().clamp(PLAIN_SIZE, UDP_SIZE),
        (None, false) => PLAIN_SIZE,
    };
    let encoded = reply.to_vec().ok()?;
    if encoded.len() <= usize::from(limit) {
        return Some(encoded);
    }
    // First what was only a courtesy goes, then all of it: the asker comes again by TCP.
    reply.additionals.clear();
    let encoded = reply.to_vec().ok()?;
    if encoded.len() <= usize::from(limit) {
        return Some(encoded);
    }
    reply.truncate().to_vec().ok()
}

async fn reply_to(request: &Message, shared: &Shared) -> Message {
    let mut reply = Message::query().into_response();
    let refuse = |mut reply: Message, code| {
        reply.metadata.response_code = code;
        reply
    };
    if request.metadata.op_code != OpCode::Query {
        return refuse(reply, ResponseCode::NotImp);
    }
    if request.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return refuse(reply, ResponseCode::BADVERS);
    }
    let [query] = request.queries.as_slice() else {
        return refuse(reply, ResponseCode::FormErr);
    };
    if query.query_class() != DNSClass::IN {
        return refuse(reply, ResponseCode::Refused);
    }
    if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
        return refuse(reply, ResponseCode::Refused);
    }
    let dnssec = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
    let (found, soa) = {
        let records = shared.records.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        (answer(query.name(), query.query_type(), &records), authority(&records))
    };
    reply.metadata.authoritative = true;
    match found {
        Answer::Found { mut answers, additionals } => {
            // Whoever takes the first address shall not always take the same one.
            let turn = usize::from(request.metadata.id) % answers.len().max(1);
            answers.rotate_left(turn);
            reply.answers = answers;
            reply.additionals = additionals;
        }
        Answer::NoData => reply.authorities.push(soa),
        Answer::NoName => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            reply.authorities.push(soa);
        }
        Answer::Alias { alias, target } => {
            reply.answers.push(*alias);
            if query.query_type() != RecordType::CNAME {
                let next = Query::query(target, query.query_type());
                follow(&mut reply, next, shared, dnssec).await;
            }
        }
        Answer::Elsewhere => {
            return shared.forwarder.ask(query, dnssec, request.metadata.recursion_desired).await;
        }
    }
    reply
}

/// Adds what an alias leads to: another name of the cluster, or one from elsewhere.
async fn follow(reply: &mut Message, query: Query, shared: &Shared, dnssec: bool) {
    let found = {
        let records = shared.records.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        answer(query.name(), query.query_type(), &records)
    };
    match found {
        Answer::Found { answers, .. } => reply.answers.extend(answers),
        // An alias of an alias is for the asker to follow: two services could stand for each other.
        Answer::Alias { alias, .. } => reply.answers.push(*alias),
        Answer::NoData | Answer::NoName => {}
        Answer::Elsewhere => {
            let more = shared.forwarder.ask(&query, dnssec, true).await;
            reply.metadata.response_code = more.metadata.response_code;
            reply.metadata.authoritative = false;
            reply.answers.extend(more.answers);
            reply.authorities.extend(more.authorities);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_contain_addresses() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (network, length, address, inside) in [
            ("10.42.0.0", 16, "10.42.7.1", true),
            ("10.42.0.0", 16, "10.43.7.1", false),
            ("0.0.0.0", 0, "203.0.113.1", true),
            ("fd42::", 48, "fd42::7", true),
            ("fd42::", 48, "fd43::7", false),
            ("192.0.2.1", 32, "192.0.2.1", true),
            ("192.0.2.1", 32, "192.0.2.2", false),
        ] {
            assert_eq!(contains((ip(network), length), ip(address)), inside, "{network}/{length} {address}");
        }
    }
}
