//! Events on the embedded engine: their fields and ids, and subscriptions.

mod applications;
mod bounds;
mod bytes_kept;
mod fields;
mod inbound_routes;
mod kept_filter;
mod rejected;
mod subscribe;
