//! How a component asks and listens: one trait over HTTPS or in process; informers, work queue, leases, events.
