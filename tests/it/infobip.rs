//! The client of the Infobip API, against scripted servers.

mod client;
mod mutations;
