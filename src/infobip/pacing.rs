//! Limits the request rates of the process: log requests by the API's quota, send requests by the configured rate.

mod log_quota;
mod send_pace;

pub use self::{
    log_quota::{LogQuota, Priority},
    send_pace::{SendPace, Share},
};
