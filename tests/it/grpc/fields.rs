//! Every field of the API's requests and rows, end to end: from the caller to the API and back (docs/CONTRACT.md). The API is a
//! mock server that records its requests.

use pbjson_types::Duration;
use serde_json::{Value, json};
use smsbridge::proto::Timestamp;
use smsbridge::proto::v1::{
    self, account_service_client::AccountServiceClient, event::Payload,
    inbox_service_client::InboxServiceClient, lookup_service_client::LookupServiceClient,
    outbound_message::Content, report_service_client::ReportServiceClient,
};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use crate::support::{
    bridge::{TestBridge, text_with_id},
    simulator::TestSimulator,
};

const TO: &str = "41793026727";

/// An API with one fixed response, and a bridge that uses it.
async fn bridge_of(answer: Value) -> (MockServer, TestBridge) {
    let api = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(200).set_body_json(answer))
        .mount(&api)
        .await;
    let folder = tempfile::tempdir().unwrap();
    let bridge = TestBridge::at(&api.uri(), folder, |_| ()).await;
    (api, bridge)
}

/// Path and body of the only request to the API.
async fn asked(api: &MockServer) -> (String, Value) {
    let requests = api.received_requests().await.unwrap();
    let [request] = requests.as_slice() else {
        panic!("{requests:?}")
    };
    let body = serde_json::from_slice(&request.body).unwrap_or_default();
    (request.url.path().to_owned(), body)
}

fn moment(text: &str) -> Option<Timestamp> {
    let moment: jiff::Timestamp = text.parse().unwrap();
    Some(Timestamp {
        seconds: moment.as_second(),
        nanos: moment.subsec_nanosecond(),
    })
}

fn status(id: i32, name: &str, group_id: i32, group_name: &str) -> Value {
    json!({"groupId": group_id, "groupName": group_name, "id": id, "name": name, "description": "what it is",
           "action": "what to do"})
}

fn error() -> Value {
    json!({"groupId": 1, "groupName": "HANDSET_ERRORS", "id": 27, "name": "EC_ABSENT_SUBSCRIBER",
           "description": "Absent Subscriber", "permanent": true})
}

fn assert_status_and_error(status: Option<v1::Status>, error: Option<v1::Error>) {
    let status = status.unwrap();
    assert_eq!(
        (status.group_id, status.group_name.as_str(), status.id),
        (2, "UNDELIVERABLE", 9)
    );
    assert_eq!(
        [&status.name, &status.description, &status.action],
        ["UNDELIVERABLE_NOT_DELIVERED", "what it is", "what to do"]
    );
    assert_eq!(status.group(), v1::StatusGroup::Undeliverable);
    let error = error.unwrap();
    assert_eq!(
        (error.group_id, error.group_name.as_str(), error.id),
        (1, "HANDSET_ERRORS", 27)
    );
    assert_eq!(
        [&error.name, &error.description],
        ["EC_ABSENT_SUBSCRIBER", "Absent Subscriber"]
    );
    assert!(error.permanent);
    assert_eq!(error.group(), v1::ErrorGroup::Handset);
}

