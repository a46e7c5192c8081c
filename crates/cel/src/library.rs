//! The functions that expressions may call: one table a library, merged by name.

pub mod authz;
pub(crate) mod convert;
pub mod format;
pub(crate) mod lists;
pub(crate) mod network;
pub(crate) mod operators;
pub(crate) mod optional;
pub(crate) mod order;
pub mod quantity;
pub(crate) mod regex;
pub mod semver;
pub(crate) mod sets;
pub(crate) mod standard;
pub(crate) mod strings;
pub(crate) mod strings_format;
pub(crate) mod times;
pub mod url;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::types::{Type, split_top};
use crate::value::{Error, Value};

/// Computes a call; answers [`Error::no_such_overload`] for arguments that are another's.
pub(crate) type Native = for<'a> fn(&[Value<'a>]) -> Result<Value<'a>, Error>;

/// A function as a library's table has it. An overload is an id and a signature: `string.(int) string` is called on a
/// text, `(string) int` is not; `{c}` stands for each type with an order and `{s}` for each that can be summed up.
pub(crate) struct Decl(pub &'static str, pub Native, pub &'static [(&'static str, &'static str)]);

/// One signature of a function.
#[derive(Debug)]
pub(crate) struct Overload {
    pub id: String,
    pub member: bool,
    /// The target, if any, and the arguments.
    pub args: Vec<Type>,
    pub result: Type,
    pub native: Native,
}

pub(crate) type Overloads = Vec<Overload>;

/// How large a text may become that a call makes out of smaller ones, in bytes: its cost is only known afterwards.
pub(crate) const MAX_TEXT: usize = 10 << 20;

/// Refuses a text that would be too large.
pub(crate) fn check_length(length: usize) -> Result<(), Error> {
    if length > MAX_TEXT {
        return Err(Error::new(format!("the result would be longer than {MAX_TEXT} bytes")));
    }
    Ok(())
}

const COMPARABLE: &[&str] = &["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"];
const SUMMABLE: &[&str] = &["int", "uint", "double", "duration"];

fn overload(id: &str, signature: &str, native: Native) -> Overload {
    // The result stands behind the bracket that closes the arguments.
    let (call, result) = signature.rsplit_once(')').unwrap_or((signature, "dyn"));
    let (target, args) = call.split_once('(').unwrap_or(("", call));
    let target = target.trim_end_matches('.');
    let args = split_top(args).into_iter().map(Type::read);
    let member = !target.is_empty();
    let args = member.then(|| Type::read(target)).into_iter().chain(args).collect();
    Overload { id: id.into(), member, args, result: Type::read(result), native }
}

static FUNCTIONS: LazyLock<HashMap<&'static str, Overloads>> = LazyLock::new(|| {
    let tables: &[&[Decl]] = &[
        operators::TABLE,
        standard::TABLE,
        convert::TABLE,
        times::TABLE,
        optional::TABLE,
        strings::TABLE,
        lists::TABLE,
        sets::TABLE,
        regex::TABLE,
        url::TABLE,
        quantity::TABLE,
        semver::TABLE,
        order::TABLE,
        network::TABLE,
        format::TABLE,
        authz::TABLE,
    ];
    let mut functions: HashMap<&'static str, Overloads> = HashMap::new();
    for Decl(name, native, overloads) in tables.iter().flat_map(|t| t.iter()) {
        let into = functions.entry(name).or_default();
        for (id, signature) in *overloads {
            let (mark, types) = match () {
                () if id.contains("{c}") => ("{c}", COMPARABLE),
                () if id.contains("{s}") => ("{s}", SUMMABLE),
                () => ("", &[""][..]),
            };
            for ty in types {
                let fill = |text: &str| if mark.is_empty() { text.to_string() } else { text.replace(mark, ty) };
                into.push(overload(&fill(id), &fill(signature), *native));
            }
        }
    }
    functions
});

/// The overloads of a function, if there is one of that name.
pub(crate) fn function(name: &str) -> Option<&'static Overloads> {
    FUNCTIONS.get(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_is_understood_and_every_id_stands_once() {
        let mut ids = Vec::new();
        for (name, overloads) in FUNCTIONS.iter() {
            for overload in overloads {
                let types: Vec<&Type> = overload.args.iter().chain([&overload.result]).collect();
                assert!(types.iter().all(|t| !t.to_string().contains("!error!")), "{name}: {overload:?}");
                ids.push(overload.id.clone());
            }
        }
        ids.sort();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
