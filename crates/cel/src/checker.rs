//! Types of every node, and which overloads a call may mean; refuses what cannot be right.

use std::collections::HashMap;

use smol_str::SmolStr;

use crate::ast::{Expr, Fold, Id, Kind, Literal, op};
use crate::library::{self, Overload, Overloads};
use crate::parser::Parsed;
use crate::source::{Issue, Issues};
use crate::types::{Mapping, Type, opaque, wider};

/// What an expression may name.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: HashMap<SmolStr, Type>,
    named_types: Option<fn(&str) -> Option<Type>>,
    json_patch: bool,
}

impl Env {
    /// An environment without variables; all functions are there.
    pub fn new() -> Env {
        Env::default()
    }

    /// The same with one more variable.
    pub fn with(mut self, name: impl Into<SmolStr>, ty: Type) -> Env {
        self.variables.insert(name.into(), ty);
        self
    }

    /// The same with a rule that knows further types by name, whose objects can be made (`Name{field: value}`).
    pub fn with_types(mut self, named: fn(&str) -> Option<Type>) -> Env {
        self.named_types = Some(named);
        self
    }

    /// The same with the functions for JSON patches.
    pub fn with_json_patch(mut self) -> Env {
        self.json_patch = true;
        self
    }

    fn named_type(&self, name: &str) -> Option<Type> {
        let any = || Type::Dyn;
        Some(match name {
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "null_type" => Type::Null,
            "list" => Type::list(any()),
            "map" => Type::map(any(), any()),
            "type" => Type::Type(any().into()),
            "google.protobuf.Duration" => Type::Duration,
            "google.protobuf.Timestamp" => Type::Timestamp,
            "optional_type" => Type::optional(any()),
            name => match opaque::ALL.iter().find(|o| **o == name) {
                Some(name) => Type::Opaque(name),
                None => return self.named_types.and_then(|named| named(name)),
            },
        })
    }

    fn function(&self, name: &str) -> Option<&'static Overloads> {
        library::function(name).filter(|_| self.json_patch || !name.starts_with("jsonpatch."))
    }
}

/// A tree with what the checker found.
#[derive(Debug)]
pub(crate) struct Checked {
    pub root: Expr,
    /// By id.
    pub types: Vec<Type>,
    /// The overloads that a call may mean, by id; empty for everything else.
    pub overloads: Vec<Vec<&'static Overload>>,
    /// Whether a node is the same in every evaluation, by id: it is computed once and costs nothing.
    pub constant: Vec<bool>,
}

/// Checks a parsed expression.
pub(crate) fn check(env: &Env, text: &str, parsed: Parsed) -> Result<Checked, Issues> {
    let Parsed { mut root, offsets } = parsed;
    let count = offsets.len();
    let mut checker = Checker {
        env,
        offsets,
        locals: Vec::new(),
        mapping: Mapping::default(),
        types: vec![Type::Error; count],
        overloads: vec![Vec::new(); count],
        issues: Vec::new(),
    };
    checker.expr(&mut root);
    let Checker { mapping, mut types, overloads, mut issues, offsets, .. } = checker;
    for ty in &mut types {
        *ty = mapping.substitute(ty, true);
    }
    if issues.is_empty() {
        homogeneous(&root, &types, &mut |id, message| {
            issues.push(Issue { offset: offsets.get(id as usize).copied().unwrap_or(0), message });
        });
    }
    if !issues.is_empty() {
        return Err(Issues::new(text, issues));
    }
    let mut constant = vec![false; count];
    mark_constants(&root, &mut constant);
    Ok(Checked { root, types, overloads, constant })
}

/// All items of a list have one type, and so have all keys and all values of a map, but below a call of `format`.
fn homogeneous(expr: &Expr, types: &[Type], issue: &mut dyn FnMut(Id, String)) {
    if matches!(&expr.kind, Kind::Call { function, .. } if function == "format") {
        return;
    }
    let of = |e: &Expr, optional: bool| match &types[e.id as usize] {
        Type::Optional(inner) if optional => (**inner).clone(),
        ty => ty.clone(),
    };
    let mut compare = |parts: &mut dyn Iterator<Item = (&Expr, bool)>| {
        let mut first: Option<Type> = None;
        for (part, optional) in parts {
            let ty = of(part, optional);
            match &first {
                None => first = Some(ty),
                Some(first) if *first != ty => {
                    issue(part.id, format!("expected type '{first}' but found '{ty}'"));
                    break;
                }
                Some(_) => {}
            }
        }
    };
    match &expr.kind {
        Kind::List { items, optional } => {
            compare(&mut items.iter().enumerate().map(|(i, item)| (item, optional.contains(&i))));
        }
        Kind::Map(entries) => {
            compare(&mut entries.iter().map(|e| (&e.key, false)));
            compare(&mut entries.iter().map(|e| (&e.value, e.optional)));
        }
        _ => {}
    }
    expr.each_child(&mut |child| homogeneous(child, types, issue));
}

