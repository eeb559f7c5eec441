//! gRPC calls with arbitrary bytes, over a real connection, without a gRPC library on this side.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::DEADLINE;

#[derive(Clone)]
pub struct RawCaller {
    address: SocketAddr,
    connection: SendRequest<Full<Bytes>>,
}

/// The response to a call.
#[derive(Debug)]
pub struct RawAnswer {
    pub http_status: u16,
    /// The framed messages of the response.
    pub body: Vec<u8>,
    /// `None` if the response ended or was abandoned without a status.
    pub status: Option<Status>,
}

impl RawAnswer {
    /// The code and the reason of the ErrorInfo, or an empty reason.
    pub fn reason(&self) -> (Code, String) {
        let status = self.status.as_ref();
        let status = status.unwrap_or_else(|| panic!("no gRPC status: {self:?}"));
        let info = status.get_details_error_info();
        (
            status.code(),
            info.map(|info| info.reason).unwrap_or_default(),
        )
    }
}

/// Encodes a message as a gRPC frame.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat()
}

impl RawCaller {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        // The connection ends with its last sender.
        tokio::spawn(connection);
        Self {
            address,
            connection: sender,
        }
    }

    /// Calls `path` (`package.Service/Method`) with a body, and half-closes.
    pub async fn call(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> RawAnswer {
        self.call_within(path, headers, body, DEADLINE)
            .await
            .unwrap_or_else(|| panic!("{path} is not answered within {DEADLINE:?}"))
    }

    /// Calls `path` with a `grpc-timeout` and returns the status. Nothing on this side ends the call at its deadline, as the timer of
    /// a tonic client does, so the status is the bridge's.
    pub async fn status_within(
        &self,
        path: &str,
        request: &impl prost::Message,
        timeout: Duration,
    ) -> Status {
        let timeout = format!("{}m", timeout.as_millis());
        let body = framed(&request.encode_to_vec());
        let answer = self.call(path, &[("grpc-timeout", &timeout)], body).await;
        answer.status.expect("a gRPC status")
    }

    /// Like [`Self::call`]; `None` if no response begins within `patience`. A stream is abandoned after that time.
    pub async fn call_within(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        patience: Duration,
    ) -> Option<RawAnswer> {
        let mut request = http::Request::post(format!("http://{}/{path}", self.address));
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/grpc");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let mut connection = self.connection.clone();
        connection.ready().await.unwrap();
        let answering = connection.send_request(request);
        let answer = tokio::time::timeout(patience, answering).await.ok()?;
        let (parts, mut body) = answer
            .unwrap_or_else(|error| panic!("{path}: {error:?}"))
            .into_parts();
        let mut answer = RawAnswer {
            http_status: parts.status.as_u16(),
            body: Vec::new(),
            status: Status::from_header_map(&parts.headers),
        };
        let rest = async {
            while let Some(frame) = body.frame().await {
                let frame = frame.unwrap_or_else(|error| panic!("{path}: {error:?}"));
                if let Some(trailers) = frame.trailers_ref() {
                    answer.status = Status::from_header_map(trailers);
                } else if let Ok(data) = frame.into_data() {
                    answer.body.extend_from_slice(&data);
                }
            }
        };
        let _ = tokio::time::timeout(patience, rest).await;
        Some(answer)
    }
}