#[tokio::test]
async fn a_send_carries_every_field() {
    let accepted = json!({"bulkId": "default.spring", "trackingProcessKey": "key-1", "messages": [
        {"to": TO, "messageId": "default.m1", "smsCount": 2, "status": status(7, "PENDING_ENROUTE", 1, "PENDING")}]});
    let (api, bridge) = bridge_of(accepted).await;
    let send_at = jiff::Timestamp::now().as_second() + 86_400;
    let message = v1::OutboundMessage {
        from: "InfoSMS".into(),
        destinations: vec![v1::Destination {
            to: TO.into(),
            message_id: "m1".into(),
        }],
        content: Some(Content::Text("Artık".into())),
        flash: true,
        language: Some(Box::new(v1::Language {
            language_code: "TR".into(),
            single_shift: true,
            locking_shift: true,
        })),
        transliteration: "TURKISH".into(),
        intermediate_report: true,
        notify: Some(true),
        notify_url: "http://www.example.com/reports".into(),
        notify_content_type: "application/xml".into(),
        callback_data: "invoice 7".into(),
        validity_period: Some(Duration {
            seconds: 43_200,
            nanos: 0,
        }),
        send_at: Some(Timestamp {
            seconds: send_at,
            nanos: 0,
        }),
        delivery_time_window: Some(Box::new(v1::DeliveryTimeWindow {
            days: vec![1, 7],
            from: Some(v1::TimeOfDay { hour: 6, minute: 5 }),
            to: Some(v1::TimeOfDay {
                hour: 15,
                minute: 30,
            }),
        })),
        campaign_id: "campaign".into(),
        operator_client_id: "operator".into(),
        regional: Some(Box::new(v1::Regional {
            india_dlt: Some(v1::IndiaDlt {
                content_template_id: "template".into(),
                principal_entity_id: "entity".into(),
            }),
        })),
        ..Default::default()
    };
    let tracking = v1::Tracking {
        track: "URL".into(),
        process_key: "key-1".into(),
        r#type: "ONE_TIME_PIN".into(),
        base_url: "https://s.example.com".into(),
    };
    let request = v1::SendSmsRequest {
        message: Some(message),
        tracking: Some(Box::new(tracking)),
        bulk_id: "spring".into(),
        ..Default::default()
    };
    let sent = bridge.sms().send_sms(request).await.unwrap().into_inner();
    assert_eq!(
        (sent.bulk_id.as_str(), sent.tracking_process_key.as_str()),
        ("spring", "key-1")
    );
    let result = &sent.results[0];
    assert_eq!(
        (
            result.to.as_str(),
            result.message_id.as_str(),
            result.sms_count
        ),
        (TO, "m1", Some(2))
    );
    assert_eq!(result.status.as_ref().unwrap().action, "what to do");

    let (path, mut body) = asked(&api).await;
    assert_eq!(path, "/sms/1/text/advanced");
    let at = body["messages"][0]["sendAt"].take();
    let at: jiff::Timestamp = at.as_str().unwrap().parse().unwrap();
    assert_eq!(at.as_second(), send_at);
    assert_eq!(
        body,
        json!({
            "bulkId": "default.spring",
            "tracking": {"track": "URL", "processKey": "key-1", "type": "ONE_TIME_PIN", "baseUrl": "https://s.example.com"},
            "messages": [{
                "from": "InfoSMS",
                "destinations": [{"to": TO, "messageId": "default.m1"}],
                "text": "Artık",
                "flash": true,
                "language": {"languageCode": "TR", "singleShift": true, "lockingShift": true},
                "transliteration": "TURKISH",
                "intermediateReport": true,
                "notify": true,
                "notifyUrl": "http://www.example.com/reports",
                "notifyContentType": "application/xml",
                "callbackData": "invoice 7",
                "validityPeriod": 720,
                "sendAt": null,
                "deliveryTimeWindow": {"from": {"hour": 6, "minute": 5}, "to": {"hour": 15, "minute": 30},
                                       "days": ["MONDAY", "SUNDAY"]},
                "campaignId": "campaign",
                "operatorClientId": "operator",
                "regional": {"indiaDlt": {"contentTemplateId": "template", "principalEntityId": "entity"}},
            }],
        })
    );
}

