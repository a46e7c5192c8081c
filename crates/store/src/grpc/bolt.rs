//! Writes a file that etcd's storage engine (bbolt) opens: buckets of sorted pairs, built bottom-up in one pass.
//!
//! ```text
//! page 0, 1   meta: magic, root bucket, free list, number of pages, checksum
//! page 2      free list, empty
//! page 3..    leaves and branches; a page is a header, elements, then the bytes that the elements point to
//! ```
//! Every number is little-endian. The layout is that of bbolt's version 2 files (`internal/common/page.go`, `meta.go`).

const PAGE: usize = 4096;
const HEADER: usize = 16;
/// Of a leaf and of a branch alike.
const ELEMENT: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const META: u16 = 4;
const FREE_LIST: u16 = 16;
/// Marks an element whose value is a bucket.
const IS_BUCKET: u32 = 1;
/// The most elements of a page: its counter has 16 bits, of which the highest value is reserved.
const MOST: usize = 0xfffe;

/// A file that is being built in memory.
pub(super) struct Bolt {
    pages: Vec<u8>,
    buckets: Vec<(Vec<u8>, u64)>,
}

/// What a page holds so far.
#[derive(Default)]
struct Elements {
    flags: u32,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

impl Elements {
    fn fits(&self, more: usize) -> bool {
        self.entries.is_empty() || (HEADER + self.bytes + more <= PAGE && self.entries.len() < MOST)
    }

