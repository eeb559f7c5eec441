//! The routes of received messages: a message goes to the same application however it comes.

use reqwest::{Client, StatusCode};
use smsbridge::config::{Application, InboundRoute};

use crate::support::{bridge::TestBridge, simulator::TestSimulator};

#[tokio::test]
async fn a_keyword_route_matches_messages_that_are_pushed_by_get() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        for (application, number, keyword) in [
            ("billing", None, Some("PAY")),
            ("shop", Some("41790000001"), None),
            ("help", Some("41790000001"), Some("help")),
        ] {
            let route = InboundRoute {
                number: number.map(str::to_owned),
                keyword: keyword.map(str::to_owned),
            };
            let application_of_route = Application {
                inbound: vec![route],
                ..Application::default()
            };
            config
                .applications
                .insert(application.to_owned(), application_of_route);
        }
    })
    .await;
    let client = Client::new();
    let inbound = bridge.webhook("inbound");
    let cases = [
        ("41790000000", "PAY 5", "billing"),
        ("41790000000", " pay", "billing"),
        ("41790000000", "PAYMENT", "default"),
        ("41790000000", "please PAY", "default"),
        ("41790000001", "anything", "shop"),
        ("41790000001", "Help me", "help"),
    ];
    for (n, (to, text, _)) in cases.iter().enumerate() {
        let id = format!("get-{n}");
        let parameters = [
            ("sender", "41793026727"),
            ("receiver", to),
            ("text", text),
            ("messageId", &id),
        ];
        let pushed = client.get(&inbound).query(&parameters).send().await;
        assert_eq!(pushed.unwrap().status(), StatusCode::OK);
    }
    // The keyword that the API found counts before the text.
    let row = r#"{"messageId":"post","from":"41793026727","to":"41790000000","text":"5","keyword":"Pay"}"#;
    let body = format!(r#"{{"results":[{row}]}}"#);
    let pushed = client.post(&inbound).body(body).send().await;
    assert_eq!(pushed.unwrap().status(), StatusCode::OK);

    let events = bridge.all_events().await;
    let of: Vec<_> = events
        .iter()
        .map(|event| event.application.as_str())
        .collect();
    let expected: Vec<_> = cases
        .iter()
        .map(|(_, _, application)| *application)
        .collect();
    assert_eq!(of[..cases.len()], expected);
    assert_eq!(of[cases.len()..], ["billing"]);
    bridge.stop().await;
}
