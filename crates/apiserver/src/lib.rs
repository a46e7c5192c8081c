//! Who may ask and in which tongue: TLS, HTTP, authentication, authorization, admission, discovery, OpenAPI, CRDs.
