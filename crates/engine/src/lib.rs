//! What may happen to an object: verbs, catalogue, lists, watches, over a store. Names no kind, knows no HTTP.
