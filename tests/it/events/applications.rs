//! Which applications exist, and whose events the pushes of others become.

use std::fs;

use reqwest::{Client, StatusCode};
use smsbridge::{
    config::{Application, tokens::new_token},
    grpc::auth::APPLICATION_METADATA,
    proto::{
        Timestamp,
        v1::{
            StreamEventsRequest, event::Payload, event_service_client::EventServiceClient,
            stream_events_request::Start,
        },
    },
};
use tempfile::TempDir;
use tonic::{Code, Request, Status};

use crate::support::{
    bridge::{TestBridge, text_with_id},
    credentials::{refusal, refused, token_entry, with_token},
    eventually,
    simulator::TestSimulator,
};

/// Pushes a report of the message with this wire id.
async fn push(bridge: &TestBridge, wire_id: &str) {
    let report = format!(
        r#"{{"results":[{{"messageId":"{wire_id}","bulkId":"{wire_id}","to":"41793026727","status":{{"groupId":3,"id":5,"name":"DELIVERED_TO_HANDSET"}}}}]}}"#
    );
    let pushed = Client::new()
        .post(bridge.webhook("reports"))
        .body(report)
        .send()
        .await
        .unwrap();
    assert_eq!(pushed.status(), StatusCode::OK, "{wire_id}");
}

/// Application, message id and bulk id of the reports in the log.
async fn reports(bridge: &TestBridge) -> Vec<[String; 3]> {
    let events = bridge.all_events().await.into_iter();
    let reports = events.filter_map(|event| match event.payload? {
        Payload::Report(report) => Some([event.application, report.message_id, report.bulk_id]),
        _ => None,
    });
    reports.collect()
}

#[tokio::test]
async fn ids_of_applications_that_do_not_exist_are_foreign() {
    let simulator = TestSimulator::start().await;
    let folder = TempDir::new().unwrap();
    let [ops, shop] = std::array::from_fn(|_| new_token());
    let of_ops = token_entry("ops", &ops, "ops", "");
    let path = folder.path().join("tokens.toml");
    fs::write(&path, of_ops.clone()).unwrap();
    let bridge = TestBridge::with(&simulator, |config| {
        config.grpc.tokens_file = Some(path.clone());
        let billing = Application::default();
        config.applications.insert("billing".into(), billing);
    })
    .await;
    for wire_id in ["billing.1", "ops.2", "default.3", "shop.4", "foreign.5"] {
        push(&bridge, wire_id).await;
    }
    let own = |application: &str, id: &str| [application, id, id].map(str::to_owned);
    let foreign = |id: &str| ["foreign", id, ""].map(str::to_owned);
    let of = async |token| {
        let request = StreamEventsRequest {
            start: Some(Start::Since(Timestamp::default())),
            end_at_head: true,
            ..Default::default()
        };
        let mut client = EventServiceClient::new(bridge.channel.clone());
        let mut events = client
            .stream_events(with_token(request, token))
            .await?
            .into_inner();
        let mut ids = Vec::new();
        while let Some(response) = events.message().await? {
            if let Some(Payload::Report(report)) = response.event.unwrap().payload {
                ids.push(report.message_id);
            }
        }
        Ok::<_, Status>(ids)
    };
    assert_eq!(of(&ops).await.unwrap(), ["2"]);

    // From its first token on, the shop exists.
    let both = of_ops + &token_entry("shop", &shop, "shop", "");
    fs::write(&path, both).unwrap();
    let seen = eventually("the token is known", async || of(&shop).await.ok()).await;
    assert!(seen.is_empty(), "what was foreign stays so: {seen:?}");
    push(&bridge, "shop.6").await;
    assert_eq!(of(&shop).await.unwrap(), ["6"]);
    let folder_of_log = bridge.stop().await;
    let bridge = TestBridge::at(&simulator.base_url(), folder_of_log, |_| ()).await;
    assert_eq!(
        reports(&bridge).await,
        [
            own("billing", "1"),
            own("ops", "2"),
            own("default", "3"),
            foreign("shop.4"),
            foreign("foreign.5"),
            own("shop", "6"),
        ]
    );
    // Without a name in the configuration, every name but `foreign` is an application.
    push(&bridge, "anybody.7").await;
    push(&bridge, "foreign.8").await;
    let last = reports(&bridge).await.split_off(6);
    assert_eq!(last, [own("anybody", "7"), foreign("foreign.8")]);
    bridge.stop().await;
}

#[tokio::test]
async fn callers_of_applications_that_do_not_exist_are_refused() {
    let simulator = TestSimulator::start().await;
    let everybody = TestBridge::start(&simulator).await;
    let billing = TestBridge::with(&simulator, |config| {
        let billing = Application::default();
        config.applications.insert("billing".into(), billing);
    })
    .await;
    let invalid = refused(Code::InvalidArgument, "INVALID_APPLICATION");
    for (bridge, application, exists) in [
        (&everybody, "shop", true),
        (&everybody, "foreign", false),
        (&billing, "billing", true),
        (&billing, "default", true),
        (&billing, "shop", false),
        (&billing, "foreign", false),
    ] {
        let mut message = Request::new(text_with_id(application, &["41793026727"]));
        let name = application.parse().unwrap();
        message.metadata_mut().insert(APPLICATION_METADATA, name);
        let sent = bridge.sms().send_sms(message).await;
        if exists {
            sent.unwrap();
        } else {
            assert_eq!(refusal(sent), invalid, "{application}");
        }
    }
}
