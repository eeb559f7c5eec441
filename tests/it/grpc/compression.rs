//! Compressed requests: gzip is accepted, and its unpacked size is bounded by `grpc.max_message_bytes`.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use smsbridge::proto::v1::{
    self, reference_service_client::ReferenceServiceClient, sms_service_client::SmsServiceClient,
};
use tonic::{Code, codec::CompressionEncoding::Gzip};

use crate::support::{
    bridge::{TestBridge, text},
    raw_call::{RawCaller, framed},
    simulator::TestSimulator,
    wire::delimited,
};

const TO: &str = "41793026727";
const LIST_STATUSES: &str = "smsbridge.v1.ReferenceService/ListStatuses";
const GZIP: [(&str, &str); 2] = [
    ("grpc-encoding", "gzip"),
    // Also offered by clients that compress their requests.
    ("grpc-accept-encoding", "gzip"),
];
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// A gRPC frame with a compressed message.
fn gzipped(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(message).unwrap();
    let mut frame = framed(&encoder.finish().unwrap());
    frame[0] = 1;
    frame
}

#[tokio::test]
async fn compressed_requests_are_read() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut sms = SmsServiceClient::new(bridge.channel.clone())
        .send_compressed(Gzip)
        .accept_compressed(Gzip);
    let long = "Hello ".repeat(100);
    let sent = sms.send_sms(text(&[TO], &long)).await.unwrap();
    assert_eq!(
        sent.into_inner().results[0].outcome(),
        v1::Outcome::Accepted
    );
    assert_eq!(simulator.messages().await[0]["text"], long);

    let requests = ["0", "1", "2"].map(|correlation| v1::StreamSmsRequest {
        correlation: correlation.into(),
        request: Some(text(&[TO], &long)),
    });
    let answers = sms.stream_sms(tokio_stream::iter(requests)).await.unwrap();
    let mut answers = answers.into_inner();
    let mut count = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!(answer.results[0].outcome(), v1::Outcome::Accepted);
        count += 1;
    }
    assert_eq!(count, 3);

    // Responses are not compressed.
    let caller = RawCaller::connect(bridge.addresses.grpc).await;
    let answer = caller.call(LIST_STATUSES, &GZIP, gzipped(&[])).await;
    assert_eq!(answer.reason().0, Code::Ok);
    assert_eq!(answer.body[0], 0, "the flag of an uncompressed message");
    bridge.stop().await;
}

#[tokio::test]
async fn an_unpacked_message_is_bounded() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.grpc.max_message_bytes = MAX_MESSAGE_BYTES;
    })
    .await;
    let caller = RawCaller::connect(bridge.addresses.grpc).await;
    // Unknown fields of any length are skipped; the key and the length take 4 bytes.
    let of = |bytes: usize| gzipped(&delimited(15, &vec![0; bytes - 4]));
    let answer = caller
        .call(LIST_STATUSES, &GZIP, of(MAX_MESSAGE_BYTES))
        .await;
    assert_eq!(answer.reason().0, Code::Ok, "{answer:?}");

    // 32 MiB in 32 KiB: refused after 64 KiB.
    let bomb = of(32 << 20);
    assert!(bomb.len() < MAX_MESSAGE_BYTES);
    for (method, body) in [
        (LIST_STATUSES, of(MAX_MESSAGE_BYTES + 1)),
        (LIST_STATUSES, bomb.clone()),
        ("smsbridge.v1.SmsService/StreamSms", bomb.clone()),
        ("grpc.health.v1.Health/Check", bomb),
    ] {
        let answer = caller.call(method, &GZIP, body).await;
        let too_large = (Code::ResourceExhausted, "MESSAGE_TOO_LARGE".to_owned());
        assert_eq!(answer.reason(), too_large, "{method}");
        let message = answer.status.unwrap().message().to_owned();
        assert!(message.contains("65536 bytes"), "{message}");
    }
    let garbled = [&[1][..], &framed(b"no gzip")[1..]].concat();
    let answer = caller.call(LIST_STATUSES, &GZIP, garbled).await;
    let unreadable = (Code::InvalidArgument, "UNREADABLE_REQUEST".to_owned());
    assert_eq!(answer.reason(), unreadable);

    let mut client = ReferenceServiceClient::new(bridge.channel.clone());
    let request = v1::ListStatusesRequest::default();
    client.list_statuses(request).await.unwrap();
    bridge.stop().await;
}

#[tokio::test]
async fn another_encoding_is_refused_with_the_one_that_is_accepted() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let caller = RawCaller::connect(bridge.addresses.grpc).await;
    for encoding in ["deflate", "zstd", "snappy"] {
        let headers = [("grpc-encoding", encoding)];
        let answer = caller.call(LIST_STATUSES, &headers, framed(&[])).await;
        let unsupported = (Code::Unimplemented, "UNSUPPORTED_ENCODING".to_owned());
        assert_eq!(answer.reason(), unsupported, "{encoding}");
        let message = answer.status.unwrap().message().to_owned();
        assert!(message.contains(encoding), "{message}");
        assert!(message.contains("gzip"), "{message}");
    }
    bridge.stop().await;
}
