//! The events group.

use apimachinery::Kind;

pub mod event;

pub use event::{Event, EventSeries};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![event::kind()]
}