/// What is the same in every evaluation: literals, lists and maps of such, and conversions of literals.
fn mark_constants(expr: &Expr, constant: &mut [bool]) {
    const CONVERSIONS: &[&str] =
        &["bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"];
    expr.each_child(&mut |child| mark_constants(child, constant));
    constant[expr.id as usize] = match &expr.kind {
        Kind::Literal(_) => true,
        Kind::List { items, optional } => optional.is_empty() && items.iter().all(|i| constant[i.id as usize]),
        Kind::Map(entries) => {
            entries.iter().all(|e| !e.optional && constant[e.key.id as usize] && constant[e.value.id as usize])
        }
        Kind::Call { target: None, function, args } if CONVERSIONS.contains(&function.as_str()) => {
            args.iter().all(|a| matches!(a.kind, Kind::Literal(_)))
        }
        _ => false,
    };
}

struct Checker<'e> {
    env: &'e Env,
    offsets: Vec<usize>,
    locals: Vec<(SmolStr, Type)>,
    mapping: Mapping,
    types: Vec<Type>,
    overloads: Vec<Vec<&'static Overload>>,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn issue(&mut self, id: Id, message: impl Into<String>) {
        let offset = self.offsets.get(id as usize).copied().unwrap_or(0);
        self.issues.push(Issue { offset, message: message.into() });
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.issue(id, format!("undeclared reference to '{name}' (in container '')"));
    }

    fn mismatch(&mut self, id: Id, expected: &Type, found: &Type) {
        let (expected, found) = (self.mapping.substitute(expected, false), self.mapping.substitute(found, false));
        self.issue(id, format!("expected type '{expected}' but found '{found}'"));
    }

    fn ty(&self, expr: &Expr) -> Type {
        self.types[expr.id as usize].clone()
    }

    fn expr(&mut self, expr: &mut Expr) -> Type {
        let ty = self.type_of(expr);
        self.types[expr.id as usize] = ty.clone();
        ty
    }

    fn type_of(&mut self, expr: &mut Expr) -> Type {
        let id = expr.id;
        if let Kind::Select { test: false, .. } = &expr.kind
            && let Some(name) = expr.qualified()
        {
            // A variable or a type may have a name of several parts.
            let variable = self.env.variables.get(name.as_str()).cloned();
            if let Some(ty) = variable.or_else(|| Some(Type::Type(self.env.named_type(&name)?.into()))) {
                expr.kind = Kind::Ident(name.into());
                return ty;
            }
        }
        match &mut expr.kind {
            Kind::Literal(literal) => match literal {
                Literal::Null => Type::Null,
                Literal::Bool(_) => Type::Bool,
                Literal::Int(_) => Type::Int,
                Literal::Uint(_) => Type::Uint,
                Literal::Double(_) => Type::Double,
                Literal::String(_) => Type::String,
                Literal::Bytes(_) => Type::Bytes,
            },
            Kind::Ident(name) => {
                let name = name.clone();
                self.ident(id, &name)
            }
            Kind::Select { operand, field, test } => {
                let ty = self.select(id, operand, field, false);
                if *test { Type::Bool } else { ty }
            }
            Kind::Call { target, function, args } => self.call(id, target, function, args),
            Kind::List { items, optional } => {
                let mut item_type: Option<Type> = None;
                for (i, item) in items.iter_mut().enumerate() {
                    let mut ty = self.expr(item);
                    if optional.contains(&i) {
                        ty = self.unwrap(item.id, ty);
                    }
                    item_type = Some(self.join(item_type, ty));
                }
                Type::list(item_type.unwrap_or_else(|| self.mapping.fresh()))
            }
            Kind::Map(entries) => {
                let (mut keys, mut values): (Option<Type>, Option<Type>) = (None, None);
                for entry in entries {
                    let key = self.expr(&mut entry.key);
                    keys = Some(self.join(keys, key));
                    let mut value = self.expr(&mut entry.value);
                    if entry.optional {
                        value = self.unwrap(entry.value.id, value);
                    }
                    values = Some(self.join(values, value));
                }
                let key = keys.unwrap_or_else(|| self.mapping.fresh());
                Type::map(key, values.unwrap_or_else(|| self.mapping.fresh()))
            }
            Kind::Struct { name, fields } => {
                let Some(made) = self.env.named_type(name) else {
                    let name = name.clone();
                    self.undeclared(id, &name);
                    return Type::Error;
                };
                let Type::Struct(declared) = &made else {
                    self.issue(id, format!("'{}' is not a message type", made.name()));
                    return Type::Error;
                };
                for field in fields {
                    let mut value = self.expr(&mut field.value);
                    if field.optional {
                        value = self.unwrap(field.value.id, value);
                    }
                    match declared.field(&field.name) {
                        None => self.issue(field.id, format!("undefined field '{}'", field.name)),
                        Some(wanted) => {
                            if !self.mapping.assign(&wanted, &value) {
                                let value = self.mapping.substitute(&value, false);
                                let name = &field.name;
                                let words = format!(
                                    "expected type of field '{name}' is '{wanted}' but provided type is '{value}'"
                                );
                                self.issue(field.id, words);
                            }
                        }
                    }
                }
                made
            }
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    fn ident(&mut self, id: Id, name: &str) -> Type {
        if let Some((_, ty)) = self.locals.iter().rev().find(|(own, _)| own == name) {
            return ty.clone();
        }
        if let Some(ty) = self.env.variables.get(name) {
            return ty.clone();
        }
        if let Some(ty) = self.env.named_type(name) {
            return Type::Type(ty.into());
        }
        self.undeclared(id, name);
        Type::Error
    }

    /// The type inside of an optional.
    fn unwrap(&mut self, id: Id, ty: Type) -> Type {
        match self.mapping.substitute(&ty, false) {
            Type::Optional(inner) => (*inner).clone(),
            other => {
                if !other.is_dyn() {
                    self.mismatch(id, &Type::optional(other.clone()), &other);
                }
                other
            }
        }
    }

    /// The common type of items of one list or map; [`homogeneous`] says later where mixtures may be.
    fn join(&mut self, before: Option<Type>, now: Type) -> Type {
        let Some(before) = before else { return now };
        if self.mapping.assign(&before, &now) { wider(&before, &now) } else { Type::Dyn }
    }

    fn select(&mut self, id: Id, operand: &mut Expr, field: &str, optional: bool) -> Type {
        let found = self.expr(operand);
        let operand_type = self.mapping.substitute(&found, false);
        let (target, was_optional) = match &operand_type {
            Type::Optional(inner) => ((**inner).clone(), true),
            other => (other.clone(), false),
        };
        let result = match &target {
            Type::Map(_, value) => (**value).clone(),
            Type::Struct(declared) => match declared.field(field) {
                Some(ty) => ty,
                None => {
                    self.issue(id, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Param(_) => {
                self.mapping.assign(&Type::Dyn, &target);
                Type::Dyn
            }
            other => {
                if !other.is_dyn() {
                    self.issue(id, format!("type '{other}' does not support field selection"));
                }
                Type::Dyn
            }
        };
        let result = if was_optional || optional { Type::optional(result) } else { result };
        self.mapping.substitute(&result, false)
    }

    fn call(&mut self, id: Id, target: &mut Option<Box<Expr>>, function: &mut SmolStr, args: &mut [Expr]) -> Type {
        if function == op::OPT_SELECT
            && let [operand, name] = args
        {
            let Kind::Literal(Literal::String(field)) = &name.kind else { return Type::Error };
            let field = field.clone();
            self.types[name.id as usize] = Type::String;
            return self.select(id, operand, &field, true);
        }
        for arg in args.iter_mut() {
            self.expr(arg);
        }
        if let Some(receiver) = target {
            // `sets.contains(…)` is no call on `sets`.
            if let Some(prefix) = receiver.qualified()
                && let name = format!("{prefix}.{function}")
                && let Some(overloads) = self.env.function(&name)
            {
                *target = None;
                *function = name.into();
                return self.resolve(id, function, overloads, None, args);
            }
            self.expr(receiver);
        }
        let Some(overloads) = self.env.function(function) else {
            let name = function.clone();
            self.undeclared(id, &name);
            return Type::Error;
        };
        let receiver = target.as_deref().map(|t| self.ty(t));
        self.resolve(id, function, overloads, receiver, args)
    }

    fn resolve(
        &mut self,
        id: Id,
        function: &str,
        overloads: &'static Overloads,
        receiver: Option<Type>,
        args: &[Expr],
    ) -> Type {
        let member = receiver.is_some();
        let types: Vec<Type> = receiver.into_iter().chain(args.iter().map(|a| self.ty(a))).collect();
        if matches!(function, op::AND | op::OR) {
            let mut fine = true;
            for (arg, ty) in args.iter().zip(&types) {
                if !self.mapping.assign(&Type::Bool, ty) {
                    self.mismatch(arg.id, &Type::Bool, ty);
                    fine = false;
                }
            }
            self.overloads[id as usize] = overloads.iter().collect();
            return if fine { Type::Bool } else { Type::Error };
        }
        let mut result: Option<Type> = None;
        for overload in overloads.iter().filter(|o| o.member == member && o.args.len() == types.len()) {
            let declared: Vec<&Type> = overload.args.iter().chain([&overload.result]).collect();
            let mut wanted = self.mapping.instantiate(&declared);
            let Some(found) = wanted.pop() else { continue };
            if !self.mapping.assign_all(&wanted, &types) {
                continue;
            }
            self.overloads[id as usize].push(overload);
            let found = self.mapping.substitute(&found, false);
            result = Some(match result {
                None => found,
                Some(before) if before == found || before == Type::Dyn => before,
                Some(_) => Type::Dyn,
            });
        }
        if let Some(result) = result {
            self.literals(id, function, args, member);
            return result;
        }
        let shown: Vec<String> = types.iter().map(|t| self.mapping.substitute(t, true).to_string()).collect();
        let signature = match (member, shown.split_first()) {
            (true, Some((receiver, rest))) => format!("{receiver}.({})", rest.join(", ")),
            _ => format!("({})", shown.join(", ")),
        };
        self.issue(id, format!("found no matching overload for '{function}' applied to '{signature}'"));
        Type::Error
    }

    /// Texts that are known beforehand must be what they are taken for.
    fn literals(&mut self, id: Id, function: &str, args: &[Expr], member: bool) {
        let at = usize::from(function == "matches" && !member);
        let Some(Expr { kind: Kind::Literal(Literal::String(text)), id: arg, .. }) = args.get(at) else { return };
        let why = match (function, args.len()) {
            ("duration", 1) if crate::time::parse_duration(text).is_none() => "duration",
            ("timestamp", 1) if crate::time::Timestamp::parse(text).is_none() => "timestamp",
            ("matches", _) if library::regex::compile(text).is_err() => "matches",
            _ => return,
        };
        let _ = id;
        self.issue(*arg, format!("invalid {why} argument"));
    }

    fn fold(&mut self, fold: &mut Fold) -> Type {
        let range = self.expr(&mut fold.range);
        let carried = self.expr(&mut fold.start);
        let range = self.mapping.substitute(&range, false);
        let (first, second) = match &range {
            Type::List(item) if fold.second.is_some() => (Type::Int, (**item).clone()),
            Type::List(item) => ((**item).clone(), Type::Error),
            Type::Map(key, value) => ((**key).clone(), (**value).clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.mapping.assign(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let words = "cannot be range of a comprehension (must be list, map, or dynamic)";
                self.issue(fold.range.id, format!("expression of type '{other}' {words}"));
                (Type::Error, Type::Error)
            }
        };
        let outside = self.locals.len();
        self.locals.push((fold.accumulator.clone(), carried.clone()));
        let inside = self.locals.len();
        self.locals.push((fold.variable.clone(), first));
        if let Some(name) = &fold.second {
            self.locals.push((name.clone(), second));
        }
        let condition = self.expr(&mut fold.condition);
        if !self.mapping.assign(&Type::Bool, &condition) {
            self.mismatch(fold.condition.id, &Type::Bool, &condition);
        }
        let step = self.expr(&mut fold.step);
        if !self.mapping.assign(&carried, &step) {
            self.mismatch(fold.step.id, &carried, &step);
        }
        self.locals.truncate(inside);
        let result = self.expr(&mut fold.result);
        self.locals.truncate(outside);
        self.mapping.substitute(&result, false)
    }
}
