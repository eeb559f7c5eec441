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
//! let answer = reqwest::Client::new()
//!     .post(format!("{}/sms/1/text/single", simulator.base_url()))
//!     .basic_auth("demo", Some("demo"))
//!     .header("Content-Type", "application/json")
//!     .body(r#"{"from": "InfoSMS", "to": "41793026727", "text": "Hello"}"#)
//!     .send()
//!     .await?;
//! assert_eq!(answer.status(), 200);
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
//! It shares no wire types with the bridge's own client, so that the two can be held against each other. It knows no
//! other module of the crate and may be read on its own, from the outside in:
//!
//! - [`server`] owns the socket and breaks connections where a fault asks for it; [`http`] knows the endpoints, formats
//!   and credentials, one file for each family; [`request`], [`validate`], [`draft`], [`envelope`] and [`render`] are what goes in
//!   and out.
//! - [`state`] is the memory behind one lock: [`clock`] and timers, the messages in [`store`], pushes in [`push`].
//!   [`acceptance`] lets a message in, [`life`] says what happens to it, [`outcome`] how it ends.
//! - [`engine`] moves all of it: it fires timers in the order of virtual time and carries pushes out.
//! - [`faults`] is what goes wrong on demand; [`requests`] what came in; [`dice`] where chance comes from.
//! - [`codes`], [`text`], [`networks`], [`xml`] and [`dates`] are pure.
//!
//! Invariants: nothing waits under the lock; every timestamp is virtual; every memory is bounded; the same seed, the
//! same requests and the same advances of the clock give the same ledger and the same pushes.

#![warn(missing_docs)]

mod acceptance;
#[cfg(feature = "cli")]
pub mod args;
mod clock;
pub mod codes;
mod config;
mod dates;
mod dice;
mod draft;
mod engine;
mod envelope;
mod faults;
mod http;
mod life;
pub mod networks;
mod outcome;
mod push;
mod render;
mod request;
mod requests;
mod running;
mod server;
mod state;
mod store;
pub mod text;
mod validate;
pub mod xml;

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use engine::Engine;

pub use config::{Bounds, Chances, InboundPush, Keyword, SimulatorConfig};
pub use running::{FaultRefused, LedgerMessage, RunningSimulator};

/// Why the simulator does not start.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The address is taken or not ours.
    #[error(
        "the simulator cannot listen on {address}: {source}; choose another address with --listen, or port 0 for any free one"
    )]
    Listen {
        /// Where it should listen.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The client for pushes cannot be made.
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
    /// Binds the socket; requests are answered once [`Simulator::run`] runs.
    pub async fn bind(config: SimulatorConfig) -> Result<Self, SimulatorError> {
        let address = config.listen;
        let listen = |source| SimulatorError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        // Pushes may go to https; whoever was first to choose a provider has chosen.
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
            engine: Arc::new(Engine::new(config, client)),
        })
    }

    /// Starts a simulator on a free port of the loopback interface, with the default switches.
    ///
    /// # Errors
    /// [`SimulatorError`] if the system has no port left, or the client for pushes can't be set up.
    pub async fn start() -> Result<RunningSimulator, SimulatorError> {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_with(SimulatorConfig {
            listen: any_port,
            ..SimulatorConfig::default()
        })
        .await
    }

    /// Starts a simulator with these switches.
    ///
    /// # Errors
    /// [`SimulatorError::Listen`] if the address can't be bound.
    pub async fn start_with(config: SimulatorConfig) -> Result<RunningSimulator, SimulatorError> {
        let simulator = Self::bind(config).await?;
        let (address, engine) = (simulator.local_addr, Arc::clone(&simulator.engine));
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(simulator.run(shutdown.clone()));
        Ok(RunningSimulator::new(address, engine, shutdown, running))
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Runs until shutdown; ends when requests and pushes under way have ended.
    pub async fn run(self, shutdown: CancellationToken) {
        let clock = tokio::spawn(self.engine.clone().run_clock());
        let stop = async {
            shutdown.cancelled().await;
            self.engine.shutdown.cancel();
        };
        tokio::join!(stop, server::serve(&self.engine, self.listener));
        // It ends with the shutdown, and could only fail by a panic.
        let _ = clock.await;
        self.engine.drained().await;
    }
}
