//! Filters of system calls, assembled from a profile into classic BPF.
//!
//! ```text
//! architecture ─┬─ native ── number: binary search over ranges of equal action ─┬─ return
//!               ├─ 32-bit ── the same with its own numbers                      └─ arguments, then return
//!               └─ other ── kill
//! ```
//! The search keeps the path short for every call, and the kernel caches calls that are always allowed.

mod arm64;
mod assemble;
mod x86;

use std::collections::BTreeMap;
use std::io;

use nix::errno::Errno;

use crate::error::{Context, Error, Result};
use assemble::{Instruction, Program};

/// What becomes of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It goes on.
    Allow,
    /// It goes on and is logged.
    Log,
    /// It fails with this number.
    Errno(u16),
    /// A tracer decides, told this number; it fails without one.
    Trace(u16),
    /// The process gets `SIGSYS`.
    Trap,
    /// The thread ends.
    KillThread,
    /// The process ends.
    KillProcess,
}

impl Action {
    fn code(self) -> u32 {
        match self {
            Action::KillProcess => 0x8000_0000,
            Action::KillThread => 0,
            Action::Trap => 0x0003_0000,
            Action::Errno(number) => 0x0005_0000 | u32::from(number),
            Action::Trace(number) => 0x7ff0_0000 | u32::from(number),
            Action::Log => 0x7ffc_0000,
            Action::Allow => 0x7fff_0000,
        }
    }
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Equal.
    Equal(u64),
    /// Not equal.
    NotEqual(u64),
    /// Less.
    Less(u64),
    /// Less or equal.
    LessOrEqual(u64),
    /// Greater.
    Greater(u64),
    /// Greater or equal.
    GreaterOrEqual(u64),
    /// Equal under a mask.
    Masked {
        /// The bits that count.
        mask: u64,
        /// What they must be.
        value: u64,
    },
}

/// What an argument of a call must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// The argument, from 0 to 5.
    pub argument: u8,
    /// The comparison.
    pub compare: Compare,
}

/// What becomes of some calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Their names; those that an architecture does not have are passed over.
    pub calls: Vec<String>,
    /// What becomes of them.
    pub action: Action,
    /// All must hold.
    pub conditions: Vec<Condition>,
}

/// What a process may ask of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// For calls without a rule.
    pub default: Action,
    /// Of several that fit a call, the first one counts; those with conditions go before those without.
    pub rules: Vec<Rule>,
    /// Also takes calls of the 32-bit architecture that the processor can run.
    pub compat: bool,
}

/// Flags of a filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// Applies it to all threads.
    pub all_threads: bool,
    /// Logs what it refuses.
    pub log: bool,
    /// Leaves mitigations of speculative execution as they are.
    pub allow_speculation: bool,
}

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
/// Calls of the x32 convention have this bit.
const X32: u32 = 0x4000_0000;

/// A filter, ready to be loaded.
#[derive(Debug)]
pub struct Filter {
    code: Vec<Instruction>,
}

/// The number of a call by its name.
type Table = fn(&str) -> Option<u32>;

/// What becomes of one call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Decision {
    conditional: Vec<(Vec<Condition>, Action)>,
    always: Option<Action>,
}

impl Filter {
    /// Assembles a profile.
    pub fn assemble(profile: &Profile) -> Result<Self> {
        let mut architectures: Vec<(u32, Table)> = Vec::new();
        if cfg!(target_arch = "x86_64") {
            architectures.push((X86_64, |name| x86(name).map(|call| call.0)?));
            if profile.compat {
                architectures.push((I386, |name| x86(name).map(|call| call.1)?));
            }
        } else if cfg!(target_arch = "aarch64") {
            architectures.push((AARCH64, arm));
        } else {
            return Err(Error::invalid("seccomp: this processor architecture has no table of system calls"));
        }
        let mut program = Program::default();
        for (architecture, number) in architectures {
            let decisions = decisions(profile, number)?;
            let body = assemble::calls(&decisions, profile.default, architecture == X86_64);
            program.architecture(architecture, body);
        }
        program.finish(Action::KillProcess);
        let code = program.code;
        if code.len() > 4096 {
            return Err(Error::invalid(format!("seccomp: the profile takes {} instructions, over 4096", code.len())));
        }
        Ok(Self { code })
    }

    /// Applies it to the calling thread, for good. Without `no_new_privs` that takes CAP_SYS_ADMIN.
    pub fn load(&self, flags: Flags) -> Result<()> {
        #[repr(C)]
        struct Code {
            length: u16,
            first: *const Instruction,
        }
        let bits = u32::from(flags.all_threads) | u32::from(flags.log) << 1 | u32::from(flags.allow_speculation) << 2;
        let code = Code { length: self.code.len() as u16, first: self.code.as_ptr() };
        // SAFETY: the structure is as the kernel defines it and, with the code it points to, lives through the call.
        let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, bits, &code) };
        Errno::result(result).map_err(io::Error::from).context(|| "seccomp: cannot load the filter")?;
        Ok(())
    }
}

