//! The text of the demo: what it called, what it received, what to try next.

use std::io::{self, Write as _};

use super::{super::CliError, Endpoints};
use crate::proto::v1;

/// Prints the demo to stdout and collects the flows that failed.
#[derive(Default)]
pub(super) struct Story {
    chapters: u32,
    failed: Vec<String>,
}

impl Story {
    fn print(&self, line: impl AsRef<str>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", line.as_ref())?;
        out.flush()
    }

    pub(super) fn begin(&self, endpoints: &Endpoints<'_>) -> io::Result<()> {
        let Endpoints {
            simulator,
            bridge,
            broker,
        } = endpoints;
        self.print("smsbridge demo: a simulated Infobip account and a bridge, in one process.\n")?;
        self.print("  your services ──gRPC or RabbitMQ──▶ smsbridge ──REST──▶ Infobip (here: the simulator)")?;
        self.print("                ◀─────events──────────           ◀─pushes─\n")?;
        self.print(format!("  bridge, gRPC     {}", bridge.grpc))?;
        self.print(format!("  bridge, webhooks {}", bridge.http))?;
        self.print(format!(
            "  bridge, ops      {}   (/ready, /metrics)",
            bridge.admin
        ))?;
        self.print(format!("  simulator        {simulator}   (/_sim/messages)"))?;
        match broker {
            Some(broker) => self.print(format!(
                "  events           on the broker, in the stream {} (deleted at the end)",
                broker.topology.events_log()
            )),
            None => self.print(
                "  events           in the embedded log (no broker was given with --amqp-url)",
            ),
        }
    }

    pub(super) fn chapter(&mut self, title: &str, called: &str) -> io::Result<()> {
        self.chapters += 1;
        self.print(format!(
            "\n{}. {title}\n   called    {called}",
            self.chapters
        ))
    }

    pub(super) fn received(&self, what: impl AsRef<str>) -> io::Result<()> {
        self.print(format!("   received  {}", what.as_ref()))
    }

    pub(super) fn result(&self, result: &v1::SendResult) -> io::Result<()> {
        let status = result
            .status
            .as_ref()
            .map_or("", |status| status.name.as_str());
        self.received(format!(
            "{} for {} ({status}), message id {}",
            result.outcome().as_str_name(),
            result.to,
            result.message_id
        ))
    }

    pub(super) fn event(&self, event: &v1::Event) -> io::Result<()> {
        use v1::event::Payload;
        let about = match &event.payload {
            Some(Payload::Report(report)) => format!(
                "{}, {}",
                report
                    .status
                    .as_ref()
                    .map_or("", |status| status.name.as_str()),
                report
                    .error
                    .as_ref()
                    .map_or("", |error| error.name.as_str())
            ),
            Some(Payload::Received(received)) => {
                format!("\"{}\" from {}", received.text, received.from)
            }
            Some(Payload::Result(result)) => format!("to {}", result.to),
            Some(Payload::Click(click)) => format!("{} opened {}", click.recipient, click.url),
            Some(Payload::Lookup(lookup)) => {
                format!("{} is in network {}", lookup.to, lookup.mcc_mnc)
            }
            Some(Payload::InvalidCommand(invalid)) => invalid.detail.clone(),
            None => String::new(),
        };
        self.received(format!(
            "event {}.{}: {about}",
            event.r#type, event.application
        ))
    }

    /// Ends a flow with its outcome.
    pub(super) fn ended(&mut self, title: &str, outcome: Result<(), String>) -> io::Result<()> {
        match outcome {
            Ok(()) => self.print("   ✓ worked"),
            Err(why) => {
                self.failed.push(format!("{title}: {why}"));
                self.print(format!("   ✗ failed: {why}"))
            }
        }
    }

    pub(super) fn end(&self) -> Result<(), CliError> {
        if self.failed.is_empty() {
            self.print(format!("\nAll {} flows worked.", self.chapters))?;
            return Ok(());
        }
        Err(CliError::Failed(format!(
            "{} of {} flows failed:\n  {}",
            self.failed.len(),
            self.chapters,
            self.failed.join("\n  ")
        )))
    }

    pub(super) fn where_to_look(&self, endpoints: &Endpoints<'_>) -> io::Result<()> {
        let Endpoints {
            simulator,
            bridge,
            broker,
        } = endpoints;
        let grpc = bridge.grpc;
        self.print("\nStill serving; Ctrl-C stops it. In another terminal:\n")?;
        self.print(format!(
            "  # send, with any gRPC tool (reflection is on)\n  grpcurl -plaintext -d '{{\"message\":{{\"from\":\"InfoSMS\",\"destinations\":[{{\"to\":\"41793026727\"}}],\"text\":\"Hello\"}}}}' {grpc} smsbridge.v1.SmsService/SendSms"
        ))?;
        self.print(format!("  # or with this binary; then follow the events\n  smsbridge send --address http://{grpc} 41793026727 --text Hello\n  smsbridge events --address http://{grpc} --since 1h --follow"))?;
        self.print(format!("  # simulate a message from a phone\n  curl -s -X POST http://{simulator}/_sim/inbound -H 'Content-Type: application/json' -d '{{\"from\":\"41793026727\",\"to\":\"41790000000\",\"text\":\"Hi there\"}}'"))?;
        self.print(format!(
            "  # the messages that reached handsets\n  curl -s http://{simulator}/_sim/messages"
        ))?;
        if let Some(broker) = broker {
            self.print(format!(
                "  # a command through the broker (examples/python; URL is the value of --amqp-url)\n  python3 amqp_send.py 41793026727 --text Hello --prefix {} --amqp-url URL",
                broker.prefix
            ))?;
        }
        Ok(())
    }
}
