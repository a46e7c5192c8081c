//! The assembler of seccomp filters: search by number, then comparison of arguments.

use std::collections::BTreeMap;

use super::{Action, Compare, Condition, Decision, X32};

/// An instruction of classic BPF.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u16,
    yes: u8,
    no: u8,
    value: u32,
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Where the kernel puts what a filter looks at.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

fn plain(code: u16, value: u32) -> Instruction {
    Instruction { code, yes: 0, no: 0, value }
}

fn branch(code: u16, value: u32, yes: u8, no: u8) -> Instruction {
    Instruction { code, yes, no, value }
}

fn give(action: Action) -> Instruction {
    plain(RETURN, action.code())
}

/// A whole filter.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub code: Vec<Instruction>,
}

impl Program {
    /// Adds the part of an architecture.
    pub fn architecture(&mut self, architecture: u32, body: Vec<Instruction>) {
        self.code.push(plain(LOAD, ARCHITECTURE));
        self.code.push(branch(EQUAL, architecture, 1, 0));
        // The distance of a branch is a byte, that of a jump a word.
        self.code.push(plain(JUMP, body.len() as u32));
        self.code.extend(body);
    }

    /// Says what becomes of calls of any other architecture.
    pub fn finish(&mut self, other: Action) {
        self.code.push(give(other));
    }
}

/// A range of numbers that one block decides; it ends where the next begins.
struct Range {
    first: u32,
    block: Vec<Instruction>,
}

/// The part of an architecture.
pub(super) fn calls(decisions: &BTreeMap<u32, Decision>, default: Action, native_x86: bool) -> Vec<Instruction> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut add = |first: u32, block: Vec<Instruction>| match ranges.last() {
        Some(last) if last.block == block => {}
        _ => ranges.push(Range { first, block }),
    };
    add(0, vec![give(default)]);
    for (number, decision) in decisions {
        add(*number, decide(decision, default));
        add(number + 1, vec![give(default)]);
    }
    // A call that the profile's author could not know does not exist: programs then try an older one, while a
    // refusal they would take for final.
    if let (Action::Errno(EPERM), Some(last)) = (default, decisions.keys().next_back()) {
        add(last + 1, vec![give(Action::Errno(ENOSYS))]);
        if native_x86 {
            add(X32, vec![give(default)]);
        }
    }
    // Two ranges may begin at the same number where one call follows another: the later one counts.
    ranges.reverse();
    ranges.dedup_by_key(|range| range.first);
    ranges.reverse();
    let mut code = vec![plain(LOAD, NUMBER)];
    search(&ranges, &mut code);
    code
}

fn search(ranges: &[Range], code: &mut Vec<Instruction>) {
    if let [only] = ranges {
        code.extend_from_slice(&only.block);
        return;
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let mut below = Vec::new();
    search(left, &mut below);
    code.push(branch(AT_LEAST, right.first().map_or(0, |range| range.first), 0, 1));
    code.push(plain(JUMP, below.len() as u32));
    code.extend(below);
    search(right, code);
}

fn decide(decision: &Decision, default: Action) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (conditions, action) in &decision.conditional {
        let mut block = Vec::new();
        for condition in conditions {
            compare(condition, &mut block);
        }
        block.push(give(*action));
        // Each comparison left its branches to "does not hold" open: it is the end of the block.
        let end = block.len();
        for (at, instruction) in block.iter_mut().enumerate() {
            for target in [&mut instruction.yes, &mut instruction.no] {
                if *target == FAILS {
                    *target = (end - at - 1) as u8;
                }
            }
        }
        code.extend(block);
    }
    code.push(give(decision.always.unwrap_or(default)));
    code
}

/// A branch to the end of the block. Six arguments at six instructions each stay far below it.
const FAILS: u8 = 255;

/// Compares an argument by halves. What follows runs if the comparison holds.
fn compare(condition: &Condition, code: &mut Vec<Instruction>) {
    let low = ARGUMENTS + 8 * u32::from(condition.argument);
    let (load_high, load_low) = (plain(LOAD, low + 4), plain(LOAD, low));
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    match condition.compare {
        Compare::Equal(value) => {
            let (high, low) = halves(value);
            code.extend([load_high, branch(EQUAL, high, 0, FAILS), load_low, branch(EQUAL, low, 0, FAILS)]);
        }
        Compare::NotEqual(value) => {
            let (high, low) = halves(value);
            code.extend([load_high, branch(EQUAL, high, 0, 2), load_low, branch(EQUAL, low, FAILS, 0)]);
        }
        Compare::Masked { mask, value } => {
            let ((mask_high, mask_low), (high, low)) = (halves(mask), halves(value));
            code.extend([load_high, plain(AND, mask_high), branch(EQUAL, high, 0, FAILS)]);
            code.extend([load_low, plain(AND, mask_low), branch(EQUAL, low, 0, FAILS)]);
        }
        Compare::Greater(value) | Compare::GreaterOrEqual(value) => {
            let (high, low) = halves(value);
            let code_low = if matches!(condition.compare, Compare::Greater(_)) { GREATER } else { AT_LEAST };
            code.extend([load_high, branch(GREATER, high, 3, 0), branch(EQUAL, high, 0, FAILS)]);
            code.extend([load_low, branch(code_low, low, 0, FAILS)]);
        }
        Compare::Less(value) | Compare::LessOrEqual(value) => {
            let (high, low) = halves(value);
            let code_low = if matches!(condition.compare, Compare::Less(_)) { AT_LEAST } else { GREATER };
            code.extend([load_high, branch(GREATER, high, FAILS, 0), branch(EQUAL, high, 0, 2)]);
            code.extend([load_low, branch(code_low, low, FAILS, 0)]);
        }
    }
}

/// Runs a filter as the kernel would.
#[cfg(test)]
pub(super) fn run(code: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let load = |offset: u32| match offset {
        NUMBER => number,
        ARCHITECTURE => architecture,
        offset => {
            let argument = arguments[((offset - ARGUMENTS) / 8) as usize];
            if offset % 8 == 0 { argument as u32 } else { (argument >> 32) as u32 }
        }
    };
    let (mut at, mut value) = (0, 0);
    loop {
        let instruction = code[at];
        at += 1;
        let holds = match instruction.code {
            LOAD => {
                value = load(instruction.value);
                continue;
            }
            AND => {
                value &= instruction.value;
                continue;
            }
            JUMP => {
                at += instruction.value as usize;
                continue;
            }
            RETURN => return instruction.value,
            EQUAL => value == instruction.value,
            GREATER => value > instruction.value,
            AT_LEAST => value >= instruction.value,
            other => panic!("instruction {other:#x}"),
        };
        at += usize::from(if holds { instruction.yes } else { instruction.no });
    }
}