fn x86(name: &str) -> Option<(Option<u32>, Option<u32>)> {
    let found = x86::CALLS.binary_search_by_key(&name, |call| call.0).ok()?;
    let (_, wide, narrow) = x86::CALLS[found];
    Some((u32::try_from(wide).ok(), u32::try_from(narrow).ok()))
}

fn arm(name: &str) -> Option<u32> {
    let found = arm64::CALLS.binary_search_by_key(&name, |call| call.0).ok()?;
    u32::try_from(arm64::CALLS[found].1).ok()
}

fn decisions(profile: &Profile, number: Table) -> Result<BTreeMap<u32, Decision>> {
    let mut decisions: BTreeMap<u32, Decision> = BTreeMap::new();
    for rule in &profile.rules {
        if rule.conditions.iter().any(|condition| condition.argument > 5) {
            return Err(Error::invalid("seccomp: a system call has six arguments"));
        }
        for call in rule.calls.iter().filter_map(|name| number(name)) {
            let decision = decisions.entry(call).or_default();
            if rule.conditions.is_empty() {
                decision.always.get_or_insert(rule.action);
            } else {
                decision.conditional.push((rule.conditions.clone(), rule.action));
            }
        }
    }
    Ok(decisions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(calls: &[&str], action: Action, conditions: &[Condition]) -> Rule {
        Rule { calls: calls.iter().map(|c| (*c).to_owned()).collect(), action, conditions: conditions.to_vec() }
    }

    #[test]
    fn tables_are_in_order() {
        assert!(x86::CALLS.is_sorted_by_key(|call| call.0));
        assert!(arm64::CALLS.is_sorted_by_key(|call| call.0));
        assert_eq!(x86("clone3"), Some((Some(435), Some(435))));
        assert_eq!((x86("openat").unwrap().0, arm("openat")), (Some(257), Some(56)));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn calls_are_decided_by_number_and_arguments() {
        let at = |argument, compare| Condition { argument, compare };
        let profile = Profile {
            default: Action::Errno(1),
            rules: vec![
                rule(&["read", "write", "close"], Action::Allow, &[]),
                rule(&["socket"], Action::Errno(97), &[at(0, Compare::Equal(40))]),
                rule(
                    &["socket"],
                    Action::Allow,
                    &[at(0, Compare::NotEqual(16)), at(1, Compare::LessOrEqual(0x1_0000_0002))],
                ),
                rule(&["clone"], Action::Allow, &[at(0, Compare::Masked { mask: 0x7e02_0000, value: 0 })]),
                rule(&["lseek"], Action::Trap, &[at(1, Compare::Greater(u64::from(u32::MAX)))]),
                rule(&["lseek"], Action::Log, &[at(1, Compare::Less(5))]),
                rule(&["lseek"], Action::Allow, &[]),
                rule(&["no_such_call"], Action::Allow, &[]),
            ],
            compat: true,
        };
        let filter = Filter::assemble(&profile).unwrap();
        let run =
            |architecture, number, arguments: [u64; 6]| assemble::run(&filter.code, architecture, number, arguments);
        let native = |name: &str, arguments| run(X86_64, x86(name).unwrap().0.unwrap(), arguments);
        assert_eq!(native("read", [0; 6]), Action::Allow.code());
        assert_eq!(native("open", [0; 6]), Action::Errno(1).code());
        assert_eq!(native("socket", [40, 0, 0, 0, 0, 0]), Action::Errno(97).code());
        assert_eq!(native("socket", [2, 1, 0, 0, 0, 0]), Action::Allow.code());
        assert_eq!(native("socket", [2, 0x1_0000_0002, 0, 0, 0, 0]), Action::Allow.code());
        assert_eq!(native("socket", [2, 0x1_0000_0003, 0, 0, 0, 0]), Action::Errno(1).code());
        assert_eq!(native("socket", [16, 1, 0, 0, 0, 0]), Action::Errno(1).code());
        assert_eq!(native("clone", [0x0100_0011, 0, 0, 0, 0, 0]), Action::Allow.code());
        assert_eq!(native("clone", [0x1000_0011, 0, 0, 0, 0, 0]), Action::Errno(1).code());
        assert_eq!(native("lseek", [0, 1 << 33, 0, 0, 0, 0]), Action::Trap.code());
        assert_eq!(native("lseek", [0, 4, 0, 0, 0, 0]), Action::Log.code());
        assert_eq!(native("lseek", [0, 5, 0, 0, 0, 0]), Action::Allow.code());
        // Calls that are newer than the profile do not exist, so that programs fall back to older ones.
        assert_eq!(run(X86_64, 900, [0; 6]), Action::Errno(38).code());
        assert_eq!(run(X86_64, X32, [0; 6]), Action::Errno(1).code());
        assert_eq!(run(I386, 3, [0; 6]), Action::Allow.code());
        assert_eq!(run(I386, 0, [0; 6]), Action::Errno(1).code());
        assert_eq!(run(AARCH64, 0, [0; 6]), Action::KillProcess.code());
    }
}
