//! Logs at the start what runs: the API, the event log, the broker, who may call, and the URLs for Infobip. Warns where a setting has a
//! consequence that nobody notices otherwise.
//!
//! Invariant: no line contains a credential; the secret in the URLs is masked.

use super::{Addresses, broker::Broker};
use crate::config::{Config, Engine};

pub(super) fn log(
    config: &Config,
    addresses: Addresses,
    broker: Option<&Broker>,
    tokens: Option<usize>,
) {
    api(config);
    events(config, broker);
    callers(config, tokens);
    pushes(config, addresses);
}

fn api(config: &Config) {
    let api = &config.infobip;
    let credentials = if api.api_key.is_some() {
        "API key"
    } else {
        "username and password"
    };
    tracing::info!(
        base_url = api.base_url,
        credentials,
        "requests go to the API"
    );
    if api.is_unencrypted() {
        tracing::warn!(
            base_url = api.base_url,
            "credentials and messages go to the API unencrypted: use https:// in infobip.base_url"
        );
    }
}

fn events(config: &Config, broker: Option<&Broker>) {
    let prefix = &config.amqp.prefix;
    match broker {
        Some(broker) if config.engine() != Engine::Embedded => {
            let address = broker.endpoint.address();
            tracing::info!(
                engine = "broker",
                address,
                prefix,
                "events are stored on the broker, and commands come from it"
            );
        }
        _ => {
            let data_dir = config.events.data_dir.display().to_string();
            tracing::info!(engine = "embedded", data_dir, "events are stored on disk");
            if let Some(broker) = broker {
                let address = broker.endpoint.address();
                tracing::info!(address, prefix, "commands come from the broker");
            }
        }
    }
}

fn callers(config: &Config, tokens: Option<usize>) {
    let grpc = &config.grpc;
    let authentication = match (tokens.is_some(), grpc.tls_client_ca_file.is_some()) {
        (true, true) => "token or client certificate",
        (true, false) => "token",
        (false, true) => "client certificate",
        (false, false) => "none",
    };
    tracing::info!(
        authentication,
        tokens,
        tls = grpc.tls_cert_file.is_some(),
        "calls are accepted"
    );
}

fn pushes(config: &Config, addresses: Addresses) {
    let url = |endpoint| config.http.masked_push_url(endpoint, addresses.http.port());
    let (Some(reports), Some(inbound), Some(clicks)) =
        (url("reports"), url("inbound"), url("clicks"))
    else {
        tracing::warn!(
            "http.public_url is not set: no delivery report, received message or click is pushed to this bridge"
        );
        return;
    };
    tracing::info!(
        reports,
        inbound,
        clicks,
        "URLs for Infobip: the bridge passes that of reports in each message; enter the others in Infobip's portal"
    );
}
