//! smsbridge: a protocol bridge between a company's services and the Infobip SMS HTTP API.
//!
//! # Layout
//!
//! The simulator stands apart: it shares no wire types with the client of the API.

pub mod simulator;
