//! What a namespace's nf_tables hold.

use super::batch::{Table, message};
use super::{Family, Tables, absent_as_none, read_comment};
use crate::netlink::Result;
use crate::netlink::wire::{Attributes, Message};

const GETTABLE: u16 = 1;
const GETCHAIN: u16 = 4;
const GETRULE: u16 = 7;
const GETSET: u16 = 10;
const GETSETELEM: u16 = 13;

/// A rule that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRule {
    /// The chain it is in.
    pub chain: String,
    /// The number by which it can be removed.
    pub handle: u64,
    /// Text kept with it.
    pub comment: Option<String>,
    /// Packets and bytes, if it counts.
    pub counter: Option<(u64, u64)>,
}

/// An element that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedElement {
    /// Its key, encoded.
    pub key: Vec<u8>,
    /// What the map gives, encoded; `None` for sets and verdicts.
    pub value: Option<Vec<u8>>,
    /// The chain a verdict leads to.
    pub chain: Option<String>,
    /// Text kept with it.
    pub comment: Option<String>,
}

impl Tables {
    /// Lists the tables of all families.
    pub fn tables(&mut self) -> Result<Vec<Table>> {
        let request = Message::new(super::SUBSYSTEM << 8 | GETTABLE, 0, &super::header(0, 0));
        let replies = self.socket.dump("list tables", request)?;
        Ok(replies
            .iter()
            .filter_map(|reply| {
                Some(Table::new(Family::from_number(*reply.payload.first()?)?, reply.attributes(4).text(1)?))
            })
            .collect())
    }

    /// Whether a table is there.
    pub fn has_table(&mut self, table: &Table) -> Result<bool> {
        let mut request = message(table.family, GETTABLE, 0);
        request.str(1, &table.name);
        Ok(absent_as_none(self.socket.get("find table", request))?.is_some())
    }

    /// Lists the names of a table's chains.
    pub fn chains(&mut self, table: &Table) -> Result<Vec<String>> {
        let replies = self.socket.dump("list chains", message(table.family, GETCHAIN, 0))?;
        let own = replies.iter().map(|reply| reply.attributes(4)).filter(|a| a.text(1).as_ref() == Some(&table.name));
        Ok(own.filter_map(|attributes| attributes.text(3)).collect())
    }

    /// Lists the rules of a table, in order within each chain.
    pub fn rules(&mut self, table: &Table) -> Result<Vec<ListedRule>> {
        let mut request = message(table.family, GETRULE, 0);
        request.str(1, &table.name);
        let replies = self.socket.dump("list rules", request)?;
        Ok(replies
            .iter()
            .map(|reply| reply.attributes(4))
            .filter(|attributes| attributes.text(1).as_ref() == Some(&table.name))
            .filter_map(|attributes| {
                Some(ListedRule {
                    chain: attributes.text(2)?,
                    handle: attributes.be64(3)?,
                    comment: attributes.get(7).and_then(read_comment),
                    counter: counter(attributes.nested(4)),
                })
            })
            .collect())
    }

    /// Lists the names of a table's sets and maps, without those of rules.
    pub fn sets(&mut self, table: &Table) -> Result<Vec<String>> {
        let mut request = message(table.family, GETSET, 0);
        request.str(1, &table.name);
        let replies = self.socket.dump("list sets", request)?;
        const ANONYMOUS: u32 = 1;
        Ok(replies
            .iter()
            .map(|reply| reply.attributes(4))
            .filter(|attributes| attributes.be32(3).unwrap_or(0) & ANONYMOUS == 0)
            .filter_map(|attributes| attributes.text(2))
            .collect())
    }

    /// Lists the elements of a set; `None` if there is no such set.
    pub fn elements(&mut self, table: &Table, set: &str) -> Result<Option<Vec<ListedElement>>> {
        let mut request = message(table.family, GETSETELEM, 0);
        request.str(1, &table.name).str(2, set);
        let Some(replies) = absent_as_none(self.socket.dump("list elements", request))? else { return Ok(None) };
        let mut elements = Vec::new();
        for reply in &replies {
            for (_, element) in reply.attributes(4).nested(3) {
                let attributes = Attributes::new(element);
                let Some(key) = attributes.nested(1).get(1) else { continue };
                let data = attributes.nested(2);
                elements.push(ListedElement {
                    key: key.to_vec(),
                    value: data.get(1).map(<[u8]>::to_vec),
                    chain: data.nested(2).text(2),
                    comment: attributes.get(6).and_then(read_comment),
                });
            }
        }
        Ok(Some(elements))
    }
}

fn counter(expressions: Attributes<'_>) -> Option<(u64, u64)> {
    expressions.map(|(_, expression)| Attributes::new(expression)).find_map(|expression| {
        (expression.text(1)? == "counter").then_some(())?;
        let data = expression.nested(2);
        Some((data.be64(2)?, data.be64(1)?))
    })
}
