//! Reading `#[api(...)]`.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Expr, ExprLit, ExprUnary, Field, Lit, LitStr, Token, Type, UnOp, parenthesized};

/// Doc comments as one text, lines joined by spaces.
pub fn docs(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter(|a| a.path().is_ident("doc")).filter_map(|a| match &a.meta {
        syn::Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_string()),
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join(" ").trim().to_string()
}

fn text(meta: &ParseNestedMeta<'_>) -> syn::Result<String> {
    Ok(meta.value()?.parse::<LitStr>()?.value())
}

/// `("a", "b")` after a word.
fn texts(meta: &ParseNestedMeta<'_>) -> syn::Result<Vec<String>> {
    let content;
    parenthesized!(content in meta.input);
    let list = content.parse_terminated(|p| p.parse::<LitStr>(), Token![,])?;
    Ok(list.iter().map(LitStr::value).collect())
}

/// A number, possibly negative.
fn number(meta: &ParseNestedMeta<'_>) -> syn::Result<f64> {
    let (sign, expr) = match meta.value()?.parse::<Expr>()? {
        Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) => (-1.0, *expr),
        other => (1.0, other),
    };
    match expr {
        Expr::Lit(ExprLit { lit: Lit::Int(n), .. }) => Ok(sign * n.base10_parse::<f64>()?),
        Expr::Lit(ExprLit { lit: Lit::Float(n), .. }) => Ok(sign * n.base10_parse::<f64>()?),
        other => Err(syn::Error::new_spanned(other, "expected a number")),
    }
}

/// The attributes of a struct.
#[derive(Default)]
pub struct StructAttributes {
    pub name: String,
    pub atomic: bool,
    pub preserve_unknown: bool,
}

impl StructAttributes {
    pub fn read(attributes: &[Attribute]) -> syn::Result<Self> {
        let mut own = StructAttributes::default();
        for attribute in attributes.iter().filter(|a| a.path().is_ident("api")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    own.name = text(&meta)?;
                } else if meta.path.is_ident("atomic") {
                    own.atomic = true;
                } else if meta.path.is_ident("preserve_unknown") {
                    own.preserve_unknown = true;
                } else {
                    return Err(meta.error("unknown word for a struct"));
                }
                Ok(())
            })?;
        }
        Ok(own)
    }
}

/// The attributes of a field.
#[derive(Default)]
pub struct FieldAttributes {
    pub tag: u32,
    pub json: String,
    pub inline: bool,
    pub required: bool,
    pub is_option: bool,
    doc: String,
    omitempty: bool,
    omitzero: bool,
    default: Option<String>,
    enumeration: Vec<String>,
    format: String,
    pattern: String,
    min: Option<f64>,
    max: Option<f64>,
    min_length: Option<u64>,
    max_length: Option<u64>,
    min_items: Option<u64>,
    max_items: Option<u64>,
    min_properties: Option<u64>,
    max_properties: Option<u64>,
    immutable: bool,
    atomic: bool,
    granular: bool,
    list: String,
    keys: Vec<String>,
    patch_strategy: String,
    merge_key: String,
}

impl FieldAttributes {
    pub fn read(field: &Field) -> syn::Result<Self> {
        let mut own =
            FieldAttributes { doc: docs(&field.attrs), is_option: is_option(&field.ty), ..Default::default() };
        if let Some(ident) = &field.ident {
            own.json = camel_case(ident.to_string().trim_end_matches('_').trim_start_matches("r#"));
        }
        for attribute in field.attrs.iter().filter(|a| a.path().is_ident("api")) {
            own.read_one(attribute)?;
        }
        Ok(own)
    }

    fn read_one(&mut self, attribute: &Attribute) -> syn::Result<()> {
        // The tag comes first and is no word, so the list is parsed by hand up to it.
        let tokens = attribute.meta.require_list()?.tokens.clone();
        let mut rest = tokens.into_iter().peekable();
        if let Some(proc_macro2::TokenTree::Literal(literal)) = rest.peek() {
            let parsed: syn::LitInt = syn::parse2(literal.to_token_stream())?;
            self.tag = parsed.base10_parse()?;
            rest.next();
            rest.next();
        }
        let words: TokenStream = rest.collect();
        let parser = syn::meta::parser(|meta| self.word(meta));
        syn::parse::Parser::parse2(parser, words)
    }

