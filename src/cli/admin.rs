//! Calls of `AdminService`, which are repeated while another call works on the same.
//!
//! Neighbours: `dead` and `quarantine` call, `removal` sums up what they removed.

use std::time::Duration;

use tonic::{Request, Response, Status};
use tonic_types::StatusExt as _;

use super::{
    CliError,
    connect::{Bridge, ConnectArgs, MAX_RESPONSE_BYTES, Service},
    output::Output,
    rpc_error::RpcError,
    time::show_duration,
};
use crate::proto::v1::admin_service_client::AdminServiceClient;

/// Calls at most while another one works on the same.
const MAX_CALLS: u32 = 4;
/// The reasons of a call that another one keeps out.
const BUSY: [&str; 2] = ["DEAD_LETTERS_BUSY", "QUARANTINE_BUSY"];

pub(super) type Client = AdminServiceClient<Service>;

pub(super) struct Admin {
    bridge: Bridge,
    client: Client,
    pub(super) output: Output,
}

impl Admin {
    pub(super) async fn connect(args: &ConnectArgs) -> Result<Self, CliError> {
        let bridge = args.connect().await?;
        let client =
            AdminServiceClient::new(bridge.service()).max_decoding_message_size(MAX_RESPONSE_BYTES);
        Ok(Self {
            bridge,
            client,
            output: Output::new(args.json),
        })
    }

    /// Calls again while the bridge says that another call works on the same.
    pub(super) async fn call<M: Clone, R>(
        &self,
        message: &M,
        call: impl AsyncFn(Client, Request<M>) -> Result<Response<R>, Status>,
    ) -> Result<R, CliError> {
        let mut calls = 0;
        loop {
            calls += 1;
            let request = self.bridge.request(message.clone());
            let status = match call(self.client.clone(), request).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            let info = status.get_details_error_info();
            let is_busy = info.is_some_and(|info| BUSY.contains(&&*info.reason));
            if !is_busy || calls == MAX_CALLS {
                return Err(RpcError::from(status).into());
            }
            let wait = RpcError::from(status).retry_after.unwrap_or_default();
            self.output.note(&format!(
                "another list, replay or discard is under way: continuing in {}",
                show_duration(wait)
            ))?;
            tokio::time::sleep(wait.max(Duration::from_millis(100))).await;
        }
    }
}
