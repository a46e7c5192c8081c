//! NodeResourcesFit and balanced allocation: what is asked for must be free; emptier and evener nodes are better.

use super::Candidate;

/// What a pod that asks for nothing counts as when nodes are rated.
const LIGHT_CPU: i64 = 100;
const LIGHT_MEMORY: i64 = 200 << 20;

pub fn filter(c: &Candidate<'_>) -> Result<(), String> {
    if c.state.pods.len() as i64 + 1 > c.node.allocatable.get("pods") {
        return Err("Too many pods".into());
    }
    for (name, wanted) in c.pod.requests.iter() {
        if wanted > 0 && c.state.requested.get(name) + wanted > c.node.allocatable.get(name) {
            return Err(format!("Insufficient {name}"));
        }
    }
    Ok(())
}

/// Thousandths of cpu and memory that would be taken with the pod there.
fn fractions(c: &Candidate<'_>) -> (i64, i64) {
    let of = |name: &str, light: i64| {
        let whole = c.node.allocatable.get(name);
        if whole <= 0 {
            return 1000;
        }
        let taken: i64 =
            c.state.pods.values().map(|p| Some(p.requests.get(name)).filter(|n| *n > 0).unwrap_or(light)).sum();
        let own = Some(c.pod.requests.get(name)).filter(|n| *n > 0).unwrap_or(light);
        (i128::from(taken.saturating_add(own)) * 1000 / i128::from(whole)).min(1000) as i64
    };
    (of("cpu", LIGHT_CPU), of("memory", LIGHT_MEMORY))
}

pub fn least_allocated(c: &Candidate<'_>) -> i64 {
    let (cpu, memory) = fractions(c);
    (2000 - cpu - memory) / 20
}

pub fn balanced(c: &Candidate<'_>) -> i64 {
    let (cpu, memory) = fractions(c);
    100 - (cpu - memory).abs() / 20
}
