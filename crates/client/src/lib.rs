//! How a component asks and listens: one trait, over HTTPS or in process; informers, work queue, events.
//!
//! A component holds a [`Client`] and never knows which [`Backend`] is behind it: in a server process calls go
//! straight into the API (with authentication done, but authorization, admission and audit as for anyone), elsewhere
//! they are HTTPS requests. What a component keeps of other objects is an [`Informer`] of projections.
//!
//! Start reading at [`backend`], then [`Client`] in `typed.rs`, then [`informer`].

pub mod backend;
pub mod controller;
pub mod events;
pub mod https;
pub mod informer;
pub mod queue;
mod typed;

pub use backend::{Backend, Body, EventKind, PatchKind, Query, Request, Served, Verb, WatchEvent, WatchStream};
pub use controller::{Outcome, run_workers};
pub use events::Recorder;
pub use informer::{Change, Informer, Key, Scope};
pub use queue::Queue;
pub use typed::{Client, List, decode, encode};
