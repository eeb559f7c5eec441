//! Callers that send what no gRPC library sends: each gets a clear status or loses its connection; other callers are not affected.

use prost_types::field_descriptor_proto::Type;
use smsbridge::proto::{
    self,
    v1::{
        self, event_service_client::EventServiceClient,
        reference_service_client::ReferenceServiceClient,
    },
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{
    bridge::{LONG_AFTER, TestBridge},
    http2::{self, Http2, frame},
    raw_call::{RawCaller, framed},
    simulator::TestSimulator,
    wire::{Contract, delimited},
};

/// A small message limit makes large messages cheap.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// No byte of it ends a varint.
const GARBAGE: [u8; 12] = [0xff; 12];

async fn bridge(simulator: &TestSimulator) -> TestBridge {
    TestBridge::with(simulator, |config| {
        config.grpc.max_message_bytes = MAX_MESSAGE_BYTES;
        config.grpc.keepalive_timeout = LONG_AFTER;
    })
    .await
}

async fn neighbour_is_served(bridge: &TestBridge) {
    let mut client = ReferenceServiceClient::new(bridge.channel.clone());
    let request = v1::ListStatusesRequest::default();
    let answer = client.list_statuses(request).await.unwrap();
    assert!(!answer.into_inner().statuses.is_empty());
}

#[tokio::test]
async fn bytes_that_are_not_http2_close_only_their_connection() {
    let simulator = TestSimulator::start().await;
    let bridge = bridge(&simulator).await;
    let http1 = b"GET / HTTP/1.1\r\nhost: bridge\r\n\r\n".to_vec();
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03not the hello it says it is".to_vec();
    for bytes in [
        vec![0; 100],
        http1,
        tls,
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
    ] {
        let mut connection = Http2::silent(bridge.addresses.grpc).await;
        connection.write(&bytes).await;
        connection.read_to_end().await;
        neighbour_is_served(&bridge).await;
    }
    bridge.stop().await;
}

#[tokio::test]
async fn an_invalid_frame_closes_only_its_connection() {
    let simulator = TestSimulator::start().await;
    let bridge = bridge(&simulator).await;
    let window = (i32::MAX as u32).to_be_bytes();
    let broken = [
        ("larger than 16 KiB", frame(http2::DATA, 0, 1, &[0; 16_385])),
        ("DATA of no stream", frame(http2::DATA, 0, 0, b"x")),
        ("DATA before HEADERS", frame(http2::DATA, 0, 1, b"x")),
        (
            "headers that are no HPACK",
            frame(http2::HEADERS, http2::END_HEADERS, 1, &GARBAGE),
        ),
        (
            "CONTINUATION of nothing",
            frame(http2::CONTINUATION, 0, 1, b"x"),
        ),
        ("a stream of the server's", http2::call_headers(2, "/x")),
        (
            "SETTINGS of 5 bytes",
            frame(http2::SETTINGS, 0, 0, b"12345"),
        ),
        ("PING of 1 byte", frame(http2::PING, 0, 0, b"1")),
        (
            "a window beyond 2^31-1",
            frame(http2::WINDOW_UPDATE, 0, 0, &window),
        ),
    ];
    for (what, bytes) in broken {
        let mut connection = Http2::begun(bridge.addresses.grpc).await;
        connection.write(&bytes).await;
        let kinds = connection.read_to_end().await;
        assert!(kinds.contains(&http2::GOAWAY), "{what}: {kinds:?}");
        neighbour_is_served(&bridge).await;
    }
    bridge.stop().await;
}

#[tokio::test]
async fn malformed_messages_get_a_documented_status_on_every_method() {
    let simulator = TestSimulator::start().await;
    let bridge = bridge(&simulator).await;
    let caller = RawCaller::connect(bridge.addresses.grpc).await;
    let too_large = u32::try_from(MAX_MESSAGE_BYTES + 1).unwrap().to_be_bytes();
    let unreadable = (Code::InvalidArgument, "UNREADABLE_REQUEST");
    let bodies = [
        ("garbage", framed(&GARBAGE), unreadable),
        (
            "a group that nothing ends",
            framed(&[0x0b, 0x0b]),
            unreadable,
        ),
        (
            "a field that ends after the message",
            framed(&[0x0a, 0x7f]),
            unreadable,
        ),
        (
            "an unknown flag",
            [&[7][..], &framed(&[])[1..]].concat(),
            unreadable,
        ),
        (
            "compressed without an encoding",
            [&[1][..], &framed(&[])[1..]].concat(),
            unreadable,
        ),
        ("half a prefix", vec![0, 0, 0], unreadable),
        (
            "half a message",
            framed(&[0; 100])[..50].to_vec(),
            unreadable,
        ),
        (
            "a prefix of too much",
            [&[0][..], &too_large].concat(),
            (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        ),
    ];
    // The reflection service is part of tonic: it ends its stream at a message that it cannot read.
    let methods = proto::methods().iter();
    for method in methods.filter(|method| !method.starts_with("grpc.reflection.")) {
        for (what, body, (code, reason)) in &bodies {
            let answer = caller.call(method, &[], body.clone()).await;
            assert_eq!(
                answer.reason(),
                (*code, (*reason).to_owned()),
                "{what} for {method}: {answer:?}"
            );
        }
        let deflate = [("grpc-encoding", "deflate")];
        let answer = caller.call(method, &deflate, framed(&[])).await;
        assert_eq!(
            answer.reason(),
            (Code::Unimplemented, "UNSUPPORTED_ENCODING".into()),
            "{method}: {answer:?}"
        );
    }
    for method in Contract::read().methods {
        if !method.is_client_streaming {
            let answer = caller.call(&method.path, &[], Vec::new()).await;
            assert_eq!(
                answer.reason(),
                (Code::InvalidArgument, "UNREADABLE_REQUEST".into()),
                "{method:?}"
            );
        }
    }
    neighbour_is_served(&bridge).await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_malformed_message_in_a_stream_ends_it_with_a_status() {
    let simulator = TestSimulator::start().await;
    let bridge = bridge(&simulator).await;
    let caller = RawCaller::connect(bridge.addresses.grpc).await;
    // Field 1 of SubscribeRequest is the start, whose field 1 is the name.
    let start = framed(&delimited(1, &delimited(1, b"broken")));
    for (method, first) in [
        ("SmsService/StreamSms", framed(&[])),
        ("EventService/Subscribe", start),
    ] {
        let body = [first, framed(&GARBAGE)].concat();
        let answer = caller
            .call(&format!("smsbridge.v1.{method}"), &[], body)
            .await;
        assert!(
            !answer.body.is_empty(),
            "{method}: the first message is answered"
        );
        assert_eq!(
            answer.reason(),
            (Code::InvalidArgument, "UNREADABLE_REQUEST".into()),
            "{method}"
        );
    }
    bridge.stop().await;
}

#[tokio::test]
async fn unknown_methods_wrong_content_types_and_long_headers_are_refused() {
    let simulator = TestSimulator::start().await;
    let bridge = bridge(&simulator).await;
    let caller = RawCaller::connect(bridge.addresses.grpc).await;
    for path in [
        "smsbridge.v1.SmsService/Nothing",
        "smsbridge.v2.SmsService/SendSms",
        "x",
        "",
    ] {
        let answer = caller.call(path, &[], framed(&[])).await;
        assert_eq!(
            answer.reason(),
            (Code::Unimplemented, "METHOD_UNKNOWN".into()),
            "{path:?}"
        );
    }
    let method = "smsbridge.v1.ReferenceService/ListStatuses";
    for kind in ["application/json", "text/html", "application/grp", ""] {
        let answer = caller
            .call(method, &[("content-type", kind)], framed(&[]))
            .await;
        assert_eq!(
            (answer.http_status, answer.body.len()),
            (415, 0),
            "{kind:?}: {answer:?}"
        );
    }
    let answer = caller
        .call(
            method,
            &[("content-type", "application/grpc+proto")],
            framed(&[]),
        )
        .await;
    assert_eq!(answer.reason().0, Code::Ok);
    let large = "x".repeat(17 * 1024);
    let answer = caller
        .call(method, &[("x-large", &large)], framed(&[]))
        .await;
    assert_eq!(answer.http_status, 431, "{answer:?}");
    neighbour_is_served(&bridge).await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_message_above_the_size_limit_is_refused_with_the_limit() {
    let simulator = TestSimulator::start().await;
    let bridge = bridge(&simulator).await;
    let caller = RawCaller::connect(bridge.addresses.grpc).await;
    // Unknown fields of any length are skipped; the key and the length take 4 bytes.
    let of = |bytes: usize| framed(&delimited(15, &vec![b'x'; bytes - 4]));
    let method = "smsbridge.v1.ReferenceService/ListStatuses";
    let answer = caller.call(method, &[], of(MAX_MESSAGE_BYTES)).await;
    assert_eq!(answer.reason().0, Code::Ok);
    let answer = caller.call(method, &[], of(MAX_MESSAGE_BYTES + 1)).await;
    assert_eq!(
        answer.reason(),
        (Code::ResourceExhausted, "MESSAGE_TOO_LARGE".into())
    );
    let status = answer.status.unwrap();
    assert!(
        status
            .message()
            .contains(&format!("{MAX_MESSAGE_BYTES} bytes")),
        "{status:?}"
    );
    bridge.stop().await;
}

/// Encoded messages with one string that is not UTF-8: one for each string field within `levels` levels. Each comes with the name
/// of that field in error texts.
fn broken_strings(contract: &Contract, message: &str, levels: usize) -> Vec<(String, Vec<u8>)> {
    let mut broken = Vec::new();
    let message = &contract.messages[message];
    for field in &message.field {
        let name = match field.oneof_index {
            Some(index) if !field.proto3_optional() => {
                message.oneof_decl[usize::try_from(index).unwrap()].name()
            }
            _ => field.name(),
        };
        match field.r#type() {
            Type::String => broken.push((name.to_owned(), delimited(field.number(), b"\xc3\x28"))),
            Type::Message if levels > 0 => {
                let inner = broken_strings(contract, field.type_name(), levels - 1);
                let inner = inner.into_iter();
                broken.extend(inner.map(|(name, bytes)| (name, delimited(field.number(), &bytes))));
            }
            _ => {}
        }
    }
    broken
}

#[tokio::test]
async fn thousands_of_mistakes_fit_into_one_status() {
    let simulator = TestSimulator::start().await;
    let bridge = bridge(&simulator).await;
    let wrong = v1::Destination {
        to: "no number".into(),
        message_id: String::new(),
    };
    let message = v1::OutboundMessage {
        destinations: vec![wrong; 3_000],
        content: Some(v1::outbound_message::Content::Text("x".into())),
        ..Default::default()
    };
    let request = v1::SendSmsRequest {
        message: Some(message),
        ..Default::default()
    };
    let status = bridge.sms().send_sms(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "INVALID_REQUEST");
    assert_eq!(info.metadata["mistakes"], "3000");
    let told = status.get_details_bad_request().unwrap().field_violations;
    assert!((10..3_000).contains(&told.len()), "{} told", told.len());
    assert_eq!(told[1].field, "message.destinations[1].to");

    // The text that a status quotes from a request is bounded too.
    let long_cursor = v1::StreamEventsRequest {
        start: Some(v1::stream_events_request::Start::Cursor("7".repeat(20_000))),
        ..Default::default()
    };
    let mut events = EventServiceClient::new(bridge.channel.clone());
    let status = match events.stream_events(long_cursor).await {
        Ok(stream) => stream.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    };
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "BAD_CURSOR");
}

#[tokio::test]
async fn text_that_is_not_utf8_is_refused_with_the_name_of_its_field() {
    let simulator = TestSimulator::start().await;
    let bridge = bridge(&simulator).await;
    let caller = RawCaller::connect(bridge.addresses.grpc).await;
    let contract = Contract::read();
    let mut strings = 0;
    for method in &contract.methods {
        for (field, message) in broken_strings(&contract, &method.request, 3) {
            let answer = caller.call(&method.path, &[], framed(&message)).await;
            assert_eq!(
                answer.reason(),
                (Code::InvalidArgument, "UNREADABLE_REQUEST".into()),
                "{field} of {}: {answer:?}",
                method.path
            );
            let status = answer.status.unwrap();
            assert!(
                status.message().contains(&format!(".{field}")),
                "{field}: {status:?}"
            );
            strings += 1;
        }
    }
    assert!(strings > 50, "{strings} strings were broken");
    assert!(simulator.messages().await.is_empty());
    bridge.stop().await;
}
