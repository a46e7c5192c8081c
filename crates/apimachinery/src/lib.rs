//! What an object is: Schema and its interpreters, Object, Kind, Rules, Quantity, selectors, field errors, Status. No I/O, no async, no kind by name.
