//! Which objects exist: one page a kind. No I/O.
