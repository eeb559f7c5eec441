//! Every shape of body that Infobip pushes or answers a pull with, and the events that it becomes (`snapshots/`).
//!
//! The shapes are those of the manual, of the documentation of 2015, of the OpenAPI documents and of captures; the values are others. A
//! pull reads its answers with the same readers. `tests/it/infobip/mutations.rs` mutates such bodies.

use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::support::{bridge::TestBridge, simulator::TestSimulator};

/// Pushes the body, and returns its events as JSON, without what differs each time, and how many rows are in quarantine.
async fn events_of(endpoint: &str, body: &str) -> String {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let request = Client::new()
        .post(bridge.webhook(endpoint))
        .body(body.to_owned());
    let status = request.send().await.unwrap().status();
    assert_eq!(status, StatusCode::OK);
    let events = bridge.all_events().await;
    let folder = bridge.stop().await;
    let log = rusqlite::Connection::open(folder.path().join("events.sqlite")).unwrap();
    let quarantined: i64 = log
        .query_row("SELECT count(*) FROM quarantine", [], |row| row.get(0))
        .unwrap();
    let mut shown = format!("quarantined: {quarantined}\n");
    for event in events {
        let mut event = serde_json::to_value(&event).unwrap();
        let fields = event.as_object_mut().unwrap();
        assert!(fields.remove("time").is_some() && fields.remove("cursor").is_some());
        let source = fields.remove("sourcePayload").unwrap();
        let source: Value = serde_json::from_str(source.as_str().unwrap()).unwrap();
        // The whole row is kept, whatever of it the contract has fields for.
        assert!(source.is_object(), "{source}");
        shown.push_str(&serde_json::to_string_pretty(&event).unwrap());
        shown.push('\n');
    }
    shown
}

macro_rules! shapes {
    ($($name:ident: $endpoint:literal, $body:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let events = events_of($endpoint, $body).await;
            insta::with_settings!({ omit_expression => true }, {
                insta::assert_snapshot!(stringify!($name), events);
            });
        }
    )*};
}

/// A row of a report, in JSON, that has all members of the manual's push.
macro_rules! report {
    ($id:literal, $to:literal, $status:literal, $error:literal $(, $more:literal)*) => {
        concat!(
            r#"{"bulkId":"shop.spring","messageId":""#, $id, r#"","to":""#, $to,
            r#"","sentAt":"2016-03-09T08:15:30.250+0000","doneAt":"2016-03-09T08:15:34.900+0000","smsCount":2,"#,
            r#""price":{"pricePerMessage":0.0200000000,"currency":"CHF"},"status":"#, $status, r#","error":"#, $error,
            $(",", $more,)* "}"
        )
    };
}

