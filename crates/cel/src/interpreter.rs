//! Walks a checked tree and computes its value, counting what that costs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use smol_str::SmolStr;

use crate::ast::{ACCUMULATOR, Entry, Expr, Fold, Id, Kind, Literal, op};
use crate::checker::Checked;
use crate::cost;
use crate::library::Native;
use crate::value::{Error, Key, List, Map, Value};

/// One evaluation.
pub(crate) struct Evaluation<'p, 'a> {
    checked: &'p Checked,
    variables: &'p dyn Fn(&str) -> Option<Value<'a>>,
    /// Of loops, innermost last. An accumulator may be an error for a while: `exists` goes on after one.
    locals: Vec<(SmolStr, Result<Value<'a>, Error>)>,
    cost: u64,
    budget: u64,
    /// Lists and maps of literals, made once.
    constants: HashMap<Id, Value<'a>>,
    /// What is in a list of literals that `in` searches.
    members: HashMap<Id, BTreeSet<Key>>,
}

/// The names that stand for types.
fn named_type(name: &str) -> bool {
    const NAMES: &[&str] =
        &["bool", "int", "uint", "double", "string", "bytes", "null_type", "list", "map", "type", "optional_type"];
    NAMES.contains(&name) || name.contains('.') || name.starts_with(char::is_uppercase)
}

impl<'p, 'a> Evaluation<'p, 'a> {
    pub fn new(
        checked: &'p Checked,
        variables: &'p dyn Fn(&str) -> Option<Value<'a>>,
        budget: u64,
    ) -> Evaluation<'p, 'a> {
        Evaluation {
            checked,
            variables,
            locals: Vec::new(),
            cost: 0,
            budget,
            constants: HashMap::new(),
            members: HashMap::new(),
        }
    }

    pub fn run(&mut self) -> Result<Value<'a>, Error> {
        self.expr(&self.checked.root)
    }

    pub fn cost(&self) -> u64 {
        self.cost
    }

