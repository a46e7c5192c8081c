//! The tree of a parsed expression; macros are already expanded in it.

use smol_str::SmolStr;

/// Names one node: an index into the tables that the checker fills.
pub type Id = u32;

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    pub id: Id,
    /// How many nodes stand under each other from here down, this one included.
    pub depth: u16,
    pub kind: Kind,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Literal(Literal),
    Ident(SmolStr),
    Select {
        operand: Box<Expr>,
        field: SmolStr,
        /// `has(a.b)`: is the field there?
        test: bool,
    },
    Call {
        target: Option<Box<Expr>>,
        function: SmolStr,
        args: Vec<Expr>,
    },
    List {
        items: Vec<Expr>,
        /// Which items were written `?item`.
        optional: Vec<usize>,
    },
    Map(Vec<Entry>),
    Struct {
        name: SmolStr,
        fields: Vec<Field>,
    },
    Fold(Box<Fold>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: Expr,
    pub value: Expr,
    pub optional: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub id: Id,
    pub name: SmolStr,
    pub value: Expr,
    pub optional: bool,
}

/// What a comprehension macro becomes: a loop over a list or the keys of a map that carries an accumulator.
#[derive(Debug, Clone, PartialEq)]
pub struct Fold {
    pub range: Expr,
    pub variable: SmolStr,
    /// With two variables the first is the index or key, and this the item or value.
    pub second: Option<SmolStr>,
    pub accumulator: SmolStr,
    pub start: Expr,
    pub condition: Expr,
    pub step: Expr,
    pub result: Expr,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(SmolStr),
    Bytes(Vec<u8>),
}

impl Expr {
    pub(crate) fn new(id: Id, kind: Kind) -> Expr {
        let deep = |e: &Expr| e.depth;
        let below = match &kind {
            Kind::Literal(_) | Kind::Ident(_) => 0,
            Kind::Select { operand, .. } => operand.depth,
            Kind::Call { target, args, .. } => {
                let args = args.iter().map(deep).max().unwrap_or(0);
                args.max(target.as_ref().map_or(0, |t| t.depth))
            }
            Kind::List { items, .. } => items.iter().map(deep).max().unwrap_or(0),
            Kind::Map(entries) => entries.iter().map(|e| e.key.depth.max(e.value.depth)).max().unwrap_or(0),
            Kind::Struct { fields, .. } => fields.iter().map(|f| f.value.depth).max().unwrap_or(0),
            Kind::Fold(fold) => {
                let parts = [&fold.range, &fold.start, &fold.condition, &fold.step, &fold.result];
                parts.into_iter().map(deep).max().unwrap_or(0)
            }
        };
        Expr { id, depth: below.saturating_add(1), kind }
    }

    /// The name, when this is a plain identifier.
    pub fn as_ident(&self) -> Option<&SmolStr> {
        match &self.kind {
            Kind::Ident(name) => Some(name),
            _ => None,
        }
    }

    /// How many nodes this is, itself included.
    pub(crate) fn count(&self) -> usize {
        let mut count = 1;
        self.each_child(&mut |child| count += child.count());
        count
    }

    /// Calls `act` with every node directly below.
    pub fn each_child<'e>(&'e self, act: &mut dyn FnMut(&'e Expr)) {
        match &self.kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => act(operand),
            Kind::Call { target, args, .. } => target.as_deref().into_iter().chain(args).for_each(act),
            Kind::List { items, .. } => items.iter().for_each(act),
            Kind::Map(entries) => entries.iter().flat_map(|e| [&e.key, &e.value]).for_each(act),
            Kind::Struct { fields, .. } => fields.iter().for_each(|f| act(&f.value)),
            Kind::Fold(fold) => {
                [&fold.range, &fold.start, &fold.condition, &fold.step, &fold.result].into_iter().for_each(act);
            }
        }
    }

    /// `a.b.c` as text, when the node is only that.
    pub(crate) fn qualified(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.to_string()),
            Kind::Select { operand, field, test: false } => {
                let mut name = operand.qualified()?;
                name.push('.');
                name.push_str(field);
                Some(name)
            }
            _ => None,
        }
    }
}

/// The functions behind operators.
pub mod op {
    pub const AND: &str = "_&&_";
    pub const OR: &str = "_||_";
    pub const NOT: &str = "!_";
    pub const NEGATE: &str = "-_";
    pub const CONDITIONAL: &str = "_?_:_";
    pub const EQUALS: &str = "_==_";
    pub const NOT_EQUALS: &str = "_!=_";
    pub const LESS: &str = "_<_";
    pub const LESS_EQUALS: &str = "_<=_";
    pub const GREATER: &str = "_>_";
    pub const GREATER_EQUALS: &str = "_>=_";
    pub const ADD: &str = "_+_";
    pub const SUBTRACT: &str = "_-_";
    pub const MULTIPLY: &str = "_*_";
    pub const DIVIDE: &str = "_/_";
    pub const MODULO: &str = "_%_";
    pub const IN: &str = "@in";
    pub const INDEX: &str = "_[_]";
    pub const OPT_INDEX: &str = "_[?_]";
    pub const OPT_SELECT: &str = "_?._";
    pub const NOT_STRICTLY_FALSE: &str = "@not_strictly_false";
    pub const MAP_INSERT: &str = "cel.@mapInsert";
    pub const SORT_BY_KEYS: &str = "@sortByAssociatedKeys";
}

/// The accumulator of every macro; no identifier can be written so.
pub const ACCUMULATOR: &str = "@result";
