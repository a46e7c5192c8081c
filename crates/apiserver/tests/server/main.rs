//! The server as a whole, over an in-memory store: admission, custom resources, webhooks.

mod admission;
mod connections;
mod definitions;
mod policies;
mod refusals;
mod support;
mod webhooks;
mod wire;
