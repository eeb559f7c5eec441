//! The encodings of command and reply bodies: proto JSON and binary protobuf.

use bytes::Bytes;
use lapin::BasicProperties;

use super::invalid::Invalid;
use crate::{
    amqp::{codec, headers::property},
    message::reason::Reason,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    /// The encoding that the properties `content_type` and `content_encoding` name.
    pub(super) fn of(properties: &BasicProperties) -> Result<Self, Invalid> {
        let coding = property(properties.content_encoding());
        if !coding.is_empty()
            && !coding.eq_ignore_ascii_case("identity")
            && !coding.eq_ignore_ascii_case("utf-8")
        {
            return Err(Invalid::new(
                Reason::UnsupportedEncoding,
                format!("content_encoding `{coding}` is not supported: send the body uncompressed"),
            ));
        }
        let content_type = property(properties.content_type());
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "" | codec::JSON => Ok(Self::Json),
            codec::PROTOBUF | "application/x-protobuf" => Ok(Self::Protobuf),
            _ => Err(Invalid::new(
                Reason::UnsupportedEncoding,
                format!(
                    "content_type `{content_type}` is not supported: use {} or {}",
                    codec::JSON,
                    codec::PROTOBUF
                ),
            )),
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => codec::JSON,
            Self::Protobuf => codec::PROTOBUF,
        }
    }

    pub(super) fn decode<M>(self, body: &[u8]) -> Result<M, Invalid>
    where
        M: prost::Message + Default + for<'de> serde::Deserialize<'de>,
    {
        match self {
            Self::Json => serde_json::from_slice(body).map_err(|error| {
                Invalid::new(
                    Reason::UnreadableRequest,
                    format!("not proto JSON: {error}"),
                )
            }),
            Self::Protobuf => M::decode(body).map_err(|error| {
                Invalid::new(Reason::UnreadableRequest, format!("not protobuf: {error}"))
            }),
        }
    }

    pub(super) fn encode(self, message: &(impl prost::Message + serde::Serialize)) -> Bytes {
        match self {
            Self::Json => serde_json::to_vec(message).map(Bytes::from).expect(
                "a message that the bridge made or read from JSON has only values of the contract",
            ),
            Self::Protobuf => message.encode_to_vec().into(),
        }
    }
}
