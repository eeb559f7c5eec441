//! The vocabulary: ids, addresses, code tables. Pure, knows nobody but the generated contract.

pub mod address;
pub mod codes;
pub mod id;
pub mod time;
