//! Calls that are loops or tests in disguise: `has`, `all`, `exists`, `map`, `filter` and their kin.

use smol_str::SmolStr;

use crate::ast::{ACCUMULATOR, Entry, Expr, Field, Fold, Kind, Literal, op};
use crate::parser::{Failed, Parser};

/// How many nodes an expression may have after its macros have copied parts of it.
const MAX_NODES: usize = 200_000;

/// What became of a call.
pub(crate) enum Expansion {
    Done(Expr),
    /// No macro: target and arguments as they were.
    Call(Expr, Vec<Expr>),
}

/// `has(a.b)`.
pub(crate) fn has(parser: &mut Parser, offset: usize, args: Vec<Expr>) -> Result<Expr, Failed> {
    let Ok([arg]) = <[Expr; 1]>::try_from(args) else {
        return parser.fail(offset, "invalid number of arguments to has() macro");
    };
    match arg.kind {
        Kind::Select { operand, field, test: false } => {
            parser.node(offset, Kind::Select { operand, field, test: true })
        }
        _ => parser.fail_at(arg.id, "invalid argument to has() macro"),
    }
}

/// Makes loops; every node of one stands where the call stands.
struct Maker<'p> {
    parser: &'p mut Parser,
    offset: usize,
}

impl Maker<'_> {
    fn node(&mut self, kind: Kind) -> Result<Expr, Failed> {
        self.parser.node(self.offset, kind)
    }

    fn literal(&mut self, literal: Literal) -> Result<Expr, Failed> {
        self.node(Kind::Literal(literal))
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Result<Expr, Failed> {
        self.parser.call(self.offset, function, args)
    }

    fn ident(&mut self, name: &str) -> Result<Expr, Failed> {
        self.node(Kind::Ident(name.into()))
    }

    fn result(&mut self) -> Result<Expr, Failed> {
        self.ident(ACCUMULATOR)
    }

    fn list(&mut self, items: Vec<Expr>) -> Result<Expr, Failed> {
        self.node(Kind::List { items, optional: Vec::new() })
    }

    /// `filter ? step : accumulator`, or only the step.
    fn filtered(&mut self, filter: Option<Expr>, step: Expr) -> Result<Expr, Failed> {
        let Some(filter) = filter else { return Ok(step) };
        let unchanged = self.result()?;
        self.call(op::CONDITIONAL, vec![filter, step, unchanged])
    }

    fn fold(
        &mut self,
        range: Expr,
        variables: Variables,
        start: Expr,
        condition: Expr,
        step: Expr,
        result: Expr,
    ) -> Result<Expr, Failed> {
        let (variable, second) = variables;
        let fold = Fold { range, variable, second, accumulator: ACCUMULATOR.into(), start, condition, step, result };
        self.node(Kind::Fold(Box::new(fold)))
    }

    /// `all` (and) and `exists` (or): stops as soon as the answer is known.
    fn quantifier(&mut self, all: bool, range: Expr, vars: Variables, predicate: Expr) -> Result<Expr, Failed> {
        let start = self.literal(Literal::Bool(all))?;
        let mut goes_on = self.result()?;
        if !all {
            goes_on = self.call(op::NOT, vec![goes_on])?;
        }
        let condition = self.call(op::NOT_STRICTLY_FALSE, vec![goes_on])?;
        let so_far = self.result()?;
        let step = self.call(if all { op::AND } else { op::OR }, vec![so_far, predicate])?;
        let result = self.result()?;
        self.fold(range, vars, start, condition, step, result)
    }

    fn exists_one(&mut self, range: Expr, vars: Variables, predicate: Expr) -> Result<Expr, Failed> {
        let start = self.literal(Literal::Int(0))?;
        let condition = self.literal(Literal::Bool(true))?;
        let (count, one) = (self.result()?, self.literal(Literal::Int(1))?);
        let more = self.call(op::ADD, vec![count, one])?;
        let step = self.filtered(Some(predicate), more)?;
        let (count, one) = (self.result()?, self.literal(Literal::Int(1))?);
        let result = self.call(op::EQUALS, vec![count, one])?;
        self.fold(range, vars, start, condition, step, result)
    }

    fn gather(&mut self, range: Expr, vars: Variables, filter: Option<Expr>, transform: Expr) -> Result<Expr, Failed> {
        let start = self.list(Vec::new())?;
        let condition = self.literal(Literal::Bool(true))?;
        let (so_far, item) = (self.result()?, self.list(vec![transform])?);
        let longer = self.call(op::ADD, vec![so_far, item])?;
        let step = self.filtered(filter, longer)?;
        let result = self.result()?;
        self.fold(range, vars, start, condition, step, result)
    }

    fn gather_map(
        &mut self,
        range: Expr,
        vars: Variables,
        filter: Option<Expr>,
        inserted: Vec<Expr>,
    ) -> Result<Expr, Failed> {
        let start = self.node(Kind::Map(Vec::new()))?;
        let condition = self.literal(Literal::Bool(true))?;
        let mut args = vec![self.result()?];
        args.extend(inserted);
        let larger = self.call(op::MAP_INSERT, args)?;
        let step = self.filtered(filter, larger)?;
        let result = self.result()?;
        self.fold(range, vars, start, condition, step, result)
    }

    /// `target.hasValue() ? wrap(bind(variable, target.value(), body)) : optional.none()`.
    fn opt_map(&mut self, target: Expr, variable: SmolStr, body: Expr, flat: bool) -> Result<Expr, Failed> {
        let again = self.duplicate(&target)?;
        let member = |maker: &mut Self, target: Expr, name: &str| {
            maker.node(Kind::Call { target: Some(Box::new(target)), function: name.into(), args: Vec::new() })
        };
        let there = member(self, target, "hasValue")?;
        let value = member(self, again, "value")?;
        let mut mapped = self.bind(variable, value, body)?;
        if !flat {
            mapped = self.call("optional.of", vec![mapped])?;
        }
        let none = self.call("optional.none", Vec::new())?;
        self.call(op::CONDITIONAL, vec![there, mapped, none])
    }

    fn sort_by(&mut self, target: Expr, vars: Variables, key: Expr) -> Result<Expr, Failed> {
        const INPUT: &str = "@__sortBy_input__";
        let (all, each) = (self.ident(INPUT)?, self.ident(INPUT)?);
        let keys = self.gather(each, vars, None, key)?;
        let function = op::SORT_BY_KEYS.into();
        let sorted = self.node(Kind::Call { target: Some(Box::new(all)), function, args: vec![keys] })?;
        self.bind(INPUT.into(), target, sorted)
    }

    /// A loop that never runs, but whose accumulator the result can name.
    fn bind(&mut self, name: SmolStr, value: Expr, body: Expr) -> Result<Expr, Failed> {
        let range = self.list(Vec::new())?;
        let condition = self.literal(Literal::Bool(false))?;
        let step = self.ident(&name)?;
        let bind = Fold {
            range,
            variable: "#unused".into(),
            second: None,
            accumulator: name,
            start: value,
            condition,
            step,
            result: body,
        };
        self.node(Kind::Fold(Box::new(bind)))
    }

    /// A copy of a target that is evaluated twice; copies of copies must not grow without bound.
    fn duplicate(&mut self, expr: &Expr) -> Result<Expr, Failed> {
        if self.parser.count() + expr.count() > MAX_NODES {
            return self.parser.fail(self.offset, format!("expression has more than {MAX_NODES} nodes"));
        }
        Ok(self.copy(expr))
    }

    /// The same nodes under new ids.
    fn copy(&mut self, expr: &Expr) -> Expr {
        let id = {
            let offset = self.parser.offset(expr.id);
            self.parser.id(offset)
        };
        let kind = match &expr.kind {
            Kind::Literal(l) => Kind::Literal(l.clone()),
            Kind::Ident(name) => Kind::Ident(name.clone()),
            Kind::Select { operand, field, test } => {
                Kind::Select { operand: Box::new(self.copy(operand)), field: field.clone(), test: *test }
            }
            Kind::Call { target, function, args } => Kind::Call {
                target: target.as_ref().map(|t| Box::new(self.copy(t))),
                function: function.clone(),
                args: args.iter().map(|a| self.copy(a)).collect(),
            },
            Kind::List { items, optional } => {
                Kind::List { items: items.iter().map(|i| self.copy(i)).collect(), optional: optional.clone() }
            }
            Kind::Map(entries) => Kind::Map(
                entries
                    .iter()
                    .map(|e| Entry { key: self.copy(&e.key), value: self.copy(&e.value), optional: e.optional })
                    .collect(),
            ),
            Kind::Struct { name, fields } => Kind::Struct {
                name: name.clone(),
                fields: fields
                    .iter()
                    .map(|f| Field {
                        id: self.parser.id(self.offset),
                        name: f.name.clone(),
                        value: self.copy(&f.value),
                        optional: f.optional,
                    })
                    .collect(),
            },
            Kind::Fold(fold) => Kind::Fold(Box::new(Fold {
                range: self.copy(&fold.range),
                variable: fold.variable.clone(),
                second: fold.second.clone(),
                accumulator: fold.accumulator.clone(),
                start: self.copy(&fold.start),
                condition: self.copy(&fold.condition),
                step: self.copy(&fold.step),
                result: self.copy(&fold.result),
            })),
        };
        Expr::new(id, kind)
    }
}

