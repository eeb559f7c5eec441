//! smsbridge: a protocol bridge between a company's services and the Infobip SMS HTTP API.
//!
//! # Layout
//!
//! Floors, each knowing only those below it:
//!
//! - [`proto`]: the contract, generated. [`message`]: the vocabulary: ids, addresses, code tables. [`primitives`]: retries
//!   and a bounded map.
//! - [`infobip`]: out to the API. [`amqp`]: out to the broker.
//! - [`send`]: from a request to one result for each destination. [`events`]: the log of all that happened.
//!   [`intake`]: from what the API says to events.
//! - [`grpc`], `commands`, [`webhooks`]: the edges; they never know each other.
//! - [`app`] wires everything; [`config`], [`ops`] and [`cli`] stand beside it.
//!
//! The simulator is a crate of its own, `infobip-simulator`: it shares no wire types with [`infobip`].

pub mod amqp;
pub mod app;
pub mod cli;
pub mod commands;
pub mod config;
pub mod events;
pub mod grpc;
pub mod infobip;
pub mod intake;
pub mod message;
pub mod ops;
pub mod primitives;
pub mod proto;
pub mod send;
pub mod webhooks;
