//! HTTP/2 frames written by hand, for connections that no library would open (RFC 9113).

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use super::DEADLINE;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// The HEADERS of a gRPC call without END_STREAM (RFC 7541: literals without indexing).
pub fn call_headers(stream: u32, path: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    frame(HEADERS, END_HEADERS, stream, &block)
}

/// A complete call whose request is an empty message.
pub fn empty_call(stream: u32, path: &str) -> Vec<u8> {
    let message = frame(DATA, END_STREAM, stream, &[0; 5]);
    [call_headers(stream, path), message].concat()
}

/// SETTINGS by which the server may send no DATA.
pub fn closed_windows() -> Vec<u8> {
    const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
    frame(
        SETTINGS,
        0,
        0,
        &[&INITIAL_WINDOW_SIZE[..], &[0; 4]].concat(),
    )
}

/// A client that sends PINGs and reads nothing, so that the answers fill the buffers and the server cannot write. Returns when the
/// server has stopped reading because of that.
pub async fn spawn_client_that_does_not_read(address: SocketAddr) -> JoinHandle<()> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut connection = Http2(socket.connect(address).await.unwrap());
    connection.write(PREFACE).await;
    connection.write(&frame(SETTINGS, 0, 0, &[])).await;
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(1000);
    let (stuck, is_stuck) = oneshot::channel();
    let client = tokio::spawn(async move {
        let mut stuck = Some(stuck);
        let mut at = 0;
        loop {
            let writing = connection.0.write(&pings[at..]);
            match tokio::time::timeout(Duration::from_millis(100), writing).await {
                Ok(Ok(written)) => at = (at + written) % pings.len(),
                Ok(Err(_)) => return,
                Err(_) => _ = stuck.take().map(|stuck| stuck.send(())),
            }
        }
    });
    let waiting = tokio::time::timeout(DEADLINE, is_stuck).await;
    let stuck = waiting.expect("the buffers are full in time");
    stuck.expect("the connection lives until its buffers are full");
    client
}

pub struct Http2(TcpStream);

impl Http2 {
    /// Connects and sends nothing.
    pub async fn silent(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Connects and sends the preface and SETTINGS; the SETTINGS of the server are not read yet.
    pub async fn begun(address: SocketAddr) -> Self {
        let mut connection = Self::silent(address).await;
        connection.write(PREFACE).await;
        connection.write(&frame(SETTINGS, 0, 0, &[])).await;
        connection
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Kind, flags and payload of the next frame; `None` at the end of the connection.
    pub async fn read(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        let reading = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.ok()?;
            Some((head[3], head[4], payload))
        };
        tokio::time::timeout(DEADLINE, reading)
            .await
            .expect("a frame, or the end, in time")
    }

    /// Reads to the end of the connection; returns the kinds of the frames.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        let mut kinds = Vec::new();
        while let Some((kind, ..)) = self.read().await {
            kinds.push(kind);
        }
        kinds
    }
}
