//! What the machine is and has, read from the kernel.

use std::collections::BTreeMap;
use std::path::Path;

use apimachinery::Quantity;
use apimachinery::quantity::Format;

/// The facts of a machine that do not change while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel: String,
    pub os: String,
    pub cpus: i64,
    /// Bytes.
    pub memory: i64,
}

/// What there is too little of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
}

/// Upstream's name of the architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn line(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// A value of `/proc/meminfo`, in bytes.
fn meminfo(text: &str, name: &str) -> i64 {
    let kib = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start_matches(':').split_whitespace().next());
    kib.and_then(|kib| kib.parse::<i64>().ok()).unwrap_or_default() * 1024
}

/// The quoted or plain value of a line of `os-release`.
fn os_name(text: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
    value.trim_matches('"').to_owned()
}

impl Machine {
    /// Reads the facts.
    pub fn read() -> Machine {
        let boot_id = line("/proc/sys/kernel/random/boot_id");
        let machine_id = line("/etc/machine-id");
        let uuid = line("/sys/class/dmi/id/product_uuid");
        Machine {
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id,
            kernel: line("/proc/sys/kernel/osrelease"),
            os: os_name(&std::fs::read_to_string("/etc/os-release").unwrap_or_default()),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as i64),
            memory: meminfo(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemTotal"),
        }
    }

    /// What the node has, as `status.capacity`.
    pub fn capacity(&self, data: &Path, pods: i64) -> BTreeMap<String, Quantity> {
        let disk = linux::mount::space(data).map_or(0, |space| space.total as i64);
        BTreeMap::from([
            ("cpu".to_owned(), Quantity::new(self.cpus, Format::DecimalSi)),
            ("memory".to_owned(), Quantity::new(self.memory / 1024 * 1024, Format::BinarySi)),
            ("pods".to_owned(), Quantity::new(pods, Format::DecimalSi)),
            ("ephemeral-storage".to_owned(), Quantity::new(disk / 1024 * 1024, Format::BinarySi)),
            ("hugepages-2Mi".to_owned(), Quantity::new(0, Format::DecimalSi)),
            ("hugepages-1Gi".to_owned(), Quantity::new(0, Format::DecimalSi)),
        ])
    }

    /// What is short: the last 100 MiB of memory and 5 % of files, as upstream has it; of the disk the last tenth, but
    /// no more than 2 GiB: on a large disk a tenth is no shortage.
    pub fn pressure(&self, data: &Path) -> Pressure {
        const MEMORY: i64 = 100 << 20;
        let available = meminfo(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemAvailable");
        let space = linux::mount::space(data).unwrap_or_default();
        let disk = space.total > 0 && space.available < (space.total / 10).min(2 << 30);
        let files = space.files > 0 && space.files_free * 20 < space.files;
        let limit: i64 = line("/proc/sys/kernel/pid_max").parse().unwrap_or(i64::MAX);
        let tasks = line("/proc/loadavg").split('/').nth(1).and_then(|t| t.split(' ').next()?.parse().ok());
        Pressure {
            memory: available > 0 && available < MEMORY,
            disk: disk || files,
            pids: tasks.unwrap_or(0) > limit / 10 * 9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read() {
        let text = "MemTotal:       16333764 kB\nMemAvailable:   1024 kB\n";
        assert_eq!(meminfo(text, "MemAvailable"), 1 << 20);
        assert_eq!(meminfo(text, "Other"), 0);
        assert_eq!(os_name("ID=x\nPRETTY_NAME=\"Some Linux 12\"\n"), "Some Linux 12");
        let machine = Machine::read();
        assert!(machine.cpus >= 1 && machine.memory > 0 && !machine.kernel.is_empty());
        assert!(!machine.pressure(Path::new("/")).memory);
        assert!(machine.capacity(Path::new("/"), 110)["ephemeral-storage"].value() > 0);
    }
}
