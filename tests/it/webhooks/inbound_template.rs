//! Received messages that are pushed by GET to a URL template of the operator's own.

use reqwest::StatusCode;
use smsbridge::{
    config::{Application, InboundOutput, InboundRoute},
    proto::v1::event::Payload,
};

use crate::support::{bridge::TestBridge, simulator::TestSimulator};

#[tokio::test]
async fn a_template_names_its_parameters_as_the_operator_likes() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        let names = &mut config.http.inbound_parameters;
        names.sender = "who".into();
        names.receiver = "number".into();
        names.text = "what".into();
        names.message_id = "id".into();
        config.http.inbound_output = InboundOutput::Xml;
        let route = InboundRoute {
            keyword: Some("<PAY>".into()),
            ..InboundRoute::default()
        };
        let billing = Application {
            inbound: vec![route],
            ..Application::default()
        };
        config.applications.insert("billing".into(), billing);
    })
    .await;
    // As Infobip fills `?who=%sender%&number=%receiver%&what=%text%&id=%messageId%&output=xml`, which it strips of `output`.
    for query in [
        "who=41793026727&number=41790000000&what=%26lt%3Bpay%26gt%3B%205&id=1",
        // Without formatting for once: `output` is there and says so.
        "who=41793026727&number=41790000000&what=say%20%5C%22hi%5C%22&id=2&output=json",
    ] {
        let url = format!("{}?{query}", bridge.webhook("inbound"));
        let pushed = reqwest::get(url).await.unwrap();
        assert_eq!(pushed.status(), StatusCode::OK);
    }
    let events = bridge.all_events().await;
    let received: Vec<_> = events
        .iter()
        .map(|event| {
            let Some(Payload::Received(received)) = &event.payload else {
                panic!("{event:?}")
            };
            let application = event.application.as_str();
            [application, &received.from, &received.to, &received.text]
        })
        .collect();
    assert_eq!(
        received,
        [
            ["billing", "41793026727", "41790000000", "<pay> 5"],
            ["default", "41793026727", "41790000000", "say \"hi\""],
        ]
    );
    // What was received is kept as it was.
    assert!(events[0].source_payload.contains("&lt;pay&gt; 5"));
    bridge.stop().await;
}
