//! Finding a struct's fields by JSON name, through inlined structs.

use crate::schema::{Field, Struct, Type};

/// The field that JSON calls `name`.
pub(crate) fn find_field<'a>(schema: &'a Struct, name: &str) -> Option<&'a Field> {
    schema.fields.iter().find_map(|field| match (&field.node.ty, field.is_inline()) {
        (Type::Struct(inner), true) => find_field(inner, name),
        (_, true) => None,
        (_, false) => (field.name == name).then_some(field),
    })
}

/// Calls `visit` for every JSON member of a struct, inlined ones included, in order.
pub(crate) fn each_field<'a>(schema: &'a Struct, visit: &mut dyn FnMut(&'a Field)) {
    for field in schema.fields.iter() {
        match (&field.node.ty, field.is_inline()) {
            (Type::Struct(inner), true) => each_field(inner, visit),
            (_, true) => {}
            (_, false) => visit(field),
        }
    }
}
