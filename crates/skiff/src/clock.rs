//! The wall clock of a running server.

use std::time::{SystemTime, UNIX_EPOCH};

/// The host's clock.
pub struct Host;

impl engine::Clock for Host {
    fn now(&self) -> (i64, u32) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (since.as_secs() as i64, since.subsec_nanos())
    }
}

/// The wall clock as RFC 3339 with seconds.
pub fn now_text() -> String {
    apimachinery::time::rfc3339(engine::Clock::now(&Host).0)
}
