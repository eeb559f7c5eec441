//! `LookupService`.

use serde_json::json;
use smsbridge::proto::v1::{self, event::Payload, lookup_service_client::LookupServiceClient};
use tonic::Code;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

use super::{TO, by};
use crate::support::{bridge::TestBridge, simulator::TestSimulator};

#[tokio::test]
async fn more_numbers_than_the_api_takes_are_looked_up_in_order() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let to: Vec<String> = (0..2_001)
        .map(|n| (41_793_020_000_u64 + n).to_string())
        .collect();
    let found = LookupServiceClient::new(bridge.channel.clone())
        .lookup_numbers(v1::LookupNumbersRequest {
            to: to.clone(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    let numbers: Vec<_> = found.results.iter().map(|row| row.to.clone()).collect();
    assert_eq!(numbers, to);
    let row = &found.results[0];
    assert!(row.mcc_mnc.starts_with("228"), "{row:?}");
    let network = row.original_network.as_ref().unwrap();
    assert_eq!(
        (
            network.country_name.as_str(),
            network.country_prefix.as_str()
        ),
        ("Switzerland", "41")
    );
    assert!(row.ported.is_some() && row.status.is_some() && row.error.is_some());
    assert!(row.source_payload.contains(&to[0]));
    assert_eq!(simulator.requests().await.len(), 3);
}

#[tokio::test]
async fn a_later_failure_does_not_lose_earlier_lookup_results() {
    let to: Vec<String> = (0..2_001)
        .map(|n| (41_793_020_000_u64 + n).to_string())
        .collect();
    let rows: Vec<_> = to[..1_000]
        .iter()
        .map(|to| json!({"to": to, "mccMnc": "22801"}))
        .collect();
    let api = MockServer::start().await;
    Mock::given(path("/number/1/query"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"results": rows})))
        .up_to_n_times(1)
        .mount(&api)
        .await;
    Mock::given(path("/number/1/query"))
        .respond_with(ResponseTemplate::new(500))
        .mount(&api)
        .await;
    let folder = tempfile::tempdir().unwrap();
    let bridge = TestBridge::at(&api.uri(), folder, |_| ()).await;
    let mut client = LookupServiceClient::new(bridge.channel.clone());
    let request = v1::LookupNumbersRequest {
        to: to.clone(),
        ..Default::default()
    };
    let found = client.lookup_numbers(request.clone()).await.unwrap();
    let found = found.into_inner().results;
    let numbers: Vec<_> = found.iter().map(|row| row.to.clone()).collect();
    assert_eq!(numbers, to);
    let refusals: Vec<_> = found.iter().map(|row| row.refusal.as_ref()).collect();
    assert!(refusals[..1_000].iter().all(Option::is_none));
    assert_eq!(found[999].mcc_mnc, "22801");
    // The API may have accepted the second request; the third was never sent.
    for (refusal, retryable) in [(refusals[1_000], false), (refusals[2_000], true)] {
        let refusal = refusal.unwrap();
        assert_eq!(
            (refusal.reason.as_str(), refusal.retryable),
            ("API_ANSWER_LOST", retryable)
        );
    }
    assert_eq!(api.received_requests().await.unwrap().len(), 2);

    // Without a single result the call fails as a whole.
    let status = client.lookup_numbers(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[tokio::test]
async fn a_requested_lookup_becomes_an_event_of_the_application_that_asked() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut events = bridge.events().await;
    let request = v1::RequestNumberLookupRequest {
        to: vec![TO.into()],
    };
    let taken = LookupServiceClient::new(bridge.channel.clone())
        .request_number_lookup(by("shop", request))
        .await
        .unwrap()
        .into_inner();
    let status = taken.results[0].status.as_ref().unwrap();
    assert_eq!(status.name, "PENDING_WAITING_DELIVERY");
    let event = events.next_of("lookup.completed").await;
    assert_eq!(event.application, "shop");
    let Some(Payload::Lookup(lookup)) = event.payload else {
        panic!("no look-up")
    };
    assert_eq!(lookup.to, TO);
}

/// The account may look up, and not be allowed to be answered by a push.
#[tokio::test]
async fn a_refused_request_for_a_push_is_no_outage_of_look_ups() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut client = LookupServiceClient::new(bridge.channel.clone());
    let forbidden = json!({"kind": "status", "status": 403, "path": "/number/1/notify"});
    simulator.fault(forbidden).await;
    let request = v1::RequestNumberLookupRequest {
        to: vec![TO.into()],
    };
    client.request_number_lookup(request).await.unwrap_err();
    let ready = format!("http://{}/ready", bridge.addresses.admin);
    let ready = async || reqwest::get(&ready).await.unwrap().text().await.unwrap();
    assert!(!ready().await.contains("look-ups"), "{}", ready().await);

    let forbidden = json!({"kind": "status", "status": 403, "path": "/number/1/query"});
    simulator.fault(forbidden).await;
    let request = v1::LookupNumbersRequest {
        to: vec![TO.into()],
        ..Default::default()
    };
    client.lookup_numbers(request).await.unwrap_err();
    assert!(ready().await.contains("look-ups"), "{}", ready().await);
}
