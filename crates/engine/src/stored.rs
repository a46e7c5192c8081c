//! The form of a value at rest, and an object on its way out.
//!
//! ```text
//! plain:   0x01 | u32 splice offset | canonical JSON without resourceVersion
//! sealed:  0x02 | u32 key id        | AEAD over the plain form, bound to the key
//! ```
//! On the way out the wire is: JSON up to the offset, `"resourceVersion":"<revision>"` with its comma, the rest.

use std::sync::Arc;

use apimachinery::{Kind, Status, Value, codec};
use bytes::{BufMut, Bytes, BytesMut};

use crate::cx::Sealer;
use crate::twin::Twin;

const PLAIN: u8 = 1;
const SEALED: u8 = 2;
const HEADER: usize = 5;

/// Objects may not be larger than this, on either backend.
pub const MAX_OBJECT: usize = 1536 * 1024;

/// An object as stored, with the revision that it was written at.
#[derive(Clone, Debug)]
pub struct Object {
    /// The version of the bytes.
    pub kind: Arc<Kind>,
    pub revision: i64,
    body: Body,
    /// Where the protobuf form is kept: only what is in a cache has a place for it.
    twin: Option<Arc<Twin>>,
}

/// Canonical JSON without resourceVersion, and where that goes.
#[derive(Clone, Debug)]
pub struct Body {
    json: Bytes,
    splice: usize,
}

impl Body {
    /// Encodes a tree; a resourceVersion in it is left out.
    pub fn encode(tree: &Value, kind: &Kind) -> Body {
        let (json, splice) = codec::json::encode_stored(tree, &kind.schema);
        Body { json, splice }
    }

    /// Reads the stored form.
    pub fn open(key: &[u8], value: &Bytes, sealer: &dyn Sealer) -> Result<Body, Status> {
        let damaged = || Status::internal(format!("the stored value of {} is damaged", String::from_utf8_lossy(key)));
        if value.len() < HEADER {
            return Err(damaged());
        }
        let number = u32::from_be_bytes([value[1], value[2], value[3], value[4]]);
        match value[0] {
            PLAIN => {
                let json = value.slice(HEADER..);
                let splice = number as usize;
                if splice > json.len() {
                    return Err(damaged());
                }
                Ok(Body { json, splice })
            }
            SEALED => {
                let plain = sealer.open(key, number, &value[HEADER..])?;
                if plain.first() != Some(&PLAIN) {
                    return Err(damaged());
                }
                Body::open(key, &plain, sealer)
            }
            _ => Err(damaged()),
        }
    }

    /// The stored form under `key`, sealed where the sealer wants it.
    pub fn store(&self, key: &[u8], prefix: &str, sealer: &dyn Sealer) -> Result<Bytes, Status> {
        let mut plain = BytesMut::with_capacity(HEADER + self.json.len());
        plain.put_u8(PLAIN);
        plain.put_u32(self.splice as u32);
        plain.put_slice(&self.json);
        let plain = plain.freeze();
        if !sealer.seals(prefix) {
            return Ok(plain);
        }
        let (key_id, sealed) = sealer.seal(key, &plain)?;
        let mut value = BytesMut::with_capacity(HEADER + sealed.len());
        value.put_u8(SEALED);
        value.put_u32(key_id);
        value.put_slice(&sealed);
        Ok(value.freeze())
    }

    /// Bytes of JSON.
    pub fn len(&self) -> usize {
        self.json.len()
    }

    pub fn is_empty(&self) -> bool {
        self.json.is_empty()
    }

    /// Whether two bodies are the same object.
    pub fn same(&self, other: &Body) -> bool {
        self.json == other.json
    }

    /// Parses the tree, without resourceVersion.
    pub fn tree(&self) -> Result<Value, Status> {
        codec::json::parse(&self.json).map_err(Status::internal)
    }
}

impl Object {
    pub fn new(kind: Arc<Kind>, revision: i64, body: Body) -> Object {
        Object { kind, revision, body, twin: None }
    }

    /// An object that is in a cache.
    pub(crate) fn cached(kind: Arc<Kind>, revision: i64, body: Body, twin: Arc<Twin>) -> Object {
        Object { kind, revision, body, twin: Some(twin) }
    }

    pub(crate) fn twin(&self) -> Option<&Arc<Twin>> {
        self.twin.as_ref()
    }

    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The wire form in three parts: before, the spliced resourceVersion, after.
    pub fn json_parts(&self) -> [Bytes; 3] {
        let Body { json, splice } = &self.body;
        [json.slice(..*splice), codec::json::version_splice(json, *splice, self.revision), json.slice(*splice..)]
    }

    /// The wire form appended to a buffer.
    pub fn write_json(&self, out: &mut BytesMut) {
        for part in self.json_parts() {
            out.put_slice(&part);
        }
    }

    /// The whole wire form.
    pub fn json(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.body.len() + 40);
        self.write_json(&mut out);
        out.freeze()
    }

    /// The tree, with resourceVersion.
    pub fn tree(&self) -> Result<Value, Status> {
        let mut tree = self.body.tree()?;
        set_version(&mut tree, self.revision);
        Ok(tree)
    }
}

/// Puts `metadata.resourceVersion` into a tree.
pub fn set_version(tree: &mut Value, revision: i64) {
    if let Some(metadata) = tree.as_map_mut().and_then(|m| m.get_mut("metadata")).and_then(Value::as_map_mut) {
        metadata.insert("resourceVersion", revision.to_string());
    }
}
