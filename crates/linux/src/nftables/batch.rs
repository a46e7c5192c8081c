//! Changes to be made together.

use super::rule::Rule;
use super::set::{Element, Set, SetKind};
use super::{Family, SUBSYSTEM, check_name, comment, expr, header};
use crate::netlink::Result;
use crate::netlink::wire::Message;

const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const DELSET: u16 = 11;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;

/// A table: a namespace of chains and sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table {
    /// The packets it sees.
    pub family: Family,
    /// Its name.
    pub name: String,
}

impl Table {
    /// A table by name.
    pub fn new(family: Family, name: impl Into<String>) -> Self {
        Self { family, name: name.into() }
    }
}

/// Where packets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HookPoint {
    /// All that arrives.
    Prerouting,
    /// What is for this host.
    Input,
    /// What is passed on.
    Forward,
    /// What this host sends.
    Output,
    /// All that leaves.
    Postrouting,
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChainKind {
    /// Accept, drop, mark.
    Filter,
    /// Change addresses; sees the first packet of a connection only.
    Nat,
    /// Like a filter, but a change of mark or address in the output hook looks the route up again.
    Route,
}

/// What happens to packets that reach the end of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// They go on.
    Accept,
    /// They vanish.
    Drop,
}

/// How a base chain is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hook {
    /// What it may do.
    pub kind: ChainKind,
    /// Where.
    pub point: HookPoint,
    /// Lower goes first.
    pub priority: i32,
    /// What happens at its end.
    pub policy: Policy,
}

impl Hook {
    /// A hook that lets pass what no rule decides.
    pub fn new(kind: ChainKind, point: HookPoint, priority: i32) -> Self {
        Self { kind, point, priority, policy: Policy::Accept }
    }
}

/// Priority of destination address translation.
pub const PRIORITY_DSTNAT: i32 = -100;
/// Priority of source address translation.
pub const PRIORITY_SRCNAT: i32 = 100;
/// Priority of filters.
pub const PRIORITY_FILTER: i32 = 0;

/// A chain; one with a hook is entered by packets, one without by other chains.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where packets enter it.
    pub hook: Option<Hook>,
}

impl Chain {
    /// A chain that other chains lead to.
    pub fn regular(name: impl Into<String>) -> Self {
        Self { name: name.into(), hook: None }
    }

    /// A chain that packets enter.
    pub fn base(name: impl Into<String>, hook: Hook) -> Self {
        Self { name: name.into(), hook: Some(hook) }
    }
}

/// Changes that are made together, in order.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    messages: Vec<(String, Message)>,
    length: usize,
    next_set_id: u32,
}

pub(super) fn boundary(begin: bool) -> Message {
    const BEGIN: u16 = 0x10;
    const END: u16 = 0x11;
    Message::new(if begin { BEGIN } else { END }, 0, &header(0, SUBSYSTEM))
}

pub(super) fn message(family: Family, kind: u16, flags: i32) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, flags, &header(family.number(), 0))
}

const CREATE: i32 = libc::NLM_F_CREATE;

