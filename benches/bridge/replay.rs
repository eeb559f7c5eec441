//! A log read by `StreamEvents` from its beginning to its end, beside a bare reader of the same engine that decodes nothing. The client
//! decodes nothing either: it counts messages.

use std::time::Instant;

use smsbridge::proto::v1::{self, stream_events_request::Start};
use tonic::{
    Request, Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
    transport::Channel,
};
use tonic_prost::ProstEncoder;

use super::{
    bare::{lapin, sqlite},
    beside,
    engine::{Engine, Log},
    load::Measured,
    process::{Bridge, Simulator},
    push::{Pusher, number},
    report::Report,
};

/// Pushes at a time that fill the log.
const CONNECTIONS: usize = 16;

/// Events of the log (`SMSBRIDGE_BENCH_EVENTS`).
pub fn events() -> u64 {
    number("SMSBRIDGE_BENCH_EVENTS", 1_000_000)
}

pub async fn replay(report: &mut Report, engine: Engine<'_>) {
    let simulator = Simulator::start(0).await;
    let log = engine.log().await;
    let count = events();
    let bridge = log.bridge(&simulator, None).await;
    Pusher::to(&bridge).at_once(count, CONNECTIONS).await;
    // The memory shall be that of reading.
    let folder = bridge.end().await.folder;
    let path = folder.path().to_owned();
    let bridge = log.bridge(&simulator, Some(folder)).await;
    let bare = async || match &log {
        Log::Embedded => sqlite::reading(&path, count),
        Log::Broker(broker) => {
            let all = lapin::IN_FLIGHT.map(|in_flight| lapin::reading(broker, in_flight, count));
            let best = all.into_iter();
            best.max_by(|one, other| one.rate().total_cmp(&other.rate()))
                .unwrap()
        }
    };
    let ours = async || Measured {
        peak_bytes: bridge.peak_bytes(),
        ..bridge.used_by(read(&bridge, count)).await
    };
    let (bare, ours) = beside(bare, ours).await;
    let name = format!("replay of {count} events, {}", engine.name());
    report.events(&name, &bare, &ours, "");
    bridge.end().await;
    log.delete().await;
}

/// Reads all events, which must be `count`.
async fn read(bridge: &Bridge, count: u64) -> Measured {
    let channel = Channel::from_shared(format!("http://{}", bridge.address))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let request = v1::StreamEventsRequest {
        start: Some(Start::Since(smsbridge::proto::Timestamp::default())),
        filter: None,
        end_at_head: true,
    };
    let begun = Instant::now();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/smsbridge.v1.EventService/StreamEvents");
    let mut answers = client
        .server_streaming(Request::new(request), path, Undecoded)
        .await
        .unwrap()
        .into_inner();
    let mut events = 0;
    while answers.message().await.unwrap().is_some() {
        events += 1;
    }
    assert_eq!(events, count, "the log has each report once");
    Measured {
        messages: events,
        elapsed: begun.elapsed(),
        ..Measured::default()
    }
}

/// Encodes requests, and skips the bytes of responses.
struct Undecoded;

impl Codec for Undecoded {
    type Encode = v1::StreamEventsRequest;
    type Decode = ();
    type Encoder = ProstEncoder<v1::StreamEventsRequest>;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Self
    }
}

impl Decoder for Undecoded {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        use bytes::Buf as _;
        let length = source.remaining();
        source.advance(length);
        Ok(Some(()))
    }
}