    fn push(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.bytes += ELEMENT + key.len() + value.len();
        self.entries.push((key, value));
    }
}

fn number(page: &mut Vec<u8>, bytes: &[u8]) {
    page.extend_from_slice(bytes);
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Bolt {
    pub fn new() -> Bolt {
        // The first three pages are written at the end.
        Bolt { pages: vec![0; 3 * PAGE], buckets: Vec::new() }
    }

    fn next_page(&self) -> u64 {
        (self.pages.len() / PAGE) as u64
    }

    /// Begins a page of so many elements and bytes in all; answers with its number.
    fn begin(&mut self, kind: u16, count: usize, size: usize) -> u64 {
        let id = self.next_page();
        let overflow = size.div_ceil(PAGE).max(1) - 1;
        number(&mut self.pages, &id.to_le_bytes());
        number(&mut self.pages, &kind.to_le_bytes());
        number(&mut self.pages, &(count as u16).to_le_bytes());
        number(&mut self.pages, &(overflow as u32).to_le_bytes());
        id
    }

    fn end(&mut self) {
        self.pages.resize(self.pages.len().next_multiple_of(PAGE), 0);
    }

    fn leaf(&mut self, elements: &Elements) -> u64 {
        let count = elements.entries.len();
        let id = self.begin(LEAF, count, HEADER + elements.bytes);
        let mut at = count * ELEMENT;
        for (n, (key, value)) in elements.entries.iter().enumerate() {
            // Positions are counted from the element itself.
            let position = at - n * ELEMENT;
            for field in [elements.flags, position as u32, key.len() as u32, value.len() as u32] {
                number(&mut self.pages, &field.to_le_bytes());
            }
            at += key.len() + value.len();
        }
        for (key, value) in &elements.entries {
            number(&mut self.pages, key);
            number(&mut self.pages, value);
        }
        self.end();
        id
    }

    fn branch(&mut self, children: &[(Vec<u8>, u64)]) -> u64 {
        let keys: usize = children.iter().map(|(key, _)| key.len()).sum();
        let id = self.begin(BRANCH, children.len(), HEADER + children.len() * ELEMENT + keys);
        let mut at = children.len() * ELEMENT;
        for (n, (key, child)) in children.iter().enumerate() {
            let position = at - n * ELEMENT;
            number(&mut self.pages, &(position as u32).to_le_bytes());
            number(&mut self.pages, &(key.len() as u32).to_le_bytes());
            number(&mut self.pages, &child.to_le_bytes());
            at += key.len();
        }
        for (key, _) in children {
            number(&mut self.pages, key);
        }
        self.end();
        id
    }

    /// A tree of pairs in rising order; answers with its root's page.
    fn tree(&mut self, flags: u32, pairs: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> u64 {
        let mut level: Vec<(Vec<u8>, u64)> = Vec::new();
        let mut leaf = Elements { flags, ..Elements::default() };
        for (key, value) in pairs {
            if !leaf.fits(ELEMENT + key.len() + value.len()) {
                let first = leaf.entries[0].0.clone();
                level.push((first, self.leaf(&leaf)));
                leaf = Elements { flags, ..Elements::default() };
            }
            leaf.push(key, value);
        }
        let first = leaf.entries.first().map(|(key, _)| key.clone()).unwrap_or_default();
        level.push((first, self.leaf(&leaf)));
        while level.len() > 1 {
            let mut above = Vec::new();
            let mut children: Vec<(Vec<u8>, u64)> = Vec::new();
            let mut bytes = HEADER;
            for child in level {
                let more = ELEMENT + child.0.len();
                if children.len() > 1 && bytes + more > PAGE {
                    above.push((children[0].0.clone(), self.branch(&children)));
                    children.clear();
                    bytes = HEADER;
                }
                bytes += more;
                children.push(child);
            }
            above.push((children[0].0.clone(), self.branch(&children)));
            level = above;
        }
        level[0].1
    }

    /// Adds a bucket of pairs in rising order.
    pub fn bucket(&mut self, name: &str, pairs: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) {
        let root = self.tree(0, pairs);
        self.buckets.push((name.as_bytes().to_vec(), root));
    }

    /// The whole file.
    pub fn finish(mut self) -> Vec<u8> {
        let mut buckets = std::mem::take(&mut self.buckets);
        buckets.sort();
        // A bucket is its root's page and a counter that etcd does not use.
        let entries = buckets.into_iter().map(|(name, root)| (name, [root.to_le_bytes(), [0; 8]].concat()));
        let root = self.tree(IS_BUCKET, entries);
        let count = self.next_page();
        for transaction in 0..2u64 {
            let mut page = Vec::with_capacity(PAGE);
            number(&mut page, &transaction.to_le_bytes());
            number(&mut page, &META.to_le_bytes());
            number(&mut page, &[0; 6]);
            for field in [0xed0c_daed_u32, 2, PAGE as u32, 0] {
                number(&mut page, &field.to_le_bytes());
            }
            // Root bucket and its counter, free list, number of pages, transaction.
            for field in [root, 0, 2, count, transaction] {
                number(&mut page, &field.to_le_bytes());
            }
            let checksum = fnv1a(&page[HEADER..]);
            number(&mut page, &checksum.to_le_bytes());
            let at = transaction as usize * PAGE;
            self.pages[at..at + page.len()].copy_from_slice(&page);
        }
        let mut free = Vec::with_capacity(HEADER);
        number(&mut free, &2u64.to_le_bytes());
        number(&mut free, &FREE_LIST.to_le_bytes());
        number(&mut free, &[0; 6]);
        self.pages[2 * PAGE..2 * PAGE + HEADER].copy_from_slice(&free);
        self.pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a tree as bbolt does: every pair in order.
    fn read(file: &[u8], page: u64, out: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        let start = page as usize * PAGE;
        let int = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        let long = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
        assert_eq!(long(start), page, "a page knows its number");
        let kind = u16::from_le_bytes(file[start + 8..start + 10].try_into().unwrap());
        let count = u16::from_le_bytes(file[start + 10..start + 12].try_into().unwrap());
        for n in 0..usize::from(count) {
            let element = start + HEADER + n * ELEMENT;
            if kind == BRANCH {
                let key = &file[element + int(element)..][..int(element + 4)];
                let before = out.len();
                read(file, long(element + 8), out);
                assert_eq!(out[before].0, key, "a branch knows the first key below it");
            } else {
                assert_eq!(kind, LEAF);
                let key = element + int(element + 4);
                let value = key + int(element + 8);
                out.push((file[key..value].to_vec(), file[value..value + int(element + 12)].to_vec()));
            }
        }
    }

    #[test]
    fn trees_of_every_size_are_read_back() {
        for count in [0usize, 1, 5, 200, 30_000] {
            let pairs: Vec<(Vec<u8>, Vec<u8>)> = (0..count)
                .map(|n| (format!("{n:08}").into_bytes(), vec![n as u8; if n % 997 == 3 { 20_000 } else { n % 61 }]))
                .collect();
            let mut bolt = Bolt::new();
            bolt.bucket("key", pairs.clone().into_iter());
            bolt.bucket("alarm", std::iter::empty());
            let file = bolt.finish();
            assert_eq!(file.len() % PAGE, 0);
            for meta in [0, PAGE] {
                let body = &file[meta + HEADER..meta + HEADER + 56];
                assert_eq!(fnv1a(body).to_le_bytes(), file[meta + HEADER + 56..meta + HEADER + 64]);
            }
            let root = u64::from_le_bytes(file[HEADER + 16..HEADER + 24].try_into().unwrap());
            let mut buckets = Vec::new();
            read(&file, root, &mut buckets);
            assert_eq!(buckets.iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(), [&b"alarm"[..], b"key"]);
            let mut found = Vec::new();
            read(&file, u64::from_le_bytes(buckets[1].1[..8].try_into().unwrap()), &mut found);
            assert!(found == pairs, "{count} pairs differ");
        }
    }
}
