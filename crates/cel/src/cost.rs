//! What evaluations cost: counted while they run, and estimated before.
//!
//! The numbers are those of upstream: which rules a definition may have depends on them.

mod estimate;

pub use estimate::Estimate;
pub(crate) use estimate::estimate;

use smol_str::SmolStr;

use crate::ast::op;
use crate::opaque::Opaque;
use crate::value::Value;

/// Making a list, a map, an object.
pub(crate) const LIST: u64 = 10;
pub(crate) const MAP: u64 = 30;
pub(crate) const STRUCT: u64 = 40;
/// Going over one character.
pub(crate) const TRAVERSAL: f64 = 0.1;
/// One character of a regular expression, times the text's cost.
pub(crate) const REGEX: f64 = 0.25;
/// An authorization check: no expression can afford three.
pub(crate) const CHECK: u64 = 350_000;

/// How large the host's values may be.
pub trait Sizes {
    /// The greatest number of characters, items or entries at a path, which starts with a variable; `@items`,
    /// `@keys` and `@values` stand for what lists and maps hold. `None` when nothing is known.
    fn max(&self, path: &[SmolStr]) -> Option<u64>;
}

/// Nothing is known.
impl Sizes for () {
    fn max(&self, _: &[SmolStr]) -> Option<u64> {
        None
    }
}

fn scaled(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

/// What a call has cost.
pub(crate) fn actual(function: &str, args: &[Value<'_>], result: Option<&Value<'_>>) -> u64 {
    let size = |i: usize| args.get(i).map_or(1, Value::size);
    let traversal = |i: usize| scaled(size(i), TRAVERSAL);
    match function {
        "check" => CHECK,
        "fieldSelector" | "labelSelector" => {
            let length = size(1);
            // A list of requirements, one for every two characters at the worst.
            LIST + scaled(length, TRAVERSAL) + scaled(scaled(length, 0.5), (LIST + STRUCT) as f64)
        }
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
            args.first().map_or(1, whole_traversal)
        }
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver"
        | "strings.quote"
        | "format"
        | "string"
        | "bytes"
            if !matches!((function, args.first()), ("string" | "bytes", Some(a)) if !converts(function, a)) =>
        {
            traversal(0)
        }
        "replace" | "split" | "ip.isCanonical" => scaled(size(0), 2.0 * TRAVERSAL),
        "join" => scaled(result.map_or(1, Value::size), 2.0 * TRAVERSAL),
        "find" | "findAll" | "matches" => ((1.0 + size(0) as f64) * TRAVERSAL).ceil() as u64 * scaled(size(1), REGEX),
        "ip" => match args.first() {
            Some(Value::String(_)) => traversal(0),
            _ => 1,
        },
        "containsIP" => {
            let text = matches!(args.get(1), Some(Value::String(_)));
            scaled(2 * size(0), TRAVERSAL) + if text { traversal(1) } else { 0 }
        }
        "containsCIDR" => {
            let text = matches!(args.get(1), Some(Value::String(_)));
            scaled(2 * size(0), TRAVERSAL) + traversal(0) + 1 + if text { traversal(1) } else { 0 }
        }
        "validate" => {
            let regex = match args.first() {
                Some(Value::Opaque(Opaque::Format(format))) => format.regex_size,
                _ => 1,
            };
            ((1.0 + size(1) as f64) * TRAVERSAL).ceil() as u64 * scaled(regex, REGEX)
        }
        "startsWith" | "endsWith" => traversal(1),
        "contains" => traversal(0) * traversal(1),
        "slice" | "lists.range" | "reverse" if !matches!(args.first(), Some(Value::String(_))) => {
            1 + LIST + result.map_or(0, Value::size)
        }
        "flatten" => {
            let depth = match args.get(1) {
                Some(Value::Int(depth)) if *depth >= 0 => *depth as u64,
                _ => 1,
            };
            (1 + LIST).saturating_add(size(0).saturating_mul(depth))
        }
        "distinct" | "sort" => self_compared(args.first()),
        op::SORT_BY_KEYS => self_compared(args.get(1)),
        "sets.contains" | "sets.intersects" => size(0).saturating_mul(size(1)).saturating_add(1),
        "sets.equivalent" => size(0).saturating_mul(size(1)).saturating_mul(2).saturating_add(1),
        op::IN => match args.get(1) {
            Some(Value::List(list)) => list.len() as u64,
            _ => 1,
        },
        op::EQUALS if matches!(args.first(), Some(Value::Opaque(_))) => 1,
        op::EQUALS | op::NOT_EQUALS => compared(&args[0], &args[1]),
        op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS
            if matches!(args.first(), Some(Value::String(_) | Value::Bytes(_))) =>
        {
            compared(&args[0], &args[1])
        }
        op::ADD if matches!(args.first(), Some(Value::String(_) | Value::Bytes(_))) => {
            scaled(size(0) + size(1), TRAVERSAL)
        }
        _ => 1,
    }
}

fn compared(a: &Value<'_>, b: &Value<'_>) -> u64 {
    scaled(a.size().min(b.size()), TRAVERSAL)
}

/// Whether a conversion goes over its argument.
fn converts(function: &str, arg: &Value<'_>) -> bool {
    matches!((function, arg), ("string", Value::Bytes(_)) | ("bytes", Value::String(_)))
}

fn whole_traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => (text.len() as f64 * TRAVERSAL) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * TRAVERSAL) as u64,
        Value::List(list) => list.iter().map(|item| whole_traversal(&item)).fold(0, u64::saturating_add),
        Value::Map(map) => map.keys().iter().fold(0, |sum, key| {
            let value = map.get(key).ok().flatten();
            sum.saturating_add(whole_traversal(&key.value())).saturating_add(value.as_ref().map_or(0, whole_traversal))
        }),
        _ => 1,
    }
}

fn self_compared(list: Option<&Value<'_>>) -> u64 {
    let Some(Value::List(list)) = list else { return 1 };
    let factor = match list.get(0) {
        Some(Value::String(_) | Value::Bytes(_)) => 2.0 + TRAVERSAL,
        _ => 2.0,
    };
    let length = list.len() as f64;
    (length * length * factor) as u64 + 1 + LIST
}