#[tokio::test]
async fn a_bulk_carries_every_field() {
    let accepted = |n: u8| {
        json!({"to": TO, "messageId": format!("default.r1~{n}"), "smsCount": 1,
               "status": status(7, "PENDING_ENROUTE", 1, "PENDING")})
    };
    let (api, bridge) = bridge_of(
        json!({"bulkId": "default.spring", "trackingProcessKey": "key-1", "messages": [accepted(0), accepted(2)]}),
    )
    .await;
    let request = v1::SendSmsBulkRequest {
        request_id: "r1".into(),
        bulk_id: "spring".into(),
        messages: ["one", "nobody", "two"]
            .map(|text| {
                let to = if text == "nobody" { "x" } else { TO };
                crate::support::bridge::text(&[to], text).message.unwrap()
            })
            .into(),
        tracking: Some(Box::new(v1::Tracking {
            track: "URL".into(),
            ..Default::default()
        })),
    };
    let sent = bridge.sms().send_sms_bulk(request).await.unwrap();
    let sent = sent.into_inner();
    assert_eq!(
        (sent.bulk_id.as_str(), sent.tracking_process_key.as_str()),
        ("spring", "key-1")
    );
    let results: Vec<_> = sent
        .results
        .iter()
        .map(|result| {
            (
                result.message_index,
                result.outcome(),
                result.bulk_id.as_str(),
            )
        })
        .collect();
    assert_eq!(
        results,
        [
            (0, v1::Outcome::Accepted, "spring"),
            (1, v1::Outcome::Rejected, "spring"),
            (2, v1::Outcome::Accepted, "spring")
        ]
    );
    let refusal = sent.results[1].refusal.as_ref().unwrap();
    assert_eq!(
        (refusal.reason.as_str(), refusal.retryable),
        ("INVALID_REQUEST", false)
    );
    assert!(!refusal.detail.is_empty());
    let [v1::FieldViolation { field, description }] = refusal.violations.as_slice() else {
        panic!("{refusal:?}")
    };
    assert_eq!(field, "messages[1].destinations[0].to");
    assert!(!description.is_empty());
    let (_, body) = asked(&api).await;
    assert_eq!(
        (&body["bulkId"], &body["tracking"]),
        (&json!("default.spring"), &json!({"track": "URL"}))
    );
    let texts: Vec<_> = body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| &message["text"])
        .collect();
    assert_eq!(texts, ["one", "two"]);
}

#[tokio::test]
async fn octets_carry_every_field() {
    let (api, bridge) = bridge_of(json!({"messages": [
        {"to": TO, "messageId": "default.m1", "smsCount": 1, "status": status(7, "PENDING_ENROUTE", 1, "PENDING")}]}))
    .await;
    let mut request = text_with_id("m1", &[TO]);
    request.message.as_mut().unwrap().content = Some(Content::Binary(v1::BinaryContent {
        data: b"Test"[..].into(),
        data_coding: 4,
        esm_class: 64,
    }));
    bridge.sms().send_sms(request).await.unwrap();
    let (path, body) = asked(&api).await;
    assert_eq!(path, "/sms/1/binary/advanced");
    assert_eq!(
        body["messages"][0]["binary"],
        json!({"hex": "54 65 73 74", "dataCoding": 4, "esmClass": 64})
    );
}

fn report_row() -> Value {
    json!({"bulkId": "default.b1", "messageId": "default.m1", "to": TO, "from": "InfoSMS", "text": "Hello",
           "sentAt": "2015-02-12T09:51:43.123+0100", "doneAt": "2015-02-12T09:51:43.127+0100", "smsCount": 2,
           "mccMnc": "22801", "price": {"pricePerMessage": 0.01, "currency": "EUR"},
           "status": status(9, "UNDELIVERABLE_NOT_DELIVERED", 2, "UNDELIVERABLE"), "error": error(),
           "callbackData": "invoice 7", "new": 1})
}

