//! A simulator of the Infobip SMS HTTP API (version 1), for tests and demonstrations without an account.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use infobip_simulator::Simulator;
//!
//! // A free port on loopback; the account is `demo` with the password `demo`.
//! let simulator = Simulator::start().await?;
//! let response = reqwest::Client::new()
//!     .post(format!("{}/sms/1/text/single", simulator.base_url()))
//!     .basic_auth("demo", Some("demo"))
//!     .header("Content-Type", "application/json")
//!     .body(r#"{"from": "InfoSMS", "to": "41793026727", "text": "Hello"}"#)
//!     .send()
//!     .await?;
//! assert_eq!(response.status(), 200);
//!
//! // A minute of virtual time: the message is delivered by then.
//! simulator.advance(Duration::from_secs(60)).await;
//! let messages = simulator.messages();
//! assert_eq!(messages[0].to, "41793026727");
//! assert_eq!(messages[0].state, "delivered");
//! assert_eq!(messages[0].handset_deliveries, 1);
//!
//! simulator.stop().await;
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! ```
//!
//! `docs/SIMULATOR.md` of the repository describes the endpoints, the outcomes chosen by number, the faults and the control
//! interface under `/_sim/`.
//!
//! # Layout
//!
//! The crate shares no wire types with the bridge's client: each is an independent reading of the API, so that tests of
//! one against the other find mistakes in either. The modules, beginning at the socket:
//!
//! - [`server`] owns the socket and closes connections when a fault requires it; [`http`] has the endpoints, formats
//!   and credentials, one file for each group of endpoints; [`request`], [`validate`], [`submission`], [`envelope`] and
//!   [`render`] convert requests and responses.
//! - [`state`] is the data behind one lock: [`clock`] and timers, the messages in [`store`], pushes in [`push`].
//!   [`acceptance`] accepts or rejects a message, [`lifecycle`] moves it through its states, [`outcome`] chooses its final status.
//! - [`phones`] finds the messages of a number, newest activity first; [`changes`] collects what `/_sim/stream` tells.
//! - [`engine`] locks the state, fires timers in the order of virtual time, sends pushes and events.
//! - [`faults`] injects faults; [`request_log`] is the log of received requests; [`random`] is the seeded random generator.
//! - [`codes`], [`text`], [`networks`], [`xml`] and [`dates`] are pure functions and tables.
//!
//! Invariants: no code awaits while holding the lock; every timestamp is virtual; every collection is bounded; the same seed, the
//! same requests and the same advances of the clock give the same ledger and the same pushes.

#![warn(missing_docs)]

mod acceptance;
mod access_log;
#[cfg(feature = "cli")]
pub mod args;
mod changes;
mod clock;
pub mod codes;
mod config;
mod dates;
mod engine;
mod envelope;
mod faults;
mod http;
mod lifecycle;
pub mod networks;
mod outcome;
mod phones;
mod push;
mod random;
mod render;
mod request;
mod request_log;
mod running;
mod server;
mod state;
mod store;
mod submission;
pub mod text;
mod validate;
pub mod xml;

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use engine::Engine;

pub use config::{Bounds, BridgeAddresses, Chances, InboundPush, Keyword, SimulatorConfig};
pub use running::{FaultRefused, LedgerMessage, RunningSimulator};

/// Why the simulator does not start.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The listen address cannot be bound.
    #[error(
        "the simulator cannot listen on {address}: {source}; choose another address with --listen, or port 0 for any free one"
    )]
    Listen {
        /// The address that was tried.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The HTTP client for pushes cannot be set up.
    #[error("the simulator cannot set up its client for pushes: {0}")]
    Client(#[from] reqwest::Error),
}

/// A simulator whose socket is bound.
#[derive(Debug)]
pub struct Simulator {
    listener: TcpListener,
    local_addr: SocketAddr,
    engine: Arc<Engine>,
}

impl Simulator {
    /// Binds the socket. Requests are answered only while [`Simulator::run`] runs.
    pub async fn bind(config: SimulatorConfig) -> Result<Self, SimulatorError> {
        let address = config.listen;
        let listen = |source| SimulatorError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        // For pushes to https URLs. Installing fails if the process has installed a provider before, which is used then.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .http1_only()
            .tcp_nodelay(true)
            .user_agent("smsbridge-simulator")
            .build()?;
        Ok(Self {
            listener,
            local_addr,
            engine: Arc::new(Engine::new(config, local_addr, client)),
        })
    }

    /// Starts a simulator on a free port of the loopback interface, with the default configuration.
    ///
    /// # Errors
    /// [`SimulatorError`] if the system has no free port, or the client for pushes cannot be set up.
    pub async fn start() -> Result<RunningSimulator, SimulatorError> {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_with(SimulatorConfig {
            listen: any_port,
            ..SimulatorConfig::default()
        })
        .await
    }

    /// Starts a simulator with this configuration.
    ///
    /// # Errors
    /// [`SimulatorError::Listen`] if the address cannot be bound.
    pub async fn start_with(config: SimulatorConfig) -> Result<RunningSimulator, SimulatorError> {
        let simulator = Self::bind(config).await?;
        let (address, engine) = (simulator.local_addr, Arc::clone(&simulator.engine));
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(simulator.run(shutdown.clone()));
        Ok(RunningSimulator::new(address, engine, shutdown, task))
    }

    /// The address that the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until shutdown, then waits for requests and pushes in progress.
    pub async fn run(self, shutdown: CancellationToken) {
        let clock = tokio::spawn(self.engine.clone().run_clock());
        let stream = tokio::spawn(self.engine.clone().run_stream());
        let stop = async {
            shutdown.cancelled().await;
            self.engine.shutdown.cancel();
        };
        tokio::join!(stop, server::serve(&self.engine, self.listener));
        // These tasks end at shutdown. They fail only if they panicked, and the runtime has reported that.
        let _ = tokio::join!(clock, stream);
        self.engine.wait_for_tasks().await;
    }
}
