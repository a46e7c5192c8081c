//! Rulesets as values, and the batch that leads from one to another.

use std::collections::BTreeMap;

use linux::netlink::Result;
use linux::nftables::{Batch, Chain, Element, Hook, Key, Rule, Set, Table};

/// The tables wanted, each with its family.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ruleset {
    /// By table.
    pub tables: BTreeMap<Table, TableRules>,
}

/// What is in a table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TableRules {
    /// Chains by name.
    pub chains: BTreeMap<String, ChainRules>,
    /// Sets and maps by name.
    pub sets: BTreeMap<String, SetElements>,
}

/// What is in a chain.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChainRules {
    /// Where packets enter it.
    pub hook: Option<Hook>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// What is in a set.
#[derive(Debug, Clone, PartialEq)]
pub struct SetElements {
    /// The set.
    pub set: Set,
    /// Its elements by key; of sets that rules fill, none.
    pub elements: BTreeMap<Key, Vec<Element>>,
}

impl TableRules {
    /// Adds a chain that packets enter.
    pub fn base(&mut self, name: &str, hook: Hook, rules: Vec<Rule>) {
        self.chains.insert(name.to_owned(), ChainRules { hook: Some(hook), rules });
    }

    /// Adds a chain that others lead to.
    pub fn chain(&mut self, name: &str, rules: Vec<Rule>) {
        self.chains.insert(name.to_owned(), ChainRules { hook: None, rules });
    }

    /// Adds a set.
    pub fn set(&mut self, set: Set) {
        self.sets.insert(set.name.clone(), SetElements { set, elements: BTreeMap::new() });
    }

    /// Adds an element to a set; the first one for a key stays. Says whether it was the first.
    pub fn element(&mut self, set: &str, element: Element) -> bool {
        let Some(entry) = self.sets.get_mut(set) else { return false };
        if entry.elements.contains_key(&element.key) {
            return false;
        }
        entry.elements.insert(element.key.clone(), vec![element]);
        true
    }

    /// Fills a set of ranges.
    pub fn ranges(&mut self, set: &str, elements: Vec<Element>) {
        if let Some(entry) = self.sets.get_mut(set) {
            // The end of one range may be the start of the next: both have the same key.
            for element in elements {
                entry.elements.entry(element.key.clone()).or_default().push(element);
            }
        }
    }
}

impl Ruleset {
    /// The changes that lead from `old` (nothing known: from anything) to this ruleset.
    pub fn changes_from(&self, old: Option<&Ruleset>) -> Result<Batch> {
        let mut batch = Batch::new();
        let empty = TableRules::default();
        for (table, wanted) in &self.tables {
            let before = match old.and_then(|old| old.tables.get(table)) {
                Some(before) => before,
                None => {
                    batch.destroy_table(table)?;
                    batch.add_table(table)?;
                    &empty
                }
            };
            change_table(&mut batch, table, before, wanted)?;
        }
        for table in old.into_iter().flat_map(|old| old.tables.keys()) {
            if !self.tables.contains_key(table) {
                batch.destroy_table(table)?;
            }
        }
        Ok(batch)
    }
}

/// Whether what is there can become what is wanted without being made anew.
fn fits(before: &SetElements, wanted: &SetElements) -> bool {
    before.set == wanted.set
}

fn change_table(batch: &mut Batch, table: &Table, before: &TableRules, wanted: &TableRules) -> Result<()> {
    // First everything that others may refer to.
    for (name, entry) in &wanted.sets {
        if !before.sets.get(name).is_some_and(|old| fits(old, entry)) {
            debug_assert!(!before.sets.contains_key(name), "set {name} changes its form under the same name");
            batch.add_set(table, &entry.set)?;
        }
    }
    for (name, chain) in &wanted.chains {
        if !before.chains.contains_key(name) {
            batch.add_chain(table, &Chain { name: name.clone(), hook: chain.hook })?;
        }
    }
    for (name, chain) in &wanted.chains {
        let old = before.chains.get(name);
        if old.is_some_and(|old| old.rules == chain.rules) {
            continue;
        }
        if old.is_some() {
            batch.flush_chain(table, name)?;
        }
        for rule in &chain.rules {
            batch.add_rule(table, name, rule)?;
        }
    }
    for (name, entry) in &wanted.sets {
        let old = before.sets.get(name).map(|old| &old.elements);
        let gone: Vec<Element> = old
            .into_iter()
            .flatten()
            .filter(|(key, elements)| entry.elements.get(*key) != Some(elements))
            .flat_map(|(_, elements)| elements.clone())
            .collect();
        let new: Vec<Element> = entry
            .elements
            .iter()
            .filter(|(key, elements)| old.and_then(|old| old.get(*key)) != Some(elements))
            .flat_map(|(_, elements)| elements.clone())
            .collect();
        // Ranges cannot be told apart one by one while they change: they are few, so all are replaced.
        if entry.set.interval && !(gone.is_empty() && new.is_empty()) && old.is_some() {
            batch.flush_set(table, name)?;
            let all: Vec<Element> = entry.elements.values().flatten().cloned().collect();
            batch.add_elements(table, &entry.set, &all)?;
            continue;
        }
        batch.delete_elements(table, &entry.set, &gone)?;
        batch.add_elements(table, &entry.set, &new)?;
    }
    // Last what nothing refers to any more: rules let go of sets and chains, then both can go.
    let gone: Vec<&String> = before.chains.keys().filter(|name| !wanted.chains.contains_key(*name)).collect();
    for name in &gone {
        batch.flush_chain(table, name)?;
    }
    for (name, old) in &before.sets {
        if !wanted.sets.contains_key(name) {
            if !old.elements.is_empty() {
                batch.flush_set(table, name)?;
            }
            batch.delete_set(table, name)?;
        }
    }
    for name in &gone {
        batch.delete_chain(table, name)?;
    }
    Ok(())
}
