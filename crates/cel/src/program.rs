//! An expression that was parsed and checked, ready to be evaluated any number of times.

use crate::ast::{Expr, Kind};
use crate::checker::{Checked, Env, check};
use crate::cost::{self, Estimate, Sizes};
use crate::interpreter::Evaluation;
use crate::parser::parse;
use crate::source::Issues;
use crate::types::Type;
use crate::value::{Error, Value};

/// A checked expression.
#[derive(Debug)]
pub struct Program {
    pub(crate) checked: Checked,
}

/// Where the variables of an evaluation come from.
pub trait Variables<'a> {
    /// The value of a variable; `None` when there is none of that name.
    fn get(&self, name: &str) -> Option<Value<'a>>;
}

impl<'a> Variables<'a> for [(&str, Value<'a>)] {
    fn get(&self, name: &str) -> Option<Value<'a>> {
        self.iter().find(|(own, _)| *own == name).map(|(_, value)| value.clone())
    }
}

impl<'a, F: Fn(&str) -> Option<Value<'a>>> Variables<'a> for F {
    fn get(&self, name: &str) -> Option<Value<'a>> {
        self(name)
    }
}

impl Program {
    /// Parses and checks an expression.
    pub fn compile(env: &Env, text: &str) -> Result<Program, Issues> {
        Ok(Program { checked: check(env, text, parse(text)?)? })
    }

    /// The type of what it computes.
    pub fn result(&self) -> &Type {
        &self.checked.types[self.checked.root.id as usize]
    }

    /// Whether a variable is named in it.
    pub fn mentions(&self, variable: &str) -> bool {
        fn within(expr: &Expr, name: &str) -> bool {
            let mut found = matches!(&expr.kind, Kind::Ident(own) if own == name);
            expr.each_child(&mut |child| found = found || within(child, name));
            found
        }
        within(&self.checked.root, variable)
    }

    /// Whether a variable is used as a whole, not only for fields that are selected from it.
    pub fn uses_whole(&self, variable: &str) -> bool {
        fn within(expr: &Expr, name: &str) -> bool {
            match &expr.kind {
                Kind::Ident(own) => own == name,
                Kind::Select { operand, .. } if operand.as_ident().is_some_and(|own| own == name) => false,
                _ => {
                    let mut found = false;
                    expr.each_child(&mut |child| found = found || within(child, name));
                    found
                }
            }
        }
        within(&self.checked.root, variable)
    }

    /// What an evaluation costs at least and at most, given how large the host's values can be.
    pub fn estimate(&self, sizes: &dyn Sizes) -> Estimate {
        cost::estimate(&self.checked, sizes)
    }

    /// Evaluates within a budget; answers the value, or why there is none, and what it has cost.
    pub fn evaluate<'a>(
        &self,
        variables: &(impl Variables<'a> + ?Sized),
        budget: u64,
    ) -> (Result<Value<'a>, Error>, u64) {
        let get = |name: &str| variables.get(name);
        let mut evaluation = Evaluation::new(&self.checked, &get, budget);
        let result = evaluation.run();
        (result, evaluation.cost())
    }
}
