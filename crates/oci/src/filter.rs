//! From the seccomp part of a specification to a filter.

use linux::seccomp::{Action, Compare, Condition, Filter, Flags, Profile, Rule};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};

use crate::{Error, Result};

const EPERM: u32 = 1;

/// A filter and how to load it.
#[derive(Debug)]
pub struct Loadable {
    filter: Filter,
    flags: Flags,
}

impl Loadable {
    /// Applies it to this process.
    pub fn load(&self) -> Result<()> {
        Ok(self.filter.load(self.flags)?)
    }
}

/// Assembles the filter of a specification.
pub fn assemble(seccomp: &LinuxSeccomp) -> Result<Loadable> {
    let mut rules = Vec::new();
    for call in seccomp.syscalls().iter().flatten() {
        let conditions = call.args().iter().flatten().map(condition).collect::<Result<Vec<_>>>()?;
        let rule = Rule { calls: call.names().clone(), action: action(call.action(), call.errno_ret())?, conditions };
        rules.extend(apart(rule));
    }
    let mut flags = Flags::default();
    for flag in seccomp.flags().iter().flatten() {
        match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => flags.log = true,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => flags.all_threads = true,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => flags.allow_speculation = true,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {}
        }
    }
    let default = action(seccomp.default_action(), seccomp.default_errno_ret())?;
    let compat = seccomp.architectures().as_ref().is_none_or(|list| list.contains(&Arch::ScmpArchX86));
    Ok(Loadable { filter: Filter::assemble(&Profile { default, rules, compat })?, flags })
}

/// Several conditions on the same argument mean any of them, on different arguments all, as in libseccomp's callers.
fn apart(rule: Rule) -> Vec<Rule> {
    let mut seen = [false; 6];
    let repeated = rule
        .conditions
        .iter()
        .any(|c| seen.get_mut(usize::from(c.argument)).is_some_and(|seen| std::mem::replace(seen, true)));
    if !repeated {
        return vec![rule];
    }
    let conditions = rule.conditions.iter();
    conditions.map(|c| Rule { calls: rule.calls.clone(), action: rule.action, conditions: vec![*c] }).collect()
}

fn action(action: LinuxSeccompAction, number: Option<u32>) -> Result<Action> {
    let number = u16::try_from(number.unwrap_or(EPERM)).map_err(|_| Error::spec("seccomp: errnoRet is too large"))?;
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => Action::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => Action::KillProcess,
        LinuxSeccompAction::ScmpActTrap => Action::Trap,
        LinuxSeccompAction::ScmpActErrno => Action::Errno(number),
        LinuxSeccompAction::ScmpActTrace => Action::Trace(number),
        LinuxSeccompAction::ScmpActLog => Action::Log,
        LinuxSeccompAction::ScmpActAllow => Action::Allow,
        LinuxSeccompAction::ScmpActNotify => return Err(Error::spec("seccomp: SCMP_ACT_NOTIFY is not supported")),
    })
}

fn condition(argument: &LinuxSeccompArg) -> Result<Condition> {
    let value = argument.value();
    let index = u8::try_from(argument.index()).ok().filter(|index| *index < 6);
    Ok(Condition {
        argument: index.ok_or_else(|| Error::spec("seccomp: a system call has six arguments"))?,
        compare: match argument.op() {
            LinuxSeccompOperator::ScmpCmpNe => Compare::NotEqual(value),
            LinuxSeccompOperator::ScmpCmpLt => Compare::Less(value),
            LinuxSeccompOperator::ScmpCmpLe => Compare::LessOrEqual(value),
            LinuxSeccompOperator::ScmpCmpEq => Compare::Equal(value),
            LinuxSeccompOperator::ScmpCmpGe => Compare::GreaterOrEqual(value),
            LinuxSeccompOperator::ScmpCmpGt => Compare::Greater(value),
            LinuxSeccompOperator::ScmpCmpMaskedEq => {
                Compare::Masked { mask: value, value: argument.value_two().unwrap_or(0) }
            }
        },
    })
}
