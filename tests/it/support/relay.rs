//! A relay in front of the broker that watches the bytes of each connection, and ends or silences it.

use std::ops::RangeInclusive;

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// The sender of the bytes that a relay received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Client,
    Broker,
}

/// What a relay does with the bytes that it received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Forward,
    /// Keeps the connection open, but forwards nothing more from this peer.
    Silence,
    /// Forwards the bytes and closes the connection.
    Close,
}

/// Relays each connection with `serve`, which gets the client's stream and one to the broker. Returns the URL of the broker over the
/// relay.
pub async fn relay_with<Serve, Served>(broker_url: &str, serve: Serve) -> String
where
    Serve: Fn(TcpStream, TcpStream) -> Served + Send + 'static,
    Served: Future<Output = ()> + Send + 'static,
{
    let (user, rest) = broker_url.split_once('@').expect("the URL has a user");
    let (broker, vhost) = rest.split_once('/').expect("the URL has a virtual host");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let broker = broker.to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&broker).await else {
                return;
            };
            tokio::spawn(serve(client, server));
        }
    });
    format!("{user}@{address}/{vhost}")
}

/// Starts a relay; returns the URL of the broker over it. `decide` gets all bytes; each connection has a clone of it for each peer.
pub async fn start_relay<F>(broker_url: &str, decide: F) -> String
where
    F: FnMut(Peer, &[u8]) -> Verdict + Clone + Send + 'static,
{
    relay_with(broker_url, move |client, server| {
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (requests, replies) = (decide.clone(), decide.clone());
        async move {
            tokio::select! {
                () = forward(Peer::Client, from_client, to_server, requests) => {}
                () = forward(Peer::Broker, from_server, to_client, replies) => {}
            }
        }
    })
    .await
}

/// Class and method of `basic.publish` and of `basic.ack`: an acknowledgement, or the confirm of the broker.
pub const PUBLISH: [u8; 4] = [0, 60, 0, 40];
pub const ACK: [u8; 4] = [0, 60, 0, 80];

/// One AMQP frame.
pub struct Frame(pub Vec<u8>);

impl Frame {
    pub fn is_method(&self, method: [u8; 4]) -> bool {
        self.0[0] == 1 && self.0[7..].starts_with(&method)
    }

    /// Whether it has a part of the body of a message.
    pub fn is_body(&self) -> bool {
        self.0[0] == 3
    }

    pub fn channel(&self) -> [u8; 2] {
        [self.0[1], self.0[2]]
    }

    /// The delivery tags of an [`ACK`] that is the last of these, or the only one.
    pub fn acknowledged(&self) -> RangeInclusive<u64> {
        let tag = u64::from_be_bytes(self.0[11..19].try_into().unwrap());
        let is_multiple = self.0[19] & 1 == 1;
        let first = if is_multiple { 0 } else { tag };
        first..=tag
    }
}

/// Starts a relay of whole frames; returns the URL of the broker over it. `pass` gets each of them with the state of its connection, and
/// returns the bytes that go on: none withholds it.
pub async fn relay_frames<State, Pass>(broker_url: &str, pass: Pass) -> String
where
    State: Default + Send + 'static,
    Pass: Fn(&mut State, Peer, Frame) -> Vec<u8> + Clone + Send + Sync + 'static,
{
    relay_with(broker_url, move |client, server| {
        let pass = pass.clone();
        async move {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            // The client begins with eight bytes that are no frame.
            let mut header = [0; 8];
            if from_client.read_exact(&mut header).await.is_err()
                || to_server.write_all(&header).await.is_err()
            {
                return;
            }
            let state = Mutex::new(State::default());
            let requests = async {
                while let Some(frame) = read_frame(&mut from_client).await {
                    let bytes = pass(&mut state.lock(), Peer::Client, Frame(frame));
                    if to_server.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            };
            let replies = async {
                while let Some(frame) = read_frame(&mut from_server).await {
                    let bytes = pass(&mut state.lock(), Peer::Broker, Frame(frame));
                    if to_client.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = requests => {}
                () = replies => {}
            }
        }
    })
    .await
}

/// Reads one AMQP frame, or `None` at the end of the connection.
pub async fn read_frame(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut frame = vec![0; 7];
    from.read_exact(&mut frame).await.ok()?;
    let size = u32::from_be_bytes(frame[3..7].try_into().ok()?) as usize;
    frame.resize(7 + size + 1, 0);
    from.read_exact(&mut frame[7..]).await.ok()?;
    Some(frame)
}

async fn forward(
    peer: Peer,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut decide: impl FnMut(Peer, &[u8]) -> Verdict,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let verdict = decide(peer, &buffer[..read]);
        if verdict == Verdict::Silence {
            std::future::pending::<()>().await;
        }
        if to.write_all(&buffer[..read]).await.is_err() || verdict == Verdict::Close {
            return;
        }
    }
}