    fn word(&mut self, meta: ParseNestedMeta<'_>) -> syn::Result<()> {
        let Some(word) = meta.path.get_ident().map(ToString::to_string) else {
            return Err(meta.error("unknown word for a field"));
        };
        match word.as_str() {
            "json" => self.json = text(&meta)?,
            "omitempty" => self.omitempty = true,
            "omitzero" => self.omitzero = true,
            "inline" => self.inline = true,
            "required" => self.required = true,
            "immutable" => self.immutable = true,
            "atomic" => self.atomic = true,
            "granular" => self.granular = true,
            "default" => self.default = Some(text(&meta)?),
            "enumeration" => self.enumeration = texts(&meta)?,
            "format" => self.format = text(&meta)?,
            "pattern" => self.pattern = text(&meta)?,
            "min" => self.min = Some(number(&meta)?),
            "max" => self.max = Some(number(&meta)?),
            "min_length" => self.min_length = Some(number(&meta)? as u64),
            "max_length" => self.max_length = Some(number(&meta)? as u64),
            "min_items" => self.min_items = Some(number(&meta)? as u64),
            "max_items" => self.max_items = Some(number(&meta)? as u64),
            "min_properties" => self.min_properties = Some(number(&meta)? as u64),
            "max_properties" => self.max_properties = Some(number(&meta)? as u64),
            "list" => self.list = text(&meta)?,
            "keys" => self.keys = texts(&meta)?,
            "patch" => self.patch_strategy = text(&meta)?,
            "merge_key" => self.merge_key = text(&meta)?,
            _ => return Err(meta.error("unknown word for a field")),
        }
        Ok(())
    }

    pub fn omit(&self) -> TokenStream {
        match (self.omitempty, self.omitzero) {
            (_, true) => quote! { Omit::Zero },
            (true, false) => quote! { Omit::Empty },
            (false, false) => quote! { Omit::Never },
        }
    }

    pub fn patch(&self) -> syn::Result<TokenStream> {
        let (mut merge, mut retain, mut replace) = (false, false, false);
        for strategy in self.patch_strategy.split(',').filter(|s| !s.is_empty()) {
            match strategy {
                "merge" => merge = true,
                "retainKeys" => retain = true,
                "replace" => replace = true,
                other => {
                    return Err(syn::Error::new(
                        proc_macro2::Span::call_site(),
                        format!("unknown patch strategy {other:?}"),
                    ));
                }
            }
        }
        let key = &self.merge_key;
        Ok(quote! { Patch { merge: #merge, retain_keys: #retain, replace: #replace, merge_key: #key } })
    }

    /// The facets' literal, when anything is declared. Every member is written out: functional update would need a
    /// destructor at compile time.
    pub fn facets(&self) -> Option<TokenStream> {
        let declared = !self.doc.is_empty()
            || self.default.is_some()
            || !self.enumeration.is_empty()
            || !self.format.is_empty()
            || !self.pattern.is_empty()
            || self.min.is_some()
            || self.max.is_some()
            || self.min_length.is_some()
            || self.max_length.is_some()
            || self.min_items.is_some()
            || self.max_items.is_some()
            || self.min_properties.is_some()
            || self.max_properties.is_some()
            || self.immutable
            || self.atomic
            || self.granular
            || !self.list.is_empty();
        if !declared {
            return None;
        }
        let count = |n: Option<u64>| n.map_or(quote! { None }, |n| quote! { Some(#n) });
        let bound =
            |n: Option<f64>| n.map_or(quote! { None }, |n| quote! { Some(Bound { value: #n, exclusive: false }) });
        let (doc, format, pattern) = (&self.doc, &self.format, &self.pattern);
        let default = self.default.as_ref().map_or(quote! { None }, |d| quote! { Some(Literal::Json(#d)) });
        let (enumeration, keys) = (&self.enumeration, &self.keys);
        let (minimum, maximum) = (bound(self.min), bound(self.max));
        let (min_length, max_length) = (count(self.min_length), count(self.max_length));
        let (min_items, max_items) = (count(self.min_items), count(self.max_items));
        let (min_properties, max_properties) = (count(self.min_properties), count(self.max_properties));
        let (immutable, atomic, granular) = (self.immutable, self.atomic, self.granular);
        let list_type = match self.list.as_str() {
            "atomic" => quote! { Some(ListType::Atomic) },
            "set" => quote! { Some(ListType::Set) },
            "map" => quote! { Some(ListType::Map) },
            _ => quote! { None },
        };
        Some(quote! {
            Facets {
                doc: Cow::Borrowed(#doc),
                default: #default,
                enumeration: Cow::Borrowed(&[#(Cow::Borrowed(#enumeration)),*]),
                format: Cow::Borrowed(#format),
                pattern: Cow::Borrowed(#pattern),
                minimum: #minimum,
                maximum: #maximum,
                multiple_of: None,
                min_length: #min_length,
                max_length: #max_length,
                min_items: #min_items,
                max_items: #max_items,
                unique_items: false,
                min_properties: #min_properties,
                max_properties: #max_properties,
                nullable: false,
                immutable: #immutable,
                list_type: #list_type,
                list_map_keys: Cow::Borrowed(&[#(Cow::Borrowed(#keys)),*]),
                atomic: #atomic,
                granular: #granular,
                rules: Cow::Borrowed(&[]),
                junctors: None,
            }
        })
    }
}

fn is_option(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|s| s.ident == "Option"))
}

/// `pod_cidr` to `podCidr`.
fn camel_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.extend(c.to_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out
}
