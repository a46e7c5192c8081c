//! Which of two quantities or versions is the greater.

use std::cmp::Ordering;

use super::Decl;
use crate::opaque::Opaque;
use crate::value::{Error, Value};

pub(crate) const TABLE: &[Decl] = &[
    Decl(
        "isGreaterThan",
        |args| Ok(Value::Bool(order(args)?.is_gt())),
        &[
            ("quantity_is_greater_than", "kubernetes.Quantity.(kubernetes.Quantity) bool"),
            ("semver_is_greater_than", "kubernetes.Semver.(kubernetes.Semver) bool"),
        ],
    ),
    Decl(
        "isLessThan",
        |args| Ok(Value::Bool(order(args)?.is_lt())),
        &[
            ("quantity_is_less_than", "kubernetes.Quantity.(kubernetes.Quantity) bool"),
            ("semver_is_less_than", "kubernetes.Semver.(kubernetes.Semver) bool"),
        ],
    ),
    Decl(
        "compareTo",
        |args| Ok(Value::Int(order(args)? as i64)),
        &[
            ("quantity_compare_to", "kubernetes.Quantity.(kubernetes.Quantity) int"),
            ("semver_compare_to", "kubernetes.Semver.(kubernetes.Semver) int"),
        ],
    ),
];

fn order(args: &[Value<'_>]) -> Result<Ordering, Error> {
    match args {
        [Value::Opaque(Opaque::Quantity(a)), Value::Opaque(Opaque::Quantity(b))] => Ok(a.cmp(b)),
        [Value::Opaque(Opaque::Semver(a)), Value::Opaque(Opaque::Semver(b))] => Ok(a.order(b)),
        _ => Err(Error::no_such_overload()),
    }
}
