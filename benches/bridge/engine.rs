//! The engine of the event log of a measurement, and a bridge on it.

use tempfile::TempDir;

use super::{
    broker::Broker,
    process::{Bridge, Simulator},
};

/// Which engine is measured.
#[derive(Clone, Copy)]
pub enum Engine<'a> {
    Embedded,
    /// On the broker with this URL.
    Broker(&'a str),
}

/// The log of one engine, of which several bridges are started one after the other.
pub enum Log {
    Embedded,
    Broker(Box<Broker>),
}

impl Engine<'_> {
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded engine",
            Self::Broker(_) => "broker engine",
        }
    }

    pub async fn log(self) -> Log {
        match self {
            Self::Embedded => Log::Embedded,
            Self::Broker(url) => Log::Broker(Box::new(Broker::declare(url).await)),
        }
    }
}

impl Log {
    /// A bridge on the log. The folder is that of the bridge before, or a new one.
    pub async fn bridge(&self, simulator: &Simulator, folder: Option<TempDir>) -> Bridge {
        let settings = match self {
            Self::Embedded => Vec::new(),
            Self::Broker(broker) => broker.settings(),
        };
        let folder = folder.unwrap_or_else(|| tempfile::tempdir().unwrap());
        Bridge::start_at(folder, simulator, &settings).await
    }

    pub async fn delete(self) {
        match self {
            Self::Embedded => {}
            Self::Broker(broker) => broker.delete().await,
        }
    }
}
