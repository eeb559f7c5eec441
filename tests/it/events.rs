//! Events on the embedded engine: their fields and ids, and subscriptions.

mod fields;
mod subscribe;
