//! Checks documents and examples against the code: every documented name exists, and everything public is documented.

mod asyncapi;
mod contract;
mod errors;
mod event_samples;
mod examples;
mod fences;
mod reliability;
