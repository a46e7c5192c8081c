//! FUSE's messages (`linux/fuse.h`, version 7.31), as bytes.

pub const LOOKUP: u32 = 1;
pub const FORGET: u32 = 2;
pub const GETATTR: u32 = 3;
pub const SETATTR: u32 = 4;
pub const MKDIR: u32 = 9;
pub const UNLINK: u32 = 10;
pub const RMDIR: u32 = 11;
pub const RENAME: u32 = 12;
pub const LINK: u32 = 13;
pub const OPEN: u32 = 14;
pub const READ: u32 = 15;
pub const WRITE: u32 = 16;
pub const STATFS: u32 = 17;
pub const RELEASE: u32 = 18;
pub const FSYNC: u32 = 20;
pub const FLUSH: u32 = 25;
pub const INIT: u32 = 26;
pub const OPENDIR: u32 = 27;
pub const READDIR: u32 = 28;
pub const RELEASEDIR: u32 = 29;
pub const FSYNCDIR: u32 = 30;
pub const CREATE: u32 = 35;
pub const INTERRUPT: u32 = 36;
pub const DESTROY: u32 = 38;
pub const BATCH_FORGET: u32 = 42;
pub const FALLOCATE: u32 = 43;
pub const RENAME2: u32 = 45;

pub const SET_MODE: u32 = 1;
pub const SET_SIZE: u32 = 1 << 3;

/// Writes larger than a page.
const BIG_WRITES: u32 = 1 << 5;
/// The number of pages of a message is given.
const MAX_PAGES: u32 = 1 << 22;
/// For how many seconds the kernel may believe what it was told: nobody else changes anything.
const VALID: u64 = 3600;

/// What is left of a request.
pub struct Arguments<'a>(&'a [u8]);

impl<'a> Arguments<'a> {
    pub fn new(bytes: &'a [u8]) -> Arguments<'a> {
        Arguments(bytes)
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (first, rest) = self.0.split_first_chunk::<N>().expect("a whole request");
        self.0 = rest;
        *first
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.take())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_ne_bytes(self.take())
    }

    pub fn skip(&mut self, bytes: usize) {
        self.0 = &self.0[bytes..];
    }

    /// A name that ends with a zero byte.
    pub fn name(&mut self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        let name = String::from_utf8_lossy(&self.0[..end]).into_owned();
        self.0 = self.0.get(end + 1..).unwrap_or_default();
        name
    }

    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
}

/// The body of an answer.
#[derive(Default)]
pub struct Answer(Vec<u8>);

impl Answer {
    pub fn of(bytes: Vec<u8>) -> Answer {
        Answer(bytes)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_ne_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_ne_bytes());
    }

    /// That a file is open, under no handle.
    pub fn opened(&mut self) {
        self.u64(0);
        self.u64(0);
    }

    fn attribute(&mut self, ino: u64, size: u64, mode: u32, links: u32) {
        for number in [ino, size, size.div_ceil(512), 0, 0, 0] {
            self.u64(number);
        }
        for number in [0, 0, 0, mode, links, 0, 0, 0, 4096, 0] {
            self.u32(number);
        }
    }

    /// An entry of a folder, if it fits.
    pub fn listed(&mut self, ino: u64, next: u64, name: &str, folder: bool, limit: usize) -> bool {
        let length = (24 + name.len()).next_multiple_of(8);
        if self.0.len() + length > limit {
            return false;
        }
        let end = self.0.len() + length;
        self.u64(ino);
        self.u64(next);
        self.u32(name.len() as u32);
        self.u32(if folder { 4 } else { 8 });
        self.0.extend_from_slice(name.as_bytes());
        self.0.resize(end, 0);
        true
    }
}

pub fn reply(unique: u64, error: i32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + body.len());
    out.extend_from_slice(&(16 + body.len() as u32).to_ne_bytes());
    out.extend_from_slice(&error.to_ne_bytes());
    out.extend_from_slice(&unique.to_ne_bytes());
    out.extend_from_slice(body);
    out
}

pub fn init(arguments: &mut Arguments<'_>, max_write: u32) -> Answer {
    let (_, _, read_ahead) = (arguments.u32(), arguments.u32(), arguments.u32());
    let mut answer = Answer::default();
    for number in [7, 31, read_ahead, BIG_WRITES | MAX_PAGES] {
        answer.u32(number);
    }
    // Two numbers of 16 bits: requests in the background, and when that is many.
    answer.u32(16 | 12 << 16);
    answer.u32(max_write);
    answer.u32(1);
    answer.u32(max_write / 4096);
    answer.0.resize(64, 0);
    answer
}

pub fn entry(ino: u64, size: u64, mode: u32, links: u32) -> Answer {
    let mut answer = Answer::default();
    for number in [ino, 0, VALID, VALID, 0] {
        answer.u64(number);
    }
    answer.attribute(ino, size, mode, links);
    answer
}

pub fn attributes(ino: u64, size: u64, mode: u32, links: u32) -> Answer {
    let mut answer = Answer::default();
    answer.u64(VALID);
    answer.u64(0);
    answer.attribute(ino, size, mode, links);
    answer
}

pub fn written(size: u32) -> Answer {
    let mut answer = Answer::default();
    answer.u32(size);
    answer.u32(0);
    answer
}

/// A disk with so many free blocks of 4 KiB.
pub fn room(free: u64) -> Answer {
    let mut answer = Answer::default();
    for number in [1 << 20, free, free, 1 << 20, 1 << 20] {
        answer.u64(number);
    }
    for number in [4096, 255, 4096, 0, 0, 0, 0, 0, 0, 0] {
        answer.u32(number);
    }
    answer
}
