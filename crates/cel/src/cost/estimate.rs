//! Costs before there are values: from the sizes that types allow.

use std::collections::HashMap;

use smol_str::SmolStr;

use super::{CHECK, LIST, MAP, REGEX, STRUCT, Sizes, TRAVERSAL};
use crate::ast::{ACCUMULATOR, Expr, Fold, Id, Kind, Literal, op};
use crate::checker::Checked;
use crate::types::{Type, opaque};

/// A range of costs or sizes; sums and products stop at the largest number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    pub min: u64,
    pub max: u64,
}

const UNKNOWN: Estimate = Estimate { min: 0, max: u64::MAX };
/// How long the regular expression of a named form may be, and the form itself.
const MAX_FORMAT_REGEX: u64 = 128;
const MAX_FORMAT: u64 = 64;
/// Bytes of an address.
const ADDRESS: Estimate = Estimate { min: 4, max: 16 };

impl Estimate {
    pub const fn exactly(n: u64) -> Estimate {
        Estimate { min: n, max: n }
    }

    fn plus(self, other: Estimate) -> Estimate {
        Estimate { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    fn times(self, other: Estimate) -> Estimate {
        Estimate { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    fn scaled(self, factor: f64) -> Estimate {
        let scale = |n: u64| {
            let product = (n as f64 * factor).ceil();
            if product >= 1.844_674_407_370_955_2e19 { u64::MAX } else { product as u64 }
        };
        Estimate { min: scale(self.min), max: scale(self.max) }
    }

    fn or(self, other: Estimate) -> Estimate {
        Estimate { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

type Size = Option<Estimate>;

/// The sizes of what a list or map holds: keys (of a list: positions) and values.
#[derive(Clone, Copy)]
struct Entries {
    list: bool,
    key: Estimate,
    value: Estimate,
}

/// A variable of a loop.
struct Local {
    path: Vec<SmolStr>,
    size: Size,
    entries: Option<Entries>,
}

struct Estimator<'c> {
    checked: &'c Checked,
    sizes: &'c dyn Sizes,
    paths: HashMap<Id, Vec<SmolStr>>,
    computed: HashMap<Id, Estimate>,
    entries: HashMap<Id, Entries>,
    locals: HashMap<SmolStr, Vec<Local>>,
}

/// What an evaluation costs.
pub(crate) fn estimate(checked: &Checked, sizes: &dyn Sizes) -> Estimate {
    let mut estimator = Estimator {
        checked,
        sizes,
        paths: HashMap::new(),
        computed: HashMap::new(),
        entries: HashMap::new(),
        locals: HashMap::new(),
    };
    estimator.cost(&checked.root)
}

/// An argument of a call, as far as costs go.
struct Arg<'c> {
    expr: &'c Expr,
    cost: Estimate,
    size: Size,
    path: Vec<SmolStr>,
}

fn last(stack: Option<&Vec<Local>>) -> Option<&Local> {
    stack.and_then(|s| s.last())
}

impl<'c> Estimator<'c> {
    fn ty(&self, expr: &Expr) -> &'c Type {
        &self.checked.types[expr.id as usize]
    }

    fn local(&self, expr: &Expr) -> Option<&Local> {
        last(self.locals.get(expr.as_ident()?))
    }

    fn path(&self, expr: &Expr) -> Vec<SmolStr> {
        match self.local(expr) {
            Some(local) => local.path.clone(),
            None => self.paths.get(&expr.id).cloned().unwrap_or_default(),
        }
    }

    fn below(&self, expr: &Expr, step: &str) -> Vec<SmolStr> {
        let mut path = self.path(expr);
        path.push(step.into());
        path
    }

    /// The size of a value from the outside: a path is only good when it starts at a variable of the environment.
    fn declared(&self, path: &[SmolStr]) -> Size {
        if path.is_empty() || path[0] == ACCUMULATOR {
            return None;
        }
        self.sizes.max(path).map(|max| Estimate { min: 0, max })
    }

    fn size(&mut self, expr: &Expr) -> Size {
        if let Some(found) = self.computed.get(&expr.id) {
            return Some(*found);
        }
        let written = match &expr.kind {
            Kind::Literal(Literal::String(text)) => Some(text.chars().count() as u64),
            Kind::Literal(Literal::Bytes(bytes)) => Some(bytes.len() as u64),
            Kind::Literal(_) => Some(1),
            Kind::List { items, .. } => Some(items.len() as u64),
            Kind::Map(entries) => Some(entries.len() as u64),
            _ => None,
        };
        if let Some(written) = written {
            return Some(Estimate::exactly(written));
        }
        let path = self.path(expr);
        if let Some(declared) = self.declared(&path) {
            self.computed.insert(expr.id, declared);
            return Some(declared);
        }
        if is_scalar(self.ty(expr)) {
            return Some(Estimate::exactly(1));
        }
        self.local(expr).and_then(|local| local.size)
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Estimate {
        self.size(expr).unwrap_or(UNKNOWN)
    }

    fn entries_of(&self, expr: &Expr) -> Option<Entries> {
        match self.entries.get(&expr.id) {
            Some(found) => Some(*found),
            None => self.local(expr).and_then(|local| local.entries),
        }
    }

    fn push(&mut self, name: &SmolStr, local: Local) {
        self.locals.entry(name.clone()).or_default().push(local);
    }

    fn pop(&mut self, name: &SmolStr) {
        if let Some(stack) = self.locals.get_mut(name) {
            stack.pop();
        }
    }

    fn cost(&mut self, expr: &'c Expr) -> Estimate {
        match &expr.kind {
            Kind::Literal(_) => Estimate::exactly(0),
            Kind::Ident(name) => {
                let path = self.local(expr).map_or_else(|| vec![name.clone()], |local| local.path.clone());
                self.paths.insert(expr.id, path);
                Estimate::exactly(1)
            }
            Kind::Select { operand, test: true, .. } => self.cost(operand),
            Kind::Select { operand, field, .. } => {
                let mut sum = self.cost(operand);
                if matches!(self.ty(operand), Type::Map(..) | Type::Struct(_) | Type::Param(_)) {
                    sum = sum.plus(Estimate::exactly(1));
                }
                let path = self.below(operand, field);
                self.paths.insert(expr.id, path);
                sum
            }
            Kind::Call { target, function, args } => self.call(expr, target.as_deref(), function, args),
            Kind::List { items, .. } => {
                let mut sum = Estimate::exactly(LIST);
                let mut value = Estimate { min: if items.is_empty() { 0 } else { u64::MAX }, max: 0 };
                for item in items {
                    sum = sum.plus(self.cost(item));
                    value = value.or(self.size_or_unknown(item));
                }
                self.entries.insert(expr.id, Entries { list: true, key: Estimate::exactly(1), value });
                sum
            }
            Kind::Map(entries) => {
                let mut sum = Estimate::exactly(MAP);
                let none = Estimate { min: if entries.is_empty() { 0 } else { u64::MAX }, max: 0 };
                let (mut key, mut value) = (none, none);
                for entry in entries {
                    sum = sum.plus(self.cost(&entry.key)).plus(self.cost(&entry.value));
                    key = key.or(self.size_or_unknown(&entry.key));
                    value = value.or(self.size_or_unknown(&entry.value));
                }
                self.entries.insert(expr.id, Entries { list: false, key, value });
                sum
            }
            Kind::Struct { fields, .. } => {
                fields.iter().fold(Estimate::exactly(STRUCT), |sum, field| sum.plus(self.cost(&field.value)))
            }
            Kind::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn fold(&mut self, expr: &Expr, fold: &'c Fold) -> Estimate {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.start));
        let start =
            Local { path: self.path(&fold.start), size: self.size(&fold.start), entries: self.entries_of(&fold.start) };
        self.push(&fold.accumulator, start);
        if fold.accumulator != ACCUMULATOR {
            // Only binds a name.
            sum = sum.plus(self.cost(&fold.result));
            self.pop(&fold.accumulator);
            if let Some(size) = self.size(&fold.result) {
                self.computed.insert(expr.id, size);
            }
            if let Some(entries) = self.entries_of(&fold.result) {
                self.entries.insert(expr.id, entries);
            }
            return sum;
        }
        let known = self.entries_of(&fold.range);
        let list = known.map_or_else(|| matches!(self.ty(&fold.range), Type::List(_)), |k| k.list);
        let (key, value) = (known.map(|k| k.key), known.map(|k| k.value));
        let keys =
            Local { path: self.below(&fold.range, if list { "@indices" } else { "@keys" }), size: key, entries: None };
        let values = Local {
            path: self.below(&fold.range, if list { "@items" } else { "@values" }),
            size: value,
            entries: None,
        };
        match &fold.second {
            Some(second) => {
                self.push(&fold.variable, keys);
                self.push(second, values);
            }
            None => self.push(&fold.variable, if list { values } else { keys }),
        }
        let round = self.cost(&fold.condition).plus(self.cost(&fold.step));
        self.pop(&fold.variable);
        if let Some(second) = &fold.second {
            self.pop(second);
        }
        sum = sum.plus(self.cost(&fold.result));
        self.pop(&fold.accumulator);
        let rounds = self.size_or_unknown(&fold.range);
        match &fold.start.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&fold.start) {
                    self.computed.insert(expr.id, size);
                }
            }
            Kind::List { .. } | Kind::Map(_) => {
                self.computed.insert(expr.id, rounds);
                if let Some(entries) = self.entries_of(&fold.step) {
                    self.entries.insert(expr.id, entries);
                }
            }
            _ => {}
        }
        sum.plus(rounds.times(round))
    }

    fn call(&mut self, expr: &'c Expr, target: Option<&'c Expr>, function: &str, args: &'c [Expr]) -> Estimate {
        if let ("dyn", [arg]) = (function, args) {
            let cost = self.cost(arg).plus(Estimate::exactly(1));
            if let Some(size) = self.size(arg) {
                self.computed.insert(expr.id, size);
            }
            if let Some(entries) = self.entries_of(arg) {
                self.entries.insert(expr.id, entries);
            }
            return cost;
        }
        let args: Vec<Arg<'c>> = args.iter().map(|arg| self.arg(arg)).collect();
        let target = target.map(|target| self.arg(target));
        let mut sum = target.as_ref().map_or(Estimate::exactly(0), |t| t.cost);
        let ids: Vec<&str> = self.checked.overloads[expr.id as usize].iter().map(|o| o.id.as_str()).collect();
        if function == op::OPT_SELECT {
            return args.iter().fold(Estimate::exactly(1), |sum, arg| sum.plus(arg.cost));
        }
        let mut cost = Estimate { min: u64::MAX, max: 0 };
        let mut size: Size = None;
        for id in ids {
            let (call, result) = self.function(expr, function, id, target.as_ref(), &args);
            cost = cost.or(call);
            size = match (size, result) {
                (Some(a), Some(b)) => Some(a.or(b)),
                (a, b) => a.or(b),
            };
            let container = args.first().map(|a| a.expr);
            if let (Some(container), "index_list" | "index_map") = (container, id) {
                let step = if id == "index_list" { "@items" } else { "@values" };
                size = self.entries_of(container).map(|e| e.value);
                let path = self.below(container, step);
                self.paths.insert(expr.id, path);
            }
            if size.is_none() {
                size = self.size(expr);
            }
        }
        if let Some(size) = size {
            self.computed.insert(expr.id, size);
        }
        sum = sum.plus(cost);
        sum
    }

    fn arg(&mut self, expr: &'c Expr) -> Arg<'c> {
        let cost = self.cost(expr);
        Arg { expr, cost, size: self.size(expr), path: self.path(expr) }
    }

    /// The size of an item of a list.
    fn item_size(&self, list: &Arg<'_>) -> Size {
        let Type::List(item) = self.ty(list.expr) else { return None };
        if list.path.is_empty() {
            return Some(if is_scalar(item) { Estimate::exactly(1) } else { UNKNOWN });
        }
        let mut path = list.path.clone();
        path.push("@items".into());
        Some(self.declared(&path).unwrap_or(UNKNOWN))
    }

    /// The cost of a call with its arguments (but not its target), and the size of the result if that is known.
    fn function(
        &mut self,
        expr: &'c Expr,
        function: &str,
        id: &str,
        target: Option<&Arg<'c>>,
        args: &[Arg<'c>],
    ) -> (Estimate, Size) {
        let all = args.iter().fold(Estimate::exactly(0), |sum, arg| sum.plus(arg.cost));
        let of = |arg: &Arg<'_>| arg.size.unwrap_or(UNKNOWN);
        let one = Estimate::exactly(1);
        if let Some((cost, size)) = self.listed(function, id, target, args) {
            return (cost.plus(all), size);
        }
        if let Some((cost, size)) = self.library(function, id, target, args) {
            return (cost.plus(all), size);
        }
        let (cost, size) = match (id, target, args) {
            ("string_format", Some(target), _) => (of(target).scaled(TRAVERSAL), None),
            ("string_to_bytes", _, [arg]) => {
                let size = of(arg);
                let result = Estimate { min: size.min, max: size.max.saturating_mul(4) };
                (size.scaled(TRAVERSAL), Some(result))
            }
            ("bytes_to_string", _, [arg]) => {
                let size = of(arg);
                (size.scaled(TRAVERSAL), Some(Estimate { min: size.min / 4, max: size.max }))
            }
            ("strings_quote", _, [arg]) => {
                let size = of(arg);
                let result = size.times(Estimate { min: 1, max: 2 }).plus(Estimate::exactly(2));
                (size.scaled(TRAVERSAL), Some(result))
            }
            ("starts_with_string" | "ends_with_string", _, [arg]) => (of(arg).scaled(TRAVERSAL), None),
            ("in_list", _, [_, list]) => (of(list), None),
            ("matches", _, [text, regex]) | ("matches_string", Some(text), [regex]) => {
                let text = of(text).plus(one).scaled(TRAVERSAL);
                (text.times(of(regex).scaled(REGEX)), None)
            }
            ("contains_string", Some(text), [part]) => {
                (of(text).scaled(TRAVERSAL).times(of(part).scaled(TRAVERSAL)), None)
            }
            ("logical_or" | "logical_and", _, [left, right]) => {
                // The left side alone may decide.
                let both = left.cost.plus(right.cost);
                return (Estimate { min: left.cost.min, max: both.max }, None);
            }
            ("conditional", _, [condition, yes, no]) => {
                let size = of(yes).or(of(no));
                let entries = (self.entries_of(yes.expr), self.entries_of(no.expr));
                if let (Some(a), Some(b)) = entries {
                    self.entries.insert(expr.id, united(a, b));
                }
                return (condition.cost.plus(yes.cost.or(no.cost)), Some(size));
            }
            ("add_string" | "add_bytes" | "add_list", _, [a, b]) => {
                let size = of(a).plus(of(b));
                if let (Some(a), Some(b)) = (self.entries_of(a.expr), self.entries_of(b.expr)) {
                    self.entries.insert(expr.id, united(a, b));
                }
                (if id == "add_list" { one } else { size.scaled(TRAVERSAL) }, Some(size))
            }
            (id, _, [a, b]) if is_comparison(id) => {
                let max = of(a).max.min(of(b).max);
                let size = Estimate { min: u64::from(max > 0), max };
                (size.scaled(TRAVERSAL), None)
            }
            _ => (one, None),
        };
        (cost.plus(all), size)
    }

    /// Functions whose costs the list and set libraries declare.
    fn listed(&self, function: &str, id: &str, target: Option<&Arg<'c>>, args: &[Arg<'c>]) -> Option<(Estimate, Size)> {
        let of = |arg: &Arg<'_>| arg.size.unwrap_or(UNKNOWN);
        let number = |arg: &Arg<'_>, unknown: u64| match &arg.expr.kind {
            Kind::Literal(Literal::Int(n)) => u64::try_from(*n).unwrap_or(0),
            _ => unknown,
        };
        let making =
            |size: Estimate, factor: f64| Some((size.scaled(factor).plus(Estimate::exactly(1 + LIST)), Some(size)));
        match (function, target, args) {
            ("slice", Some(list), [start, end]) => {
                let (start, end) = (number(start, 0), number(end, of(list).max));
                making(Estimate::exactly(end.wrapping_sub(start)), 1.0)
            }
            ("lists.range", None, [n]) => making(Estimate::exactly(number(n, u64::MAX)), 1.0),
            ("reverse", Some(list), []) => making(of(list), 1.0),
            ("flatten", Some(list), []) => making(of(list), 1.0),
            ("flatten", Some(list), [depth]) => making(of(list), number(depth, u64::MAX) as f64),
            ("distinct", Some(list), []) => making(of(list).times(of(list)), 2.0),
            ("sort", Some(list), []) => {
                let texts = id.contains("string") || id.contains("bytes");
                making(of(list).times(of(list)), if texts { 2.0 + TRAVERSAL } else { 2.0 })
            }
            (op::SORT_BY_KEYS, Some(_), [keys]) => {
                let texts = id.contains("string") || id.contains("bytes");
                making(of(keys).times(of(keys)), if texts { 2.0 + TRAVERSAL } else { 2.0 })
            }
            ("sets.contains" | "sets.intersects" | "sets.equivalent", None, [a, b]) => {
                let factor = if function == "sets.equivalent" { 2.0 } else { 1.0 };
                Some((of(a).times(of(b)).scaled(factor).plus(Estimate::exactly(1)), None))
            }
            _ => None,
        }
    }

    /// Functions of Kubernetes' libraries.
    fn library(
        &self,
        function: &str,
        id: &str,
        target: Option<&Arg<'c>>,
        args: &[Arg<'c>],
    ) -> Option<(Estimate, Size)> {
        let of = |arg: &Arg<'_>| arg.size.unwrap_or(UNKNOWN);
        let one = Estimate::exactly(1);
        match (function, target, args) {
            ("check", ..) => Some((Estimate::exactly(CHECK), None)),
            ("fieldSelector" | "labelSelector", _, [selector]) => {
                let requirements = of(selector).scaled(0.5).scaled((LIST + STRUCT) as f64);
                Some((Estimate::exactly(LIST).plus(of(selector).scaled(TRAVERSAL)).plus(requirements), None))
            }
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes", Some(list), _) => {
                let item = match self.ty(list.expr) {
                    Type::List(item) if matches!(**item, Type::String | Type::Bytes) => {
                        one.plus(self.item_size(list).unwrap_or(UNKNOWN).scaled(TRAVERSAL))
                    }
                    Type::List(_) => one,
                    _ if function == "includes" => one,
                    _ => return Some((of(list).scaled(TRAVERSAL), None)),
                };
                Some((of(list).times(item), None))
            }
            ("url" | "jsonpatch.escapeKey", _, [text]) => Some((of(text).scaled(TRAVERSAL), text.size)),
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(text), _) => {
                Some((of(text).scaled(TRAVERSAL), Some(of(text))))
            }
            ("replace", Some(text), [old, new, ..]) => {
                Some((of(text).scaled(2.0 * TRAVERSAL), Some(replaced(of(text), of(old), of(new)))))
            }
            ("split", Some(text), args) => {
                let max = match args.get(1).map(|a| &a.expr.kind) {
                    Some(Kind::Literal(Literal::Int(limit))) => *limit as u64,
                    _ => of(text).max,
                };
                Some((of(text).scaled(2.0 * TRAVERSAL), Some(Estimate { min: 0, max })))
            }
            ("join", Some(list), args) => {
                let length = of(list);
                let mut size = length.times(self.item_size(list).unwrap_or(Estimate::exactly(0)));
                if let Some(separator) = args.first() {
                    let gaps = Estimate { min: length.min.saturating_sub(1), max: length.max.saturating_sub(1) };
                    size = size.plus(of(separator).times(gaps));
                }
                Some((size.scaled(TRAVERSAL), Some(size)))
            }
            ("find" | "findAll", Some(text), [regex, ..]) => {
                let cost = of(text).plus(one).scaled(TRAVERSAL).times(of(regex).scaled(REGEX));
                Some((cost, Some(Estimate { min: 0, max: of(text).max })))
            }
            ("ip", ..) if id == "cidr_ip" => Some((one, None)),
            ("cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver", _, [text, ..]) => {
                Some((of(text).scaled(TRAVERSAL), None))
            }
            ("ip.isCanonical", _, [text]) => Some((of(text).scaled(2.0 * TRAVERSAL), None)),
            ("containsIP", _, [other]) => {
                let text =
                    if id == "cidr_contains_ip_string" { of(other).scaled(TRAVERSAL) } else { Estimate::exactly(0) };
                Some((ADDRESS.plus(ADDRESS).scaled(TRAVERSAL).plus(text), None))
            }
            ("containsCIDR", _, [other]) => {
                let text =
                    if id == "cidr_contains_cidr_string" { of(other).scaled(TRAVERSAL) } else { Estimate::exactly(0) };
                let compared = ADDRESS.plus(ADDRESS).scaled(TRAVERSAL).plus(ADDRESS.scaled(TRAVERSAL));
                Some((compared.plus(one).plus(text), None))
            }
            ("validate", _, [text]) => Some((of(text).scaled(TRAVERSAL).scaled(MAX_FORMAT_REGEX as f64 * REGEX), None)),
            (op::EQUALS, _, [a, b]) if self.ty(a.expr) == self.ty(b.expr) => match self.ty(a.expr) {
                Type::Opaque(opaque::FORMAT) => Some((Estimate { min: 1, max: MAX_FORMAT }.scaled(TRAVERSAL), None)),
                Type::Opaque(opaque::URL) => {
                    let size = b.size.unwrap_or(one);
                    Some((Estimate { min: 1, max: size.max }.scaled(TRAVERSAL), None))
                }
                Type::Opaque(_) => Some((one, None)),
                _ => None,
            },
            _ => None,
        }
    }
}

fn united(a: Entries, b: Entries) -> Entries {
    Entries { list: a.list, key: a.key.or(b.key), value: a.value.or(b.value) }
}

/// How long a text is after replacements.
fn replaced(text: Estimate, old: Estimate, new: Estimate) -> Estimate {
    let count = |text: u64, old: u64| (text as f64 / old as f64).ceil() as u64;
    let (most, kept_most) = match old.min {
        // Nothing is found before and behind each character.
        0 => (text.max.saturating_add(1), text.max),
        _ if new.max <= old.min => (0, text.max),
        old => (count(text.max, old), 0),
    };
    let (least, kept_least) = match old.max {
        0 => (text.min.saturating_add(1), text.min),
        _ if old.max <= new.min => (0, text.min),
        old => (count(text.min, old), 0),
    };
    Estimate { min: least, max: most }.times(new).plus(Estimate { min: kept_least, max: kept_most })
}

fn is_comparison(id: &str) -> bool {
    matches!(id, "equals" | "not_equals")
        || ["less_", "less_equals_", "greater_", "greater_equals_"]
            .iter()
            .any(|prefix| matches!(id.strip_prefix(prefix), Some("string" | "bytes")))
}

fn is_scalar(ty: &Type) -> bool {
    match ty {
        Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Duration | Type::Timestamp => true,
        Type::Optional(inner) => is_scalar(inner),
        _ => false,
    }
}
