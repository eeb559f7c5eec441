//! Sets up logging: text or JSON lines on stderr.
//!
//! Rules for every log call: a message without values; ids and counts as fields, with units in their names (`grace_ms`); a
//! failure is logged once, where it is handled; no phone number, text or credential. A panic is a line like any other.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal as _},
    panic::PanicHookInfo,
};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::{LevelFilter, ParseError},
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use super::terminal::takes_colours;
use crate::config::{Log, LogFormat};

/// The target of the AMQP client's lines.
const AMQP_CLIENT: &str = "lapin";

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("`log.filter` is not a log filter: {0}; write `info`, or `smsbridge=debug,info`")]
    Filter(#[from] ParseError),
    #[error("logging is already set up: {0}")]
    AlreadySet(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up logging on stderr; stdout is for results.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(log: &Log) -> Result<(), TelemetryError> {
    let stderr = io::stderr();
    subscriber(
        log,
        stderr.is_terminal(),
        takes_colours(&stderr),
        io::stderr,
    )?
    .try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Logs where a panic is. Of its message only what the source says: one that is put together at run time may contain a text or a number.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    let cause = panic.payload().downcast_ref::<&'static str>();
    // With RUST_BACKTRACE=1.
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        location,
        cause,
        backtrace,
        "a panic, which is a mistake of the bridge: please report it"
    );
}

/// Builds the subscriber. `is_terminal` decides between text and JSON for `auto`; text has colours if `has_colours`.
fn subscriber<W>(
    log: &Log,
    is_terminal: bool,
    has_colours: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = filter(&log.filter)?;
    let as_text = match log.format {
        LogFormat::Auto => is_terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let lines = if as_text {
        fmt::layer()
            .with_ansi(has_colours)
            .with_writer(writer)
            .boxed()
    } else {
        fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(writer)
            .boxed()
    };
    Ok(Registry::default().with(filter).with(lines))
}

/// The filter, without the lines of the AMQP client unless it names them: the bridge logs each outage of the broker itself.
fn filter(configured: &str) -> Result<EnvFilter, ParseError> {
    let filter = EnvFilter::builder()
        // In effect only if `configured` is empty.
        .with_default_directive(LevelFilter::ERROR.into())
        .parse(configured)?;
    if configured.contains(AMQP_CLIENT) {
        Ok(filter)
    } else {
        Ok(filter.add_directive(format!("{AMQP_CLIENT}=off").parse()?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, is_terminal: bool) -> String {
        let lines = Lines::default();
        let log = Log {
            filter: "smsbridge=info".to_owned(),
            format,
        };
        let writer = lines.clone();
        let subscriber =
            subscriber(&log, is_terminal, is_terminal, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(request_id = "r-1", wait_ms = 20, "an answer came late");
            tracing::debug!("filtered out");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_carry_ids_as_fields() {
        for written in [
            written(LogFormat::Json, true),
            written(LogFormat::Auto, false),
        ] {
            let line: serde_json::Value = serde_json::from_str(written.trim_end()).unwrap();
            assert_eq!(line["message"], "an answer came late");
            assert_eq!(line["request_id"], "r-1");
            assert_eq!(line["wait_ms"], 20);
            assert_eq!(line["level"], "INFO");
        }
    }

    #[test]
    fn text_is_coloured_on_a_terminal_only() {
        assert!(written(LogFormat::Auto, true).contains('\u{1b}'));
        let plain = written(LogFormat::Text, false);
        assert!(!plain.contains('\u{1b}'), "{plain}");
        assert!(
            plain.contains("an answer came late request_id=\"r-1\" wait_ms=20"),
            "{plain}"
        );
        assert_eq!(plain.lines().count(), 1, "{plain}");
    }

    #[test]
    fn the_amqp_client_is_silent_unless_the_filter_names_it() {
        for (configured, shown) in [
            ("info", "info,lapin=off"),
            ("smsbridge=debug,info", "smsbridge=debug,info,lapin=off"),
            ("info,lapin=warn", "info,lapin=warn"),
            // An empty filter is one for errors.
            ("", "error,lapin=off"),
            (",", "error,lapin=off"),
        ] {
            let (given, expected) = (filter(configured), EnvFilter::try_new(shown));
            assert_eq!(given.unwrap().to_string(), expected.unwrap().to_string());
        }
    }

    #[test]
    fn an_invalid_filter_is_reported_by_its_key() {
        let log = Log {
            filter: "smsbridge=loud".to_owned(),
            format: LogFormat::Json,
        };
        let error = subscriber(&log, false, false, io::sink)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("log.filter"), "{error}");
    }
}
