//! Gives a pod its disks: protocol, client for foreign drivers, our driver.
