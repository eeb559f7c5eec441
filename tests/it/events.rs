//! Events: their fields, ids and order, look-ups, retention, and subscriptions. On the embedded engine where nothing else is said.

mod engines;
mod fields;
mod files;
mod lookups;
mod retention;
mod subscribe;