impl Batch {
    /// A batch without changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it has no changes.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    pub(super) fn messages(&self) -> &[(String, Message)] {
        &self.messages
    }

    fn push(&mut self, operation: String, message: Message) {
        self.length += message.len();
        self.messages.push((operation, message));
    }

    /// Makes a table unless it is there.
    pub fn add_table(&mut self, table: &Table) -> Result<()> {
        check_name(&table.name)?;
        let mut out = message(table.family, NEWTABLE, CREATE);
        out.str(1, &table.name).be32(2, 0);
        self.push(format!("add table {}", table.name), out);
        Ok(())
    }

    /// Removes a table with all it holds; it must be there.
    pub fn delete_table(&mut self, table: &Table) -> Result<()> {
        let mut out = message(table.family, DELTABLE, 0);
        out.str(1, &table.name);
        self.push(format!("delete table {}", table.name), out);
        Ok(())
    }

    /// Removes a table if it is there.
    pub fn destroy_table(&mut self, table: &Table) -> Result<()> {
        self.add_table(table)?;
        self.delete_table(table)
    }

    /// Makes a chain unless it is there.
    pub fn add_chain(&mut self, table: &Table, chain: &Chain) -> Result<()> {
        const TABLE: u16 = 1;
        const NAME: u16 = 3;
        const HOOK: u16 = 4;
        const POLICY: u16 = 5;
        const TYPE: u16 = 7;
        check_name(&chain.name)?;
        let mut out = message(table.family, NEWCHAIN, CREATE);
        out.str(TABLE, &table.name).str(NAME, &chain.name);
        if let Some(hook) = &chain.hook {
            let point = match hook.point {
                HookPoint::Prerouting => 0,
                HookPoint::Input => 1,
                HookPoint::Forward => 2,
                HookPoint::Output => 3,
                HookPoint::Postrouting => 4,
            };
            out.nest(HOOK, |inner| {
                inner.be32(1, point).be32(2, hook.priority as u32);
            });
            out.be32(POLICY, u32::from(hook.policy == Policy::Accept));
            out.str(
                TYPE,
                match hook.kind {
                    ChainKind::Filter => "filter",
                    ChainKind::Nat => "nat",
                    ChainKind::Route => "route",
                },
            );
        }
        self.push(format!("add chain {}", chain.name), out);
        Ok(())
    }

    /// Removes an empty chain nothing leads to.
    pub fn delete_chain(&mut self, table: &Table, chain: &str) -> Result<()> {
        let mut out = message(table.family, DELCHAIN, 0);
        out.str(1, &table.name).str(3, chain);
        self.push(format!("delete chain {chain}"), out);
        Ok(())
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, table: &Table, chain: &str) -> Result<()> {
        let mut out = message(table.family, DELRULE, 0);
        out.str(1, &table.name).str(2, chain);
        self.push(format!("flush chain {chain}"), out);
        Ok(())
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, table: &Table, chain: &str, rule: &Rule) -> Result<()> {
        const EXPRESSIONS: u16 = 4;
        const USERDATA: u16 = 7;
        let mut inline = Vec::new();
        for set in rule.inline_sets() {
            self.next_set_id += 1;
            let (set, elements) = set;
            let mut named = set.clone();
            named.name = if set.is_map() { "__map%d" } else { "__set%d" }.to_owned();
            self.write_set(table, &named, Some(self.next_set_id))?;
            self.write_elements(table, &named, elements, Some(self.next_set_id), NEWSETELEM)?;
            inline.push((named.name, self.next_set_id));
        }
        let mut out = message(table.family, NEWRULE, CREATE | libc::NLM_F_APPEND);
        out.str(1, &table.name).str(2, chain);
        let mut inline = inline.into_iter();
        out.nest(EXPRESSIONS, |list| {
            for expression in rule.expressions() {
                expr::encode(list, table.family, expression, &mut inline);
            }
        });
        if let Some(text) = rule.comment_text() {
            out.attr(USERDATA, &comment(text));
        }
        self.push(format!("add rule to chain {chain}"), out);
        Ok(())
    }

    /// Removes a rule by its handle.
    pub fn delete_rule(&mut self, table: &Table, chain: &str, handle: u64) -> Result<()> {
        let mut out = message(table.family, DELRULE, 0);
        out.str(1, &table.name).str(2, chain).be64(3, handle);
        self.push(format!("delete a rule of chain {chain}"), out);
        Ok(())
    }

    /// Makes a set or map unless it is there.
    pub fn add_set(&mut self, table: &Table, set: &Set) -> Result<()> {
        check_name(&set.name)?;
        self.next_set_id += 1;
        self.write_set(table, set, Some(self.next_set_id))
    }

    fn write_set(&mut self, table: &Table, set: &Set, id: Option<u32>) -> Result<()> {
        const FLAGS: u16 = 3;
        const KEY_TYPE: u16 = 4;
        const KEY_LENGTH: u16 = 5;
        const DATA_TYPE: u16 = 6;
        const DATA_LENGTH: u16 = 7;
        const DESCRIPTION: u16 = 9;
        const ID: u16 = 10;
        const TIMEOUT: u16 = 11;
        let mut out = message(table.family, NEWSET, CREATE);
        out.str(1, &table.name).str(2, &set.name).be32(FLAGS, set.flag_bits());
        out.be32(KEY_TYPE, super::set::type_number(&set.key)).be32(KEY_LENGTH, super::set::length(&set.key) as u32);
        match &set.kind {
            SetKind::Set => {}
            SetKind::VerdictMap => {
                const VERDICT: u32 = 0xffff_ff00;
                out.be32(DATA_TYPE, VERDICT).be32(DATA_LENGTH, 16);
            }
            SetKind::Map(data) => {
                out.be32(DATA_TYPE, super::set::type_number(data));
                out.be32(DATA_LENGTH, super::set::length(data) as u32);
            }
        }
        if let Some(id) = id {
            out.be32(ID, id);
        }
        if let Some(timeout) = set.timeout {
            out.be64(TIMEOUT, timeout.as_millis() as u64);
        }
        // The kernel wants the parts of a key described for ranges only, and refuses it otherwise.
        let ranges = set.interval && set.key.len() > 1;
        if set.size.is_some() || ranges {
            out.nest(DESCRIPTION, |description| {
                if let Some(size) = set.size {
                    description.be32(1, size);
                }
                if ranges {
                    description.nest(2, |fields| {
                        for field in &set.key {
                            fields.nest(1, |entry| {
                                entry.be32(1, field.length() as u32);
                            });
                        }
                    });
                }
            });
        }
        self.push(format!("add set {}", set.name), out);
        Ok(())
    }

    /// Removes a set nothing refers to.
    pub fn delete_set(&mut self, table: &Table, set: &str) -> Result<()> {
        let mut out = message(table.family, DELSET, 0);
        out.str(1, &table.name).str(2, set);
        self.push(format!("delete set {set}"), out);
        Ok(())
    }

    /// Removes all elements of a set.
    pub fn flush_set(&mut self, table: &Table, set: &str) -> Result<()> {
        let mut out = message(table.family, DELSETELEM, 0);
        out.str(1, &table.name).str(2, set);
        self.push(format!("flush set {set}"), out);
        Ok(())
    }

    /// Adds elements to a set. An element of a map that is there with other data is refused: delete it first.
    pub fn add_elements(&mut self, table: &Table, set: &Set, elements: &[Element]) -> Result<()> {
        self.write_elements(table, set, elements, None, NEWSETELEM)
    }

    /// Removes elements, which must be there.
    pub fn delete_elements(&mut self, table: &Table, set: &Set, elements: &[Element]) -> Result<()> {
        self.write_elements(table, set, elements, None, DELSETELEM)
    }

    fn write_elements(
        &mut self,
        table: &Table,
        set: &Set,
        elements: &[Element],
        id: Option<u32>,
        kind: u16,
    ) -> Result<()> {
        const ELEMENTS: u16 = 3;
        const ID: u16 = 4;
        // An attribute holds at most 64 KiB; an element is well below 600 bytes.
        const PER_MESSAGE: usize = 100;
        for chunk in elements.chunks(PER_MESSAGE) {
            let mut out = message(table.family, kind, if kind == NEWSETELEM { CREATE } else { 0 });
            out.str(1, &table.name).str(2, &set.name);
            if let Some(id) = id {
                out.be32(ID, id);
            }
            out.nest(ELEMENTS, |list| {
                for element in chunk {
                    element.encode(list, set, kind == DELSETELEM);
                }
            });
            let verb = if kind == NEWSETELEM { "add elements to" } else { "delete elements of" };
            self.push(format!("{verb} set {}", set.name), out);
        }
        Ok(())
    }
}