    fn charge(&mut self, cost: u64) -> Result<(), Error> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.budget { Err(Error::exhausted()) } else { Ok(()) }
    }

    fn expr(&mut self, expr: &'p Expr) -> Result<Value<'a>, Error> {
        if !self.checked.constant[expr.id as usize] {
            return self.varying(expr);
        }
        if let Kind::Literal(literal) = &expr.kind {
            return Ok(constant(literal));
        }
        if let Some(found) = self.constants.get(&expr.id) {
            return Ok(found.clone());
        }
        let cost = self.cost;
        let value = self.varying(expr);
        self.cost = cost;
        if let Ok(value) = &value {
            self.constants.insert(expr.id, value.clone());
        }
        value
    }

    fn varying(&mut self, expr: &'p Expr) -> Result<Value<'a>, Error> {
        match &expr.kind {
            Kind::Literal(literal) => Ok(constant(literal)),
            Kind::Ident(name) => self.ident(name),
            Kind::Select { operand, field, test } => self.select(operand, field, *test),
            Kind::Call { target, function, args } => self.call(expr.id, target.as_deref(), function, args),
            Kind::List { items, optional } => self.list(items, optional),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => {
                let mut made = BTreeMap::new();
                for field in fields {
                    let value = self.expr(&field.value)?;
                    match (field.optional, value) {
                        (true, Value::Optional(None)) => {}
                        (true, Value::Optional(Some(value))) => {
                            made.insert(field.name.clone(), (*value).clone());
                        }
                        (_, value) => {
                            made.insert(field.name.clone(), value);
                        }
                    }
                }
                self.charge(cost::STRUCT)?;
                Ok(Value::Map(Map::Made(name.clone(), Arc::new(made))))
            }
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    fn ident(&mut self, name: &SmolStr) -> Result<Value<'a>, Error> {
        self.charge(1)?;
        if let Some((_, value)) = self.locals.iter().rev().find(|(own, _)| own == name) {
            return value.clone();
        }
        if let Some(value) = (self.variables)(name) {
            return Ok(value);
        }
        if named_type(name) {
            return Ok(Value::Type(name.clone()));
        }
        Err(Error::new(format!("no such attribute(s): {name}")))
    }

    fn select(&mut self, operand: &'p Expr, field: &SmolStr, test: bool) -> Result<Value<'a>, Error> {
        let value = self.expr(operand)?;
        if !test {
            self.charge(1)?;
        }
        let (value, optional) = match value {
            Value::Optional(None) if test => return Ok(Value::Bool(false)),
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => ((*inner).clone(), true),
            other => (other, false),
        };
        let Value::Map(map) = value else {
            return Err(Error::no_such_key(field));
        };
        let found = map.field(field)?;
        if test {
            return Ok(Value::Bool(found.is_some()));
        }
        if optional {
            return Ok(Value::Optional(found.map(Arc::new)));
        }
        found.ok_or_else(|| Error::no_such_key(field))
    }

    fn optional_select(&mut self, operand: &'p Expr, name: &'p Expr) -> Result<Value<'a>, Error> {
        let Kind::Literal(Literal::String(field)) = &name.kind else { return Err(Error::no_such_overload()) };
        let value = self.expr(operand)?;
        self.charge(1)?;
        match value {
            Value::Optional(None) => Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => match &*inner {
                Value::Map(map) => Ok(Value::Optional(map.field(field)?.map(Arc::new))),
                _ => Err(Error::no_such_overload()),
            },
            Value::Map(map) => Ok(Value::Optional(map.field(field)?.map(Arc::new))),
            _ => Err(Error::no_such_overload()),
        }
    }

    fn list(&mut self, items: &'p [Expr], optional: &[usize]) -> Result<Value<'a>, Error> {
        let mut values = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            match (optional.contains(&i), self.expr(item)?) {
                (true, Value::Optional(None)) => {}
                (true, Value::Optional(Some(value))) => values.push((*value).clone()),
                (_, value) => values.push(value),
            }
        }
        self.charge(cost::LIST)?;
        Ok(Value::List(List::new(values)))
    }

    fn map(&mut self, entries: &'p [Entry]) -> Result<Value<'a>, Error> {
        let mut map = BTreeMap::new();
        for entry in entries {
            let key = self.expr(&entry.key)?;
            let key = Key::of(&key).ok_or_else(|| Error::new(format!("unsupported key type: {}", key.type_name())))?;
            let value = match (entry.optional, self.expr(&entry.value)?) {
                (true, Value::Optional(None)) => continue,
                (true, Value::Optional(Some(value))) => (*value).clone(),
                (_, value) => value,
            };
            if map.insert(key.clone(), value).is_some() {
                let shown = crate::library::strings_format::show(&key.value());
                return Err(Error::new(format!("failed to create map: duplicate key {shown}")));
            }
        }
        self.charge(cost::MAP)?;
        Ok(Value::Map(Map::new(map)))
    }

    fn call(
        &mut self,
        id: Id,
        target: Option<&'p Expr>,
        function: &SmolStr,
        args: &'p [Expr],
    ) -> Result<Value<'a>, Error> {
        match (function.as_str(), args) {
            (op::AND, [left, right]) => return self.logic(left, right, false),
            (op::OR, [left, right]) => return self.logic(left, right, true),
            (op::CONDITIONAL, [condition, yes, no]) => {
                return match self.expr(condition)? {
                    Value::Bool(true) => self.expr(yes),
                    Value::Bool(false) => self.expr(no),
                    _ => Err(Error::no_such_overload()),
                };
            }
            (op::NOT_STRICTLY_FALSE, [arg]) => {
                let value = self.expr(arg);
                self.charge(1)?;
                return match value {
                    Err(error) if error.exhausted => Err(error),
                    Ok(Value::Bool(false)) => Ok(Value::Bool(false)),
                    _ => Ok(Value::Bool(true)),
                };
            }
            (op::OPT_SELECT, [operand, name]) => return self.optional_select(operand, name),
            (op::IN, [item, list]) => {
                if let Some(found) = self.in_literals(item, list)? {
                    return Ok(Value::Bool(found));
                }
            }
            (op::ADD, [accumulated, Expr { kind: Kind::List { items, .. }, .. }])
                if accumulated.as_ident().is_some_and(|name| name == ACCUMULATOR) =>
            {
                if let [item] = items.as_slice() {
                    return self.append(item);
                }
            }
            (op::MAP_INSERT, [_, inserted @ ..]) => return self.insert(inserted),
            _ => {}
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        for arg in target.into_iter().chain(args) {
            values.push(self.expr(arg)?);
        }
        let overloads = &self.checked.overloads[id as usize];
        let mut result = Err(Error::no_such_overload());
        let mut tried: Option<Native> = None;
        for overload in overloads {
            if tried.is_some_and(|native| std::ptr::fn_addr_eq(native, overload.native)) {
                continue;
            }
            tried = Some(overload.native);
            result = (overload.native)(&values);
            if !matches!(&result, Err(error) if *error == Error::no_such_overload()) {
                break;
            }
        }
        self.charge(cost::actual(function, &values, result.as_ref().ok()))?;
        result
    }

    /// `&&` and `||`: one side may decide whatever the other is, even when that is an error.
    fn logic(&mut self, left: &'p Expr, right: &'p Expr, decisive: bool) -> Result<Value<'a>, Error> {
        let left = self.expr(left);
        match &left {
            Ok(Value::Bool(value)) if *value == decisive => return left,
            Err(error) if error.exhausted => return left,
            _ => {}
        }
        let right = self.expr(right)?;
        match (left, right) {
            (_, Value::Bool(value)) if value == decisive => Ok(Value::Bool(decisive)),
            (Err(error), _) => Err(error),
            (Ok(Value::Bool(_)), Value::Bool(_)) => Ok(Value::Bool(!decisive)),
            _ => Err(Error::no_such_overload()),
        }
    }

    /// `x in ['a', 'b']`: a look-up, which costs nothing.
    fn in_literals(&mut self, item: &'p Expr, list: &'p Expr) -> Result<Option<bool>, Error> {
        let Kind::List { items, optional } = &list.kind else { return Ok(None) };
        let plain = |l: &Literal| !matches!(l, Literal::Null | Literal::Double(_) | Literal::Bytes(_));
        if !optional.is_empty() || !items.iter().all(|i| literal(i).is_some_and(plain)) {
            return Ok(None);
        }
        let value = self.expr(item)?;
        let make = || items.iter().filter_map(literal).filter_map(|l| Key::of(&constant(l))).collect();
        let members = self.members.entry(list.id).or_insert_with(make);
        Ok(Some(Key::of(&value).is_some_and(|key| members.contains(&key))))
    }

    /// Takes what the innermost macro has gathered; the step that it belongs to puts it back.
    fn accumulated(&mut self) -> Result<Value<'a>, Error> {
        let found = self.locals.iter_mut().rev().find(|(name, _)| name == ACCUMULATOR);
        found.map_or_else(|| Err(Error::no_such_overload()), |(_, value)| std::mem::replace(value, Ok(Value::Null)))
    }

    /// `accumulator + [item]`, in place: the loop stores the result back at once.
    fn append(&mut self, item: &'p Expr) -> Result<Value<'a>, Error> {
        self.charge(1)?;
        let fixed = self.checked.constant[item.id as usize];
        let value = self.expr(item)?;
        self.charge(if fixed { 1 } else { cost::LIST + 1 })?;
        match self.accumulated()? {
            Value::List(List::Own(mut items, kind)) => {
                Arc::make_mut(&mut items).push(value);
                Ok(Value::List(List::Own(items, kind)))
            }
            _ => Err(Error::no_such_overload()),
        }
    }

    /// `cel.@mapInsert(accumulator, key, value)` or `(accumulator, map)`, in place.
    fn insert(&mut self, inserted: &'p [Expr]) -> Result<Value<'a>, Error> {
        self.charge(1)?;
        let mut entries = Vec::new();
        match inserted {
            [key, value] => {
                let key = self.expr(key)?;
                let key = Key::of(&key).ok_or_else(Error::no_such_overload)?;
                entries.push((key, self.expr(value)?));
            }
            [map] => {
                let Value::Map(map) = self.expr(map)? else { return Err(Error::no_such_overload()) };
                for key in map.keys() {
                    if let Some(value) = map.get(&key)? {
                        entries.push((key, value));
                    }
                }
            }
            _ => return Err(Error::no_such_overload()),
        }
        self.charge(1)?;
        let Value::Map(Map::Own(mut map)) = self.accumulated()? else {
            return Err(Error::no_such_overload());
        };
        let into = Arc::make_mut(&mut map);
        for (key, value) in entries {
            let shown = key.value();
            if into.insert(key, value).is_some() {
                let shown = crate::library::strings_format::show(&shown);
                return Err(Error::new(format!("insert failed: key {shown} already exists")));
            }
        }
        Ok(Value::Map(Map::Own(map)))
    }

    fn fold(&mut self, fold: &'p Fold) -> Result<Value<'a>, Error> {
        let range = self.expr(&fold.range)?;
        let start = self.expr(&fold.start)?;
        let depth = self.locals.len();
        self.locals.push((fold.accumulator.clone(), Ok(start)));
        let result = self.iterate(fold, &range, depth).and_then(|()| self.expr(&fold.result));
        self.locals.truncate(depth);
        result
    }

    fn iterate(&mut self, fold: &'p Fold, range: &Value<'a>, depth: usize) -> Result<(), Error> {
        match range {
            Value::List(list) => {
                for i in 0..list.len() {
                    let Some(item) = list.get(i) else { break };
                    let pair = match fold.second {
                        Some(_) => (Value::Int(i as i64), Some(item)),
                        None => (item, None),
                    };
                    if !self.step(fold, pair, depth)? {
                        break;
                    }
                }
                Ok(())
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let value = match fold.second {
                        Some(_) => map.get(&key)?,
                        None => None,
                    };
                    if !self.step(fold, (key.value(), value), depth)? {
                        break;
                    }
                }
                Ok(())
            }
            _ => Err(Error::no_such_overload()),
        }
    }

    /// One round; answers whether there may be another.
    fn step(
        &mut self,
        fold: &'p Fold,
        (first, second): (Value<'a>, Option<Value<'a>>),
        depth: usize,
    ) -> Result<bool, Error> {
        self.locals.push((fold.variable.clone(), Ok(first)));
        if let (Some(name), Some(value)) = (&fold.second, second) {
            self.locals.push((name.clone(), Ok(value)));
        }
        let goes_on = self.expr(&fold.condition)?;
        if matches!(goes_on, Value::Bool(false)) {
            self.locals.truncate(depth + 1);
            return Ok(false);
        }
        let stepped = self.expr(&fold.step);
        self.locals.truncate(depth + 1);
        match stepped {
            // Only a quantifier can still find its answer after an error.
            Err(error) if error.exhausted || literal(&fold.condition).is_some() => return Err(error),
            stepped => self.locals[depth].1 = stepped,
        }
        Ok(true)
    }
}

fn literal(expr: &Expr) -> Option<&Literal> {
    match &expr.kind {
        Kind::Literal(literal) => Some(literal),
        _ => None,
    }
}

fn constant<'a>(literal: &Literal) -> Value<'a> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(b) => Value::Bool(*b),
        Literal::Int(i) => Value::Int(*i),
        Literal::Uint(u) => Value::Uint(*u),
        Literal::Double(d) => Value::Double(*d),
        Literal::String(s) => Value::String(s.clone()),
        Literal::Bytes(b) => Value::Bytes(Arc::from(b.as_slice())),
    }
}
