//! The simulator of the Infobip SMS HTTP API: an independent reading of the manual and WIRE.md.
//!
//! It shares no wire types with the bridge's own client, so that the two can be held against each other.

pub mod codes;
pub mod networks;
pub mod text;
pub mod xml;
