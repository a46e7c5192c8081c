//! Time as leases see it: monotonic, and injected so that tests own it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A clock that never goes back: the time since some fixed moment.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Duration;
}

/// The machine's monotonic clock; setting the wall clock does not move it.
pub struct MonotonicClock(Instant);

impl Default for MonotonicClock {
    fn default() -> Self {
        MonotonicClock(Instant::now())
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock that moves when told to. After moving it, call `LocalStore::tick` to let leases notice.
#[derive(Default)]
pub struct ManualClock(Mutex<Duration>);

impl ManualClock {
    pub fn advance(&self, by: Duration) {
        *self.0.lock() += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        *self.0.lock()
    }
}
