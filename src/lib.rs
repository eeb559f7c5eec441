//! smsbridge: a protocol bridge between a company's services and the Infobip SMS HTTP API.
//!
//! # Layout
//!
//! Layers; each depends only on the layers below it:
//!
//! - [`proto`]: the contract, generated. [`message`]: the vocabulary: ids, addresses, code tables. [`primitives`]: retries and a
//!   bounded map.
//! - [`infobip`]: the client of the API. [`amqp`]: the client of the broker.
//! - [`events`]: the event log. [`send`]: turns a request into one result for each destination. [`intake`]: turns rows of the
//!   API into events. [`pull`]: reads what the API gives only once. [`query`]: looks numbers up and reads the logs.
//! - [`grpc`], [`commands`], [`webhooks`]: the edges; they do not depend on each other.
//! - [`app`] wires the parts together; [`cli`] is the command line. [`config`] and [`ops`] (logs, metrics, probes) are below all.
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
pub mod pull;
pub mod query;
pub mod send;
pub mod webhooks;
