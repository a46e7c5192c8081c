//! The derive behind every API type: struct to Schema, tree to struct, struct to tree.
//!
//! ```text
//! #[api(name = "io.k8s.api.core.v1.Pod")]            on the struct; flags: atomic, preserve_unknown
//! #[api(TAG, json = "x", omitempty, ...)]            on a field
//! ```
//! What the words mean is said at `apimachinery::schema`: each sets one member of `Field` or `Facets`. The generated
//! code is a table and three short functions; the work is in non-generic functions of `apimachinery::derived`, since
//! there are six hundred such structs.

mod attributes;

use proc_macro::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Fields, parse_macro_input};

use attributes::{FieldAttributes, StructAttributes, docs};

/// Implements `apimachinery::Api` for a struct with named fields.
#[proc_macro_derive(Api, attributes(api))]
pub fn derive_api(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(input).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn expand(input: DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    let ident = &input.ident;
    let wrong = || syn::Error::new_spanned(ident, "an API type is a struct with named fields");
    let Data::Struct(data) = &input.data else { return Err(wrong()) };
    let Fields::Named(fields) = &data.fields else { return Err(wrong()) };
    let own = StructAttributes::read(&input.attrs)?;
    let (name, struct_doc) = (&own.name, docs(&input.attrs));
    let (atomic, preserve_unknown) = (own.atomic, own.preserve_unknown);

    let mut table = Vec::new();
    let mut facets = Vec::new();
    let mut reads = Vec::new();
    let mut writes = Vec::new();
    let mut zeros = Vec::new();
    for (index, field) in fields.named.iter().enumerate() {
        let attributes = FieldAttributes::read(field)?;
        let ty = &field.ty;
        let member = field.ident.as_ref().ok_or_else(wrong)?;
        let json = &attributes.json;
        let facets_name = format_ident!("FACETS_{index}");
        let facets_ref = match attributes.facets() {
            Some(literal) => {
                facets.push(quote! { static #facets_name: Facets = #literal; });
                quote! { Some(Ref::Static(&#facets_name)) }
            }
            None => quote! { None },
        };
        let pointer = attributes.is_option;
        let (tag, omit, required, patch) =
            (attributes.tag, attributes.omit(), attributes.required, attributes.patch()?);
        let name = if attributes.inline { "" } else { json.as_str() };
        table.push(quote! {
            Field {
                name: Cow::Borrowed(#name),
                tag: #tag,
                pointer: #pointer,
                omit: #omit,
                required: #required,
                patch: #patch,
                node: Node { ty: <#ty as Api>::TYPE, facets: #facets_ref },
            }
        });
        if attributes.inline {
            reads.push(quote! { #member: ::apimachinery::Api::from_value(value)? });
            writes.push(
                quote! { ::apimachinery::derived::merge(&mut out, ::apimachinery::Api::to_value(&self.#member)); },
            );
        } else {
            reads.push(quote! { #member: ::apimachinery::derived::member(map, #json)? });
            writes.push(quote! {
                if !::apimachinery::Api::is_zero(&self.#member) {
                    out.push((::apimachinery::SmolStr::new_static(#json), ::apimachinery::Api::to_value(&self.#member)));
                }
            });
        }
        zeros.push(quote! { ::apimachinery::Api::is_zero(&self.#member) });
    }
    let count = table.len();
    let zero = if zeros.is_empty() {
        quote! { true }
    } else {
        quote! { #(#zeros)&&* }
    };
    let map_name = if reads.is_empty() { format_ident!("_map") } else { format_ident!("map") };
    let only_inline = !reads.is_empty() && writes.iter().all(|w| w.to_string().contains("derived :: merge"));
    let use_map = if only_inline {
        quote! { let _ = map; }
    } else {
        quote! {}
    };

    Ok(quote! {
        impl #ident {
            /// This type's schema.
            pub fn schema() -> &'static ::apimachinery::schema::Struct {
                use ::std::borrow::Cow;
                use ::apimachinery::schema::{Api, Bound, Facets, Field, ListType, Literal, Node, Omit, Patch, Ref, Struct};
                #(#facets)*
                static FIELDS: [Field; #count] = [#(#table),*];
                static SCHEMA: Struct = Struct {
                    name: Cow::Borrowed(#name),
                    doc: Cow::Borrowed(#struct_doc),
                    fields: Cow::Borrowed(&FIELDS),
                    preserve_unknown: #preserve_unknown,
                    embedded_resource: false,
                    atomic: #atomic,
                };
                &SCHEMA
            }
        }

        impl ::apimachinery::schema::Api for #ident {
            const TYPE: ::apimachinery::schema::Type =
                ::apimachinery::schema::Type::Struct(::apimachinery::schema::StructRef::Static(#ident::schema));

            fn from_value(value: &::apimachinery::Value) -> ::std::result::Result<Self, ::apimachinery::schema::Mismatch> {
                let Some(#map_name) = ::apimachinery::derived::object(value)? else {
                    return Ok(Self::default());
                };
                #use_map
                Ok(Self { #(#reads),* })
            }

            fn to_value(&self) -> ::apimachinery::Value {
                #[allow(unused_mut)]
                let mut out: Vec<(::apimachinery::SmolStr, ::apimachinery::Value)> = Vec::new();
                #(#writes)*
                ::apimachinery::derived::finish(out)
            }

            fn is_zero(&self) -> bool {
                #zero
            }
        }
    })
}