#[tokio::test]
async fn a_report_row_carries_every_field() {
    let (_api, bridge) = bridge_of(json!({"results": [report_row()]})).await;
    let mut reports = ReportServiceClient::new(bridge.channel.clone());
    let request = v1::PullDeliveryReportsRequest::default();
    let pulled = reports.pull_delivery_reports(request).await.unwrap();
    let report = pulled.into_inner().reports.remove(0);
    assert_eq!(
        [
            &report.bulk_id,
            &report.message_id,
            &report.to,
            &report.from,
            &report.mcc_mnc,
            &report.callback_data
        ],
        ["b1", "m1", TO, "InfoSMS", "22801", "invoice 7"]
    );
    assert_eq!(report.sent_at, moment("2015-02-12T08:51:43.123Z"));
    assert_eq!(report.done_at, moment("2015-02-12T08:51:43.127Z"));
    assert_eq!((report.sms_count, report.r#final), (Some(2), true));
    let price = report.price.unwrap();
    assert_eq!([&price.price_per_message, &price.currency], ["0.01", "EUR"]);
    assert_status_and_error(report.status, report.error);
    // Fields unknown to the contract are in the event.
    let events = bridge.all_events().await;
    let payload: Value = serde_json::from_str(&events[0].source_payload).unwrap();
    assert_eq!(payload, report_row());
}

#[tokio::test]
async fn a_log_row_carries_every_field() {
    let (_api, bridge) = bridge_of(json!({"results": [report_row()]})).await;
    let request = v1::ListSmsLogsRequest::default();
    let page = bridge.sms().list_sms_logs(request).await.unwrap();
    let log = page.into_inner().logs.remove(0);
    assert_eq!(
        [
            &log.bulk_id,
            &log.message_id,
            &log.to,
            &log.from,
            &log.text,
            &log.mcc_mnc,
            &log.application
        ],
        ["b1", "m1", TO, "InfoSMS", "Hello", "22801", "default"]
    );
    assert_eq!(log.sent_at, moment("2015-02-12T08:51:43.123Z"));
    assert_eq!(log.done_at, moment("2015-02-12T08:51:43.127Z"));
    assert_eq!(log.sms_count, Some(2));
    let price = log.price.unwrap();
    assert_eq!([&price.price_per_message, &price.currency], ["0.01", "EUR"]);
    assert_status_and_error(log.status, log.error);
    let payload: Value = serde_json::from_str(&log.source_payload).unwrap();
    assert_eq!(payload, report_row());
}

#[tokio::test]
async fn a_received_row_carries_every_field() {
    let row = json!({"messageId": "mo-1", "from": TO, "to": "41790000000", "text": "QUIZ Paris", "cleanText": "Paris",
                     "keyword": "QUIZ", "receivedAt": "2019-11-09T16:00:00.000+0000", "smsCount": 1,
                     "price": {"pricePerMessage": 0, "currency": "EUR"}, "callbackData": "data"});
    let answer = json!({"results": [row], "messageCount": 1, "pendingMessageCount": 4});
    let (_api, bridge) = bridge_of(answer).await;
    let mut inbox = InboxServiceClient::new(bridge.channel.clone());
    let request = v1::PullReceivedMessagesRequest::default();
    let pulled = inbox.pull_received_messages(request).await.unwrap();
    let pulled = pulled.into_inner();
    assert_eq!((pulled.message_count, pulled.pending_message_count), (1, 4));
    let message = &pulled.messages[0];
    assert_eq!(
        [
            &message.message_id,
            &message.from,
            &message.to,
            &message.text,
            &message.clean_text,
            &message.keyword,
            &message.callback_data
        ],
        [
            "mo-1",
            TO,
            "41790000000",
            "QUIZ Paris",
            "Paris",
            "QUIZ",
            "data"
        ]
    );
    assert_eq!(message.received_at, moment("2019-11-09T16:00:00Z"));
    assert_eq!(message.sms_count, Some(1));
    assert_eq!(message.price.as_ref().unwrap().price_per_message, "0");
    let request = v1::ListReceivedMessagesRequest::default();
    let listed = inbox.list_received_messages(request).await.unwrap();
    assert_eq!(listed.into_inner().messages, pulled.messages);
}

#[tokio::test]
async fn a_lookup_row_carries_every_field() {
    let network = |name: &str| {
        json!({"networkName": name, "networkPrefix": "79", "countryName": "Switzerland", "countryPrefix": "41",
               "networkId": 12})
    };
    let row = json!({"to": TO, "mccMnc": "22801", "imsi": "228011234567890", "originalNetwork": network("one"),
                     "ported": true, "portedNetwork": network("two"), "roaming": true, "roamingNetwork": network("three"),
                     "servingMSC": "4179", "error": error(),
                     "status": status(9, "UNDELIVERABLE_NOT_DELIVERED", 2, "UNDELIVERABLE")});
    let (api, bridge) = bridge_of(json!({"results": [row]})).await;
    let found = LookupServiceClient::new(bridge.channel.clone())
        .lookup_numbers(v1::LookupNumbersRequest {
            to: vec![TO.into()],
            request_id: "l1".into(),
        })
        .await
        .unwrap();
    assert_eq!(
        asked(&api).await,
        ("/number/1/query".into(), json!({"to": [TO]}))
    );
    let lookup = found.into_inner().results.remove(0);
    assert_eq!(
        [
            &lookup.to,
            &lookup.mcc_mnc,
            &lookup.imsi,
            &lookup.serving_msc
        ],
        [TO, "22801", "228011234567890", "4179"]
    );
    assert_eq!((lookup.ported, lookup.roaming), (Some(true), Some(true)));
    let networks = [
        (lookup.original_network, "one"),
        (lookup.ported_network, "two"),
        (lookup.roaming_network, "three"),
    ];
    for (is, name) in networks {
        let expected = v1::Network {
            network_name: name.into(),
            network_prefix: "79".into(),
            country_name: "Switzerland".into(),
            country_prefix: "41".into(),
            network_id: Some(12),
        };
        assert_eq!(is, Some(expected));
    }
    assert_status_and_error(lookup.status, lookup.error);
    let payload: Value = serde_json::from_str(&lookup.source_payload).unwrap();
    assert_eq!(payload, row);
}

#[tokio::test]
async fn a_click_carries_every_field() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut events = bridge.events().await;
    let click = json!({"notificationType": "CLICKED", "recipient": TO, "url": "https://example.com/a",
        "sendDateTime": 1_704_106_800_000_i64, "messageId": "default.m1", "bulkId": "default.b1", "callbackData": "data",
        "recipientInfo": {"deviceType": "Phone", "os": "iOS 12", "deviceName": "Apple"},
        "geoLocationInfo": {"countryName": "Switzerland", "city": "Bern", "countryPrefix": "41", "networkPrefix": "79"}});
    let pushed = reqwest::Client::new()
        .post(bridge.webhook("clicks"))
        .header("content-type", "application/json")
        .body(click.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(pushed.status(), 200);
    let event = events.next_of("link.clicked").await;
    let Some(Payload::Click(click)) = event.payload else {
        panic!("no click")
    };
    let expected = v1::LinkClick {
        notification_type: "CLICKED".into(),
        recipient: TO.into(),
        url: "https://example.com/a".into(),
        sent_at: moment("2024-01-01T11:00:00Z"),
        message_id: "m1".into(),
        bulk_id: "b1".into(),
        callback_data: "data".into(),
        device_type: "Phone".into(),
        os: "iOS 12".into(),
        device_name: "Apple".into(),
        country_name: "Switzerland".into(),
        city: "Bern".into(),
        network_prefix: "79".into(),
        country_prefix: "41".into(),
    };
    assert_eq!(*click, expected);
}

#[tokio::test]
async fn a_balance_keeps_its_digits() {
    let (_api, bridge) = bridge_of(json!({"balance": 47.79134, "currency": "EUR"})).await;
    let balance = AccountServiceClient::new(bridge.channel.clone())
        .get_balance(v1::GetBalanceRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!([&balance.balance, &balance.currency], ["47.79134", "EUR"]);
}
