//! nf_tables: rulesets changed in transactions over netlink.
//!
//! A [`Batch`] collects changes and [`Tables::apply`] makes them all at once or none. Rules are built from typed
//! expressions (see [`rule::Rule`]); their inline sets are made along with them.
//!
//! Registers are numbered in slots of four bytes, 0 to 15. By convention keys begin at slot 0 and what a map gives
//! begins at [`rule::RESULT`], so that the longest IPv6 key and the longest result fit side by side.
//!
//! Start reading at [`Batch`], then [`rule`].

pub mod batch;
pub mod expr;
pub mod list;
pub mod rule;
pub mod set;

use crate::netlink::{Error, Result, Socket, refusal, wire};

pub use batch::{Batch, Chain, Hook, HookPoint, Policy, Table};
pub use expr::{DynsetOp, Expr, MetaKey, NatKind, Reject, Verdict};
pub use rule::{Field, Rule};
pub use set::{DataType, Element, Key, Set, SetKind};

pub(crate) const SUBSYSTEM: u16 = 10;

/// The packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// IPv4 and IPv6.
    Inet,
    /// What crosses bridges.
    Bridge,
}

impl Family {
    pub(crate) fn number(self) -> u8 {
        match self {
            Family::Inet => 1,
            Family::Ip => libc::NFPROTO_IPV4 as u8,
            Family::Bridge => libc::NFPROTO_BRIDGE as u8,
            Family::Ip6 => libc::NFPROTO_IPV6 as u8,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Family::Inet, Family::Ip, Family::Bridge, Family::Ip6].into_iter().find(|family| family.number() == number)
    }

    /// Its name as rulesets are written.
    pub fn name(self) -> &'static str {
        match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Inet => "inet",
            Family::Bridge => "bridge",
        }
    }
}

/// A connection to the nf_tables of one network namespace.
#[derive(Debug)]
pub struct Tables {
    pub(crate) socket: Socket,
}

impl Tables {
    /// Connects to the caller's network namespace.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::netfilter()? })
    }

    /// Connects to another network namespace.
    pub fn open_in(namespace: std::os::fd::BorrowedFd<'_>) -> Result<Self> {
        crate::netlink::namespace::run_in(namespace, Self::open)?
    }

    /// Makes all changes of a batch, or none of them.
    pub fn apply(&mut self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(batch.len() + 64);
        let mut operations = Vec::new();
        let first = self.socket.next_sequence();
        bytes.extend_from_slice(batch::boundary(true).finish(libc::NLM_F_REQUEST as u16, first));
        for (operation, message) in batch.messages() {
            let sequence = self.socket.next_sequence();
            bytes.extend_from_slice(message.clone().finish(libc::NLM_F_REQUEST as u16, sequence));
            operations.push((sequence, operation));
        }
        let last = self.socket.next_sequence();
        bytes.extend_from_slice(batch::boundary(false).finish(libc::NLM_F_REQUEST as u16, last));
        self.socket.reserve_send(bytes.len());
        self.socket.send_raw(&bytes)?;
        // The kernel works a batch off while it is sent: when that returns, all refusals wait in the socket.
        let mut failure = None;
        while let Some(messages) = self.socket.receive(false, "change nftables")? {
            for (flags, reply) in messages {
                if i32::from(reply.kind) != libc::NLMSG_ERROR {
                    continue;
                }
                let operation = operations.iter().find(|(sequence, _)| *sequence == reply.sequence);
                let ours = operation.is_some() || reply.sequence == first || reply.sequence == last;
                let name = operation.map_or("change nftables", |(_, name)| name.as_str());
                if ours && failure.is_none() {
                    failure = refusal(name, &reply, flags);
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

pub(crate) fn header(family: u8, resource: u16) -> [u8; 4] {
    let resource = resource.to_be_bytes();
    [family, 0, resource[0], resource[1]]
}

fn absent_as_none<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

fn check_name(name: &str) -> Result<()> {
    const LONGEST: usize = 200;
    if name.is_empty() || name.len() > LONGEST || name.contains('\0') {
        return Err(Error::Invalid(format!("{name:?} is not a name for nftables")));
    }
    Ok(())
}

/// A comment as tools write and read it.
pub(crate) fn comment(text: &str) -> Vec<u8> {
    const LONGEST: usize = 128;
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = vec![0, end as u8 + 1];
    bytes.extend_from_slice(&text.as_bytes()[..end]);
    bytes.push(0);
    bytes
}

pub(crate) fn read_comment(bytes: &[u8]) -> Option<String> {
    (bytes.len() > 2 && bytes[0] == 0).then(|| wire::text(&bytes[2..]))
}
