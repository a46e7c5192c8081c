//! How a connection is opened: one dialer, one resolver, TLS settings, an HTTP client on hyper.
