//! The parts of a server that `--disable` leaves out, so that others' programs can do their work.

use anyhow::bail;

/// A part that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The server's own node: no pods run on this machine.
    Node,
    /// All controllers, as upstream's kube-controller-manager runs them.
    Controllers,
    /// The scheduler.
    Scheduler,
    /// The name server; pods still ask at its address, where another may answer.
    Dns,
    /// The service proxy, on all nodes of the cluster.
    Proxy,
}

impl Part {
    const ALL: [(&'static str, Part); 5] = [
        ("node", Part::Node),
        ("controllers", Part::Controllers),
        ("scheduler", Part::Scheduler),
        ("dns", Part::Dns),
        ("proxy", Part::Proxy),
    ];
}

/// The parts that are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disabled(Vec<Part>);

impl Disabled {
    /// Reads names as they are written in options.
    pub fn parse(names: &[String]) -> anyhow::Result<Disabled> {
        let mut parts = Vec::new();
        for name in names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
            let Some((_, part)) = Part::ALL.iter().find(|(known, _)| *known == name) else {
                bail!("cannot disable {name:?}; --disable takes {}", Part::ALL.map(|(known, _)| known).join(", "));
            };
            parts.push(*part);
        }
        Ok(Disabled(parts))
    }

    /// Whether a part runs.
    pub fn allows(&self, part: Part) -> bool {
        !self.0.contains(&part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_unknown_ones_refused() {
        let read = |names: &[&str]| Disabled::parse(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        let disabled = read(&["node", " dns", ""]).unwrap();
        assert!(!disabled.allows(Part::Node) && !disabled.allows(Part::Dns) && disabled.allows(Part::Proxy));
        let message = read(&["nodes"]).unwrap_err().to_string();
        assert_eq!(message, "cannot disable \"nodes\"; --disable takes node, controllers, scheduler, dns, proxy");
    }
}