type Variables = (SmolStr, Option<SmolStr>);

fn variable(parser: &mut Parser, arg: &Expr) -> Result<SmolStr, Failed> {
    match arg.as_ident() {
        Some(name) => Ok(name.clone()),
        None => parser.fail_at(arg.id, "argument must be a simple name"),
    }
}

/// Expands a call on a target when it is a macro.
pub(crate) fn member(
    parser: &mut Parser,
    offset: usize,
    target: Expr,
    name: &str,
    args: Vec<Expr>,
) -> Result<Expansion, Failed> {
    let two = match (name, args.len()) {
        ("all" | "exists" | "exists_one" | "existsOne" | "filter" | "optMap" | "optFlatMap" | "sortBy", 2) => false,
        ("map", 2 | 3) => false,
        ("all" | "exists" | "exists_one" | "existsOne", 3) => true,
        ("transformList" | "transformMap" | "transformMapEntry", 3 | 4) => true,
        _ => return Ok(Expansion::Call(target, args)),
    };
    let mut args = args.into_iter();
    let mut take = |parser: &mut Parser| match args.next() {
        Some(arg) => Ok(arg),
        None => parser.fail(offset, "too few arguments"),
    };
    let first = take(parser)?;
    let first_name = variable(parser, &first)?;
    let second = match two {
        true => {
            let arg = take(parser)?;
            let name = variable(parser, &arg)?;
            if name == first_name {
                return parser.fail_at(arg.id, format!("duplicate variable name: {name}"));
            }
            Some(name)
        }
        false => None,
    };
    let body = take(parser)?;
    let further = args.next();
    let mut maker = Maker { parser, offset };
    let variables = (first_name.clone(), second);
    // With one more argument, the first of the two is a filter.
    let (filter, body) = match further {
        Some(transform) => (Some(body), transform),
        None => (None, body),
    };
    let expanded = match name {
        "all" | "exists" => maker.quantifier(name == "all", target, variables, body)?,
        "exists_one" | "existsOne" => maker.exists_one(target, variables, body)?,
        "map" | "transformList" => maker.gather(target, variables, filter, body)?,
        "filter" => {
            let item = maker.parser.offset(first.id);
            let item = maker.parser.node(item, Kind::Ident(first_name))?;
            maker.gather(target, variables, Some(body), item)?
        }
        "transformMap" => {
            let key = maker.ident(&first_name)?;
            maker.gather_map(target, variables, filter, vec![key, body])?
        }
        "transformMapEntry" => maker.gather_map(target, variables, filter, vec![body])?,
        "optMap" | "optFlatMap" => maker.opt_map(target, first_name, body, name == "optFlatMap")?,
        // `sortBy`: binds the target, and sorts it by the list of what the body makes of each item.
        _ => maker.sort_by(target, variables, body)?,
    };
    Ok(Expansion::Done(expanded))
}
