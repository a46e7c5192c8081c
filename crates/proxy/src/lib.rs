//! Makes services reachable: nftables maps, one transaction a change.