shapes! {
    report_of_the_manual: "reports", concat!(r#"{ "results": [ "#, report!(
        "shop.m-1", "41791234567",
        r#"{"groupId":3,"groupName":"DELIVERED","id":5,"name":"DELIVERED_TO_HANDSET","description":"Message delivered to handset"}"#,
        r#"{"groupId":0,"groupName":"OK","id":0,"name":"NO_ERROR","description":"No Error","permanent":false}"#,
        r#""callbackData":"It's paid \"twice\".""#
    ), " ] }");

    // The sample's ids disagree with its names, and its names have spaces where the table has underscores.
    intermediate_reports_of_the_manual: "reports", concat!(r#"{"results":["#, report!(
        "shop.m-2", "41791234568",
        r#"{"groupId":3,"groupName":"PENDING","id":1,"name":"PENDING_WAITING_DELIVERY","description":"Message sent, waiting for delivery report"}"#,
        r#"{"groupId":1,"groupName":"HANDSET ERRORS","id":27,"name":"EC ABSENT SUBSCRIBER","description":"Absent Subscriber","permanent":false}"#
    ), ",", report!(
        "shop.m-3", "41791234569",
        r#"{"groupId":1,"groupName":"PENDING","id":3,"name":"PENDING_WAITING_DELIVERY","description":"Message sent, waiting for delivery report"}"#,
        r#"{"groupId":1,"groupName":"HANDSET_ERRORS","id":27,"name":"EC_ABSENT_SUBSCRIBER","description":"Absent Subscriber","permanent":false}"#
    ), "]}");

    reports_of_the_documentation: "reports", concat!(r#"{"results":["#, report!(
        "4f7c6f3e-0001", "38591234567",
        r#"{"groupId":2,"groupName":"UNDELIVERABLE","id":9,"name":"UNDELIVERABLE_NOT_DELIVERED","description":"Message sent not delivered"}"#,
        r#"{"groupId":1,"groupName":"HANDSET_ERRORS","id":1,"name":"EC_UNKNOWN_SUBSCRIBER","description":"Unknown Subscriber","permanent":true}"#,
        r#""entityId":"spring""#, r#""applicationId":"shop""#
    ), ",", report!(
        "4f7c6f3e-0002", "38591234568",
        r#"{"groupId":3,"groupName":"DELIVERED","id":5,"name":"DELIVERED_TO_HANDSET","description":"Message delivered to handset"}"#,
        r#"{"groupId":0,"groupName":"Ok","id":0,"name":"NO_ERROR","description":"No Error","permanent":false}"#,
        r#""applicationId":"default""#
    ), "]}");

    // A push that was recorded: without bulkId, from and mccMnc; the account's zone; fixed decimals.
    recorded_push_of_a_report: "reports", r#"{"results":[{"price":{"pricePerMessage":7.000000,"currency":"PHP"},
        "status":{"id":5,"groupId":3,"groupName":"DELIVERED","name":"DELIVERED_TO_HANDSET","description":"Message delivered to handset"},
        "error":{"id":0,"name":"NO_ERROR","description":"No Error","groupId":0,"groupName":"OK","permanent":false},
        "messageId":"28123456789012345678","doneAt":"2021-05-02T20:01:09.000+0800","smsCount":1,
        "sentAt":"2021-05-02T20:01:05.120+0800","to":"639171234567"}]}"#;

    // An answer to a pull that was recorded: the network is the text "null".
    recorded_pull_of_reports: "reports", r#"{ "results": [
        {"bulkId":"30123456789012345670","messageId":"30123456789012345671","to":"41791234567","from":"Shop",
         "sentAt":"2022-02-01T10:00:00.001+0000","doneAt":"2022-02-01T10:00:02.250+0000","smsCount":1,"mccMnc":"null",
         "price":{"pricePerMessage":0E-10,"currency":"EUR"},
         "status":{"groupId":3,"groupName":"DELIVERED","id":5,"name":"DELIVERED_TO_HANDSET","description":"Message delivered to handset"},
         "error":{"groupId":0,"groupName":"OK","id":0,"name":"NO_ERROR","description":"No Error","permanent":false}} ] }"#;

    reports_of_version_3: "reports", r#"{"results":[{"bulkId":"b-3","price":{"pricePerMessage":0.05,"currency":"EUR"},
        "status":{"groupId":4,"groupName":"EXPIRED","id":15,"name":"EXPIRED_EXPIRED","description":"Message expired"},
        "error":{"groupId":1,"groupName":"HANDSET_ERRORS","id":27,"name":"EC_ABSENT_SUBSCRIBER","description":"Absent Subscriber","permanent":false},
        "messageId":"m-v3","to":"41791234567","sender":"Shop","sentAt":"2023-04-05T06:07:08.000+0100",
        "doneAt":"2023-04-05T08:07:08.000+0100","messageCount":3,"callbackData":{"order":17},
        "platform":{"entityId":"spring","applicationId":"shop"}}]}"#;

    xml_reports_of_version_3: "reports", r#"<?xml version="1.0" encoding="UTF-8"?><DeliveryReports>
      <results>
        <result><bulkId>b-3</bulkId><price><pricePerMessage>0.05</pricePerMessage><currency>EUR</currency></price>
          <status><groupId>5</groupId><groupName>REJECTED</groupName><id>12</id><name>REJECTED_NOT_ENOUGH_CREDITS</name></status>
          <messageId>m-v3-1</messageId><to>41791234567</to><sender>Shop</sender>
          <sentAt>2023-04-05T06:07:08.000+0100</sentAt><doneAt>2023-04-05T06:07:09.000+0100</doneAt><messageCount>1</messageCount>
          <platform><entityId>spring</entityId></platform></result>
        <result><messageId>m-v3-2</messageId><to>41791234568</to></result>
      </results>
    </DeliveryReports>"#;

    // Without a declaration, as it is pushed.
    xml_report_of_a_push: "reports", "<reportResponse><results><result><bulkId>shop.b</bulkId><messageId>shop.m-7</messageId>\
        <to>41791234567</to><sentAt>2016-03-09T08:15:30.250+0000</sentAt><doneAt>2016-03-09T08:15:34.900+0000</doneAt>\
        <smsCount>1</smsCount><callbackData>Tom &amp; &lt;Jerry&gt;</callbackData>\
        <price><pricePerMessage>0.0200000000</pricePerMessage><currency>CHF</currency></price>\
        <status><groupId>3</groupId><groupName>DELIVERED</groupName><id>5</id><name>DELIVERED_TO_HANDSET</name></status>\
        <error><groupId>0</groupId><groupName>OK</groupName><id>0</id><name>NO_ERROR</name><permanent>false</permanent></error>\
        </result></results></reportResponse>";

    xml_reports_nested_as_in_2015: "reports", "<SMSReportResponse>\n  <results>\n    <results><messageId>shop.n-1</messageId>\
        <to>41791234567</to><mccmnc>22802</mccmnc><status><groupId>3</groupId><id>5</id></status></results>\n    \
        <results><messageId>shop.n-2</messageId><to>41791234568</to><status><groupId>1</groupId><id>7</id></status></results>\n  \
        </results>\n</SMSReportResponse>";

    xml_reports_flat_as_in_2015: "reports", "<reportResponse><results><messageId>shop.f-1</messageId><to>41791234567</to></results>\
        <results><messageId>shop.f-2</messageId><to>41791234568</to></results></reportResponse>";

    // Seen of an old client library: text where objects are documented.
    report_with_a_text_as_its_status: "reports", r#"{"messageId":"shop.t-1","to":"41791234567","status":"delivered"}"#;

    reports_with_groups_only: "reports", r#"[{"messageId":"shop.g-1","status":{"groupName":"PENDING"}},
        {"messageId":"shop.g-1","status":{"groupName":"DELIVERED"}},{"messageId":"shop.g-2","status":{"groupId":77,"groupName":"NEW","id":770}}]"#;

    one_of_three_reports_has_no_id: "reports", r#"{"results":[{"messageId":"shop.q-1"},{"to":"41791234567"},{"messageId":"shop.q-3"}]}"#;

    received_message: "inbound", r#"{"results":[{"messageId":"700000000000000001","from":"41791234567","to":"41790000000",
        "text":"JOIN the club","cleanText":"the club","keyword":"JOIN","receivedAt":"2020-02-29T23:59:59.999+0000","smsCount":1,
        "price":{"pricePerMessage":0,"currency":"EUR"},"callbackData":"spring"}],"messageCount":1,"pendingMessageCount":2}"#;

    received_message_with_a_long_date: "inbound", r#"{"results":[{"messageId":"700000000000000002","from":"41791234567",
        "to":"41790000000","text":"Ja","receivedAt":"2020-02-29T23:59:59.1234567+01:00","smsCount":1,"keyword":null}],"messageCount":1}"#;

    xml_received_message: "inbound", r#"<?xml version="1.0" encoding="UTF-8"?><reportResponse><messageCount>1</messageCount>
        <pendingMessageCount>0</pendingMessageCount><results><result><messageId>700000000000000003</messageId>
        <from>41791234567</from><to>41790000000</to><text> Grüezi </text><cleanText/><receivedAt>2020-03-01T00:00:00.000+0000</receivedAt>
        <smsCount>1</smsCount><price><pricePerMessage>0</pricePerMessage><currency>EUR</currency></price></result></results></reportResponse>"#;

    click: "clicks", r#"{"notificationType":"CLICKED","recipient":"41791234567","url":"https://example.com/spring?a=1&b=2",
        "sendDateTime":1583020800123,"messageId":"shop.c-1","bulkId":"shop.spring","callbackData":"spring",
        "recipientInfo":{"deviceType":"Tablet","os":"Android 9","deviceName":"Generic"},
        "geoLocationInfo":{"countryName":"Switzerland","city":"Chur"},"applicationId":"shop","entityId":"spring"}"#;

    lookup_of_a_roaming_number: "lookups?application=shop&request=r-1", r#"{"results":[{"to":"41791234567","mccMnc":"22802","imsi":"228021234567890",
        "originalNetwork":{"networkName":"Sunrise","networkPrefix":"76","countryName":"Switzerland","countryPrefix":"41","networkId":11},
        "ported":true,"portedNetwork":{"networkName":"Salt","networkPrefix":"78","countryName":"Switzerland","countryPrefix":"41","networkId":12},
        "roaming":true,"roamingNetwork":{"networkName":"A1","networkPrefix":"664","countryName":"Austria","countryPrefix":"43","networkId":13},
        "servingMSC":"43664","status":{"groupId":3,"groupName":"DELIVERED","id":5,"name":"DELIVERED_TO_HANDSET"},
        "error":{"groupId":0,"groupName":"Ok","id":0,"name":"NO_ERROR","permanent":false}}],"bulkId":"b-1"}"#;

    lookup_of_an_invalid_number: "lookups?application=shop&request=r-2", r#"{"results":[{"to":"4179","originalNetwork":{},"roaming":false,
        "status":{"groupId":5,"groupName":"REJECTED","id":8,"name":"REJECTED_PREFIX_MISSING"},
        "error":{"groupId":0,"groupName":"Ok","id":0,"name":"NO_ERROR","permanent":false}}]}"#;

    xml_lookup: "lookups?application=shop&request=r-3", r#"<?xml version="1.0" encoding="UTF-8"?><ncResponse><bulkId>b-1</bulkId><results><result>
        <to>41791234567</to><mccMnc>22802</mccMnc><originalNetwork><networkName>Sunrise</networkName><networkId>11</networkId></originalNetwork>
        <ported>false</ported><roaming>false</roaming><servingMSC>41760</servingMSC>
        <status><groupId>3</groupId><groupName>DELIVERED</groupName><id>5</id><name>DELIVERED_TO_HANDSET</name></status>
        </result></results></ncResponse>"#;
}

/// More rows than the API documents for one push, in both formats.
#[tokio::test]
async fn a_thousand_reports_of_one_push_are_a_thousand_events() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let json: Vec<_> = (0..1_000)
        .map(|n| format!(r#"{{"messageId":"shop.j-{n}","status":{{"groupId":3}}}}"#))
        .collect();
    let xml: String = (0..1_000)
        .map(|n| format!("<result><messageId>shop.x-{n}</messageId></result>"))
        .collect();
    let bodies = [
        format!(r#"{{"results":[{}]}}"#, json.join(",")),
        format!("<reportResponse><results>{xml}</results></reportResponse>"),
    ];
    for body in bodies {
        let request = Client::new().post(bridge.webhook("reports")).body(body);
        let pushed = request.send().await.unwrap();
        assert_eq!(pushed.status(), StatusCode::OK);
    }
    let events = bridge.all_events().await;
    let ids: std::collections::HashSet<_> = events.iter().map(|event| &event.id).collect();
    assert_eq!((events.len(), ids.len()), (2_000, 2_000));
    bridge.stop().await;
}
