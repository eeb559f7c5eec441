//! `smsbridge topology`: prints the bridge's exchanges, queues and bindings, or declares them on the broker.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Args;
use lapin::{
    ExchangeKind,
    types::{AMQPValue, FieldTable},
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{CliError, amqp_url, config_args::ConfigArgs};
use crate::{
    amqp::{AmqpError, Endpoint, Session, Topology, topology::Destination},
    config::parse_broker_url,
};

/// How long the broker may take for all declarations.
const DECLARE_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(
    after_help = "The bridge declares them each time it connects, unless amqp.topology is \"passive\". So its user needs the permissions to \
                  configure, write and read them even if they exist; docs/RABBITMQ.md#permissions has the command that grants \
                  these. --declare always declares: it compares all arguments with those that exist, and explains the first one \
                  that differs.

Examples:
  smsbridge topology
  smsbridge topology --json > definitions.json && rabbitmqctl import_definitions definitions.json
  SMSBRIDGE_AMQP__URL=amqp://guest:guest@127.0.0.1:5672/%2f smsbridge topology --declare"
)]
pub struct TopologyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON for `rabbitmqctl import_definitions`, with the virtual host of amqp.url (default: `/`)
    #[arg(long)]
    json: bool,
    /// Declare them on the broker of amqp.url or --amqp-url, whatever amqp.topology is
    #[arg(long)]
    declare: bool,
    /// The broker to declare them on, with a user who may configure them, instead of amqp.url. With `env` the URL is that of the
    /// environment variable SMSBRIDGE_AMQP__URL, so that no list of processes shows its password
    #[arg(long, value_name = "URL", requires = "declare")]
    amqp_url: Option<String>,
}

/// # Errors
/// [`CliError::Configuration`] with every mistake; [`CliError::Failed`] if the broker refuses a declaration.
pub async fn run(args: TopologyArgs) -> Result<(), CliError> {
    let config = args.config.load()?;
    let topology = Topology::new(&config.amqp);
    if args.declare {
        let failed = |error: AmqpError| CliError::Failed(error.to_string());
        let configured =
            Endpoint::configured(&config.amqp).map_err(|error| failed(error.into()))?;
        let endpoint = match &args.amqp_url {
            Some(url) => Some(amqp_url::endpoint(url)?.with_tls(&config.amqp)),
            None => configured,
        };
        let endpoint = endpoint.ok_or_else(|| {
            CliError::Configuration(
                "amqp.url is not set: --declare needs a broker (--amqp-url URL)".into(),
            )
        })?;
        declare(&endpoint, &topology).await.map_err(failed)?;
    }
    let mut out = io::stdout().lock();
    if args.json {
        let url = config.amqp.url.as_ref().map(ExposeSecret::expose_secret);
        let uri = url.and_then(|url| parse_broker_url(url).ok());
        let vhost = uri.unwrap_or_default().vhost;
        writeln!(out, "{:#}", definitions(&topology, &vhost))?;
    } else {
        write_table(&topology, &mut out)?;
    }
    Ok(out.flush()?)
}

async fn declare(endpoint: &Endpoint, topology: &Topology) -> Result<(), AmqpError> {
    let session = Session::open(endpoint, "topology").await?;
    let declared = topology.declare_in(&session, DECLARE_TIMEOUT).await;
    session.close().await;
    declared
}

fn write_table(topology: &Topology, out: &mut impl Write) -> io::Result<()> {
    for exchange in topology.exchanges() {
        let kind = kind_name(&exchange.kind);
        let arguments = as_json(&exchange.arguments);
        writeln!(out, "exchange  {}  {kind}  {arguments}", exchange.name)?;
    }
    for queue in topology.queues() {
        writeln!(
            out,
            "queue     {}  {}",
            queue.name,
            as_json(&queue.arguments)
        )?;
    }
    for binding in topology.bindings() {
        let by = match binding.routing_key.as_str() {
            "" => as_json(&binding.arguments).to_string(),
            key => key.to_owned(),
        };
        writeln!(
            out,
            "binding   {} -> {}  {by}",
            binding.exchange, binding.destination
        )?;
    }
    Ok(())
}

/// RabbitMQ's format of definitions.
fn definitions(topology: &Topology, vhost: &str) -> Value {
    let exchanges = topology.exchanges().into_iter().map(|exchange| {
        json!({
            "name": exchange.name, "vhost": vhost, "type": kind_name(&exchange.kind), "durable": true,
            "auto_delete": false, "internal": false, "arguments": as_json(&exchange.arguments),
        })
    });
    let queues = topology.queues().into_iter().map(|queue| {
        json!({
            "name": queue.name, "vhost": vhost, "durable": true, "auto_delete": false, "arguments": as_json(&queue.arguments),
        })
    });
    let bindings = topology.bindings().into_iter().map(|binding| {
        json!({
            "source": binding.exchange, "vhost": vhost, "destination": binding.destination,
            "destination_type": match binding.kind { Destination::Queue => "queue", Destination::Exchange => "exchange" },
            "routing_key": binding.routing_key, "arguments": as_json(&binding.arguments),
        })
    });
    json!({
        "exchanges": exchanges.collect::<Vec<_>>(),
        "queues": queues.collect::<Vec<_>>(),
        "bindings": bindings.collect::<Vec<_>>(),
    })
}

fn kind_name(kind: &ExchangeKind) -> String {
    format!("{kind:?}").to_lowercase()
}

/// Arguments as JSON. The topology uses only numbers and texts.
fn as_json(arguments: &FieldTable) -> Value {
    let entries = arguments.into_iter().map(|(name, value)| {
        let value = match value {
            AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into(),
            AMQPValue::LongInt(number) => (*number).into(),
            AMQPValue::LongLongInt(number) => (*number).into(),
            other => format!("{other:?}").into(),
        };
        (name.to_string(), value)
    });
    Value::Object(entries.collect())
}
