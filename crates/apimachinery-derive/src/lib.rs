//! The derive behind every API type: struct to Schema, tree to struct, struct to tree.

use proc_macro::TokenStream;

/// Implements `apimachinery::Api` for a struct with named fields.
#[proc_macro_derive(Api, attributes(api))]
pub fn derive_api(_input: TokenStream) -> TokenStream {
    TokenStream::new()
}
