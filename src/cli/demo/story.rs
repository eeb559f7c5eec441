//! The text of the demo: what it called and what it received.

use std::io::{self, Write as _};

use super::{
    super::{CliError, output::colour::Tone},
    Endpoints,
};
use crate::{ops::terminal::takes_colours, proto::v1};

/// Prints the demo to stdout and collects the flows that failed.
pub(super) struct Story {
    has_colours: bool,
    chapters: u32,
    failed: Vec<String>,
}

impl Default for Story {
    fn default() -> Self {
        Self {
            has_colours: takes_colours(&io::stdout()),
            chapters: 0,
            failed: Vec::new(),
        }
    }
}

impl Story {
    pub(super) fn paint(&self, tone: Tone, text: &str) -> String {
        match self.has_colours {
            true => tone.paint(text),
            false => text.to_owned(),
        }
    }

    pub(super) fn print(&self, line: impl AsRef<str>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", line.as_ref())?;
        out.flush()
    }

    pub(super) fn begin(&self, endpoints: &Endpoints<'_>) -> io::Result<()> {
        let Endpoints {
            simulator,
            bridge,
            broker,
            ports,
        } = endpoints;
        let page = self.paint(Tone::Bold, &format!("http://{simulator}/_sim/"));
        self.print(format!("Open {page} to see the phones.\n"))?;
        self.print("smsbridge demo: a simulated Infobip account and a bridge, in one process.\n")?;
        self.print("  your services ──gRPC or RabbitMQ──▶ smsbridge ──REST──▶ Infobip (here: the simulator)")?;
        self.print("                ◀─────events──────────           ◀─pushes─\n")?;
        self.print(format!("  bridge, gRPC     {}", bridge.grpc))?;
        self.print(format!("  bridge, webhooks {}", bridge.http))?;
        self.print(format!(
            "  bridge, ops      {}   (/ready, /metrics)",
            bridge.admin
        ))?;
        self.print(format!("  simulator        {simulator}   (/_sim/)"))?;
        if let Some(broker) = broker {
            self.print(format!("  broker           {}", broker.endpoint.address()))?;
        }
        for taken in &ports.taken {
            self.print(format!("  {taken}"))?;
        }
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
        let title = self.paint(Tone::Bold, &format!("{}. {title}", self.chapters));
        self.print(format!("\n{title}\n   called    {called}"))
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
            Ok(()) => self.print(self.paint(Tone::Good, "   ✓ worked")),
            Err(why) => {
                self.failed.push(format!("{title}: {why}"));
                self.print(self.paint(Tone::Bad, &format!("   ✗ failed: {why}")))
            }
        }
    }

    pub(super) fn end(&self) -> Result<(), CliError> {
        if self.failed.is_empty() {
            let all = format!("All {} flows worked.", self.chapters);
            self.print(format!("\n{}", self.paint(Tone::Good, &all)))?;
            return Ok(());
        }
        Err(CliError::Failed(format!(
            "{} of {} flows failed:\n  {}",
            self.failed.len(),
            self.chapters,
            self.failed.join("\n  ")
        )))
    }
}
