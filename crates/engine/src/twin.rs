//! Protobuf twins of the objects in the caches: encoded once, then copied into every list and answer.
//!
//! ```text
//! Entry ──Arc──> Twin ──Option──> bytes        Twins { order: oldest first, each Weak<Twin> with its size }
//! ```
//! An entry is one object at one revision and never changes, so its twin holds the resourceVersion too. Twins share one
//! budget of memory: the oldest go first, and are encoded again when somebody asks.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use apimachinery::{Status, codec};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::Engine;
use crate::stored::Object;

/// All twins together hold at most this many bytes.
const BUDGET: usize = 8 << 20;
/// What keeping a twin costs besides its bytes.
const OVERHEAD: usize = 128;

/// Where an entry's protobuf message is kept, while it is.
#[derive(Debug, Default)]
pub struct Twin(Mutex<Option<Bytes>>);

/// The twins that exist, oldest first.
#[derive(Default)]
pub(crate) struct Twins {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    order: VecDeque<(Weak<Twin>, usize)>,
    bytes: usize,
}

impl Twins {
    /// The bytes of a twin, made by `encode` when it has none.
    fn of(&self, twin: &Arc<Twin>, encode: impl FnOnce() -> Result<Bytes, Status>) -> Result<Bytes, Status> {
        if let Some(bytes) = twin.0.lock().as_ref() {
            return Ok(bytes.clone());
        }
        let bytes = encode()?;
        let cost = bytes.len() + OVERHEAD;
        // One large object must not drive out all others.
        if cost > BUDGET / 8 {
            return Ok(bytes);
        }
        if twin.0.lock().replace(bytes.clone()).is_some() {
            // Someone else was as fast, and is counted.
            return Ok(bytes);
        }
        let mut kept = self.kept.lock();
        kept.order.push_back((Arc::downgrade(twin), cost));
        kept.bytes += cost;
        while kept.bytes > BUDGET {
            let Some((oldest, cost)) = kept.order.pop_front() else { break };
            kept.bytes -= cost;
            if let Some(oldest) = oldest.upgrade() {
                oldest.0.lock().take();
            }
        }
        Ok(bytes)
    }
}

impl Engine {
    /// The protobuf message of an object in the version that is stored, with its resourceVersion, without envelope.
    pub fn message(&self, object: &Object) -> Result<Bytes, Status> {
        let encode = || {
            let message = codec::proto::encode_message(&object.tree()?, &object.kind.schema);
            Ok(message.map_err(Status::internal)?.into())
        };
        match object.twin() {
            Some(twin) => self.twins.of(twin, encode),
            None => encode(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_are_made_once_and_the_oldest_go() {
        let twins = Twins::default();
        let made = |size: usize| move || Ok(Bytes::from(vec![7; size]));
        let never = || -> Result<Bytes, Status> { panic!("made again") };
        let first = Arc::new(Twin::default());
        assert_eq!(twins.of(&first, made(100)).unwrap().len(), 100);
        assert_eq!(twins.of(&first, never).unwrap().len(), 100);
        // What is gone makes no room before its turn, and costs nothing after it.
        drop(twins.of(&Arc::new(Twin::default()), made(1000)).unwrap());

        let large = Arc::new(Twin::default());
        twins.of(&large, made(BUDGET / 4)).unwrap();
        assert!(large.0.lock().is_none(), "a large twin was kept");
        let others: Vec<Arc<Twin>> = (0..20).map(|_| Arc::default()).collect();
        for twin in &others {
            twins.of(twin, made(BUDGET / 10)).unwrap();
        }
        assert!(first.0.lock().is_none() && others[0].0.lock().is_none(), "old twins stay beyond the budget");
        assert!(others[19].0.lock().is_some());
        assert!(twins.kept.lock().bytes <= BUDGET && twins.kept.lock().order.len() < 10);
    }
}
