//! The server as a whole, over an in-memory store: admission, custom resources, webhooks.

mod admission;
mod definitions;
mod support;
mod webhooks;
