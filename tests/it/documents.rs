//! Documents and examples held against the code: a documented name exists, and everything public is documented.

mod contract;
mod errors;
mod examples;
mod reliability;
