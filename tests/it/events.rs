//! Events: their fields, ids and order, look-ups, retention, and subscriptions. On the embedded engine where nothing else is said.

mod applications;
mod bounds;
mod bytes_kept;
mod engines;
mod fields;
mod files;
mod full_disk;
mod inbound_routes;
mod intermediate_reports;
mod kept_filter;
mod lookups;
mod rejected;
mod retention;
pub mod subscribe;
