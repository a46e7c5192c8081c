//! Fail points: places where a test makes a step fail or the process die. Compiled to nothing outside tests.

use crate::error::Error;

/// A group commit, before anything of it reached the log.
pub(crate) const BEFORE_WRITE: &str = "before-write";
/// Written, not synced.
pub(crate) const AFTER_WRITE: &str = "after-write";
/// About to sync.
pub(crate) const BEFORE_SYNC: &str = "before-sync";
/// Synced, nothing published.
pub(crate) const AFTER_SYNC: &str = "after-sync";
/// Published, not answered.
pub(crate) const AFTER_PUBLISH: &str = "after-publish";
/// A compaction's revision is durable, its records are still in the log.
pub(crate) const IN_COMPACTION: &str = "in-compaction";
/// The volatile keys are about to be snapshot.
pub(crate) const BEFORE_SNAPSHOT: &str = "before-snapshot";

/// A mistake that a store can be made to make, to show that the checks bite.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Some events reach no watcher.
    DroppedEvent,
    /// Some transactions get the revision of the one before.
    RepeatedRevision,
    /// Some reads of the present see the state before it.
    StaleRead,
    /// Events show the new value as what was before.
    WrongPrevious,
    /// A compaction takes one revision more than it should.
    CompactionOffByOne,
}

#[cfg(test)]
impl Bug {
    pub(crate) const ALL: [Bug; 5] =
        [Bug::DroppedEvent, Bug::RepeatedRevision, Bug::StaleRead, Bug::WrongPrevious, Bug::CompactionOffByOne];
}

/// Whether a store is to make a mistake here. Constantly no outside tests.
macro_rules! seeded {
    ($config:expr, $bug:ident) => {{
        #[cfg(test)]
        let made = $config.bug == Some(crate::failpoint::Bug::$bug);
        #[cfg(not(test))]
        let made = {
            let _ = &$config;
            false
        };
        made
    }};
}
pub(crate) use seeded;

#[cfg(not(test))]
#[inline(always)]
pub(crate) fn hit(_name: &str) -> Result<(), Error> {
    Ok(())
}

#[cfg(test)]
pub(crate) use armed::hit;

#[cfg(test)]
pub(crate) mod armed {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex};
    use std::thread::ThreadId;

    use super::*;

    /// Every fail point, once.
    pub(crate) const ALL: [&str; 7] =
        [BEFORE_WRITE, AFTER_WRITE, BEFORE_SYNC, AFTER_SYNC, AFTER_PUBLISH, IN_COMPACTION, BEFORE_SNAPSHOT];

    /// `name` and after how many passes the process dies there; read from the environment of a crash test's child.
    pub(crate) const DIE_AT: &str = "SKIFF_STORE_DIE_AT";

    static DEATH: LazyLock<Option<(String, Mutex<u32>)>> = LazyLock::new(|| {
        let text = std::env::var(DIE_AT).ok()?;
        let (name, passes) = text.split_once(':')?;
        Some((name.to_owned(), Mutex::new(passes.parse().ok()?)))
    });

    /// Errors by writer thread, so that tests do not disturb each other.
    static ARMED: LazyLock<Mutex<HashMap<(ThreadId, &'static str), u32>>> = LazyLock::new(Mutex::default);

    /// Lets a fail point fail once in this writer thread, after so many passes.
    pub(crate) fn arm(thread: ThreadId, name: &'static str, passes: u32) {
        ARMED.lock().unwrap().insert((thread, name), passes);
    }

    pub(crate) fn hit(name: &'static str) -> Result<(), Error> {
        if let Some((wanted, passes)) = &*DEATH
            && wanted == name
        {
            let mut passes = passes.lock().unwrap();
            if *passes == 0 {
                std::process::abort();
            }
            *passes -= 1;
        }
        let thread = std::thread::current().id();
        let mut armed = ARMED.lock().unwrap();
        if let Some(passes) = armed.get_mut(&(thread, name)) {
            if *passes == 0 {
                armed.remove(&(thread, name));
                return Err(Error::Io(format!("fail point {name}")));
            }
            *passes -= 1;
        }
        Ok(())
    }
}
