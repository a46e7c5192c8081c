//! Crash-safe multi-version key-value store with watch, leases and compaction: keys and bytes only.
