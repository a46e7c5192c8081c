//! The server as a whole, over an in-memory store: admission, custom resources, webhooks.

mod admission;
mod definitions;
mod policies;
mod support;
mod webhooks;
