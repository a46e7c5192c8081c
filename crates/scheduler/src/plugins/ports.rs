//! NodePorts: two pods cannot have the same port of one node.

use super::Candidate;

pub fn filter(c: &Candidate<'_>) -> Result<(), String> {
    let taken = |port: &crate::model::HostPort| {
        c.state.pods.values().any(|pod| pod.ports.iter().any(|other| other.clashes(port)))
    };
    if c.pod.ports.iter().any(taken) {
        return Err("node(s) didn't have free ports for the requested pod ports".into());
    }
    Ok(())
}
