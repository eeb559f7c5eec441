//! Random requests to every endpoint of the simulator: it never panics and always responds in the requested format.
//!
//! `support::fuzz` sets the duration.

use std::time::Duration;

use infobip_simulator::xml;
use proptest::prelude::*;
use reqwest::{Method, StatusCode};

use crate::support::{fuzz::Fuzz, simulator::TestSimulator};

const PATHS: &[&str] = &[
    "/sms/1/text/single",
    "/sms/1/text/multi",
    "/sms/1/text/advanced",
    "/sms/1/binary/single",
    "/sms/1/binary/multi",
    "/sms/1/binary/advanced",
    "/sms/1/text/query",
    "/sms/1/reports",
    "/sms/1/logs",
    "/sms/1/inbox/reports",
    "/sms/1/inbox/logs",
    "/number/1/query",
    "/number/1/notify",
    "/sms/1/bulks",
    "/sms/1/bulks/status",
    "/sms/1/preview",
    "/ct/1/log/end/m-1",
    "/ct/1/log/end/%ff%00",
    "/account/1/balance",
    "/auth/1/oauth2/token",
    "/auth/1/session",
    "/abcd/efghi",
    "/_sim/messages",
    "/_sim/inbound",
    "/_sim/requests",
    "/_sim/pushes",
    "/_sim/faults/none",
    "/_sim/keywords",
    "/_sim/state",
    "/_sim/phones",
    "/_sim/phones/41793026727",
    "/_sim/messages/m-1",
    "/_sim/requests/0",
    "/_sim/account",
    "/_sim/outcomes",
    "/",
];

const NAMES: &[&str] = &[
    "from",
    "to",
    "text",
    "messages",
    "message",
    "destinations",
    "destination",
    "messageId",
    "bulkId",
    "binary",
    "hex",
    "dataCoding",
    "esmClass",
    "flash",
    "language",
    "languageCode",
    "singleShift",
    "lockingShift",
    "transliteration",
    "intermediateReport",
    "notify",
    "notifyUrl",
    "notifyContentType",
    "callbackData",
    "validityPeriod",
    "sendAt",
    "deliveryTimeWindow",
    "hour",
    "minute",
    "days",
    "tracking",
    "track",
    "processKey",
    "type",
    "baseUrl",
    "status",
    "limit",
    "generalStatus",
    "sentSince",
    "sentUntil",
    "mcc",
    "mnc",
    "keyword",
    "username",
    "password",
    "grant_type",
];

const VALUES: &[&str] = &[
    "41793026727",
    "+41793026727",
    "InfoSMS",
    "true",
    "false",
    "0",
    "-1",
    "1",
    "9223372036854775808",
    "1e999",
    "m-1",
    "B-1",
    "TR",
    "URL",
    "SMS",
    "NON_UNICODE",
    "GREEK",
    "http://127.0.0.1:9/",
    "http://[",
    "2015-02-12T09:51:43.123+0100",
    "9999-12-31T23:59:59.999-1800",
    "0000-00-00T00:00:00",
    "PAUSED",
    "CANCELED",
    "99901006",
    "999020027",
    "999051",
    "54 65 73 74",
    "5",
    "MONDAY",
    "",
    " ",
    "\u{0}",
    "😀",
    "ığüşöç€[]{}",
    "see http://a.example/x, http://b.example",
    "application/xml",
    "application/json",
    "null",
    "&amp;<",
    "client_credentials",
];

#[derive(Debug, Clone)]
struct Fuzzed {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    content_type: Option<String>,
    accept: Option<String>,
    authorized: bool,
    body: Vec<u8>,
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![8 => proptest::sample::select(VALUES).prop_map(str::to_owned), 1 => any::<String>()]
}

fn name() -> impl Strategy<Value = String> {
    proptest::sample::select(NAMES).prop_map(str::to_owned)
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        6 => word().prop_map(serde_json::Value::from),
        1 => any::<i64>().prop_map(serde_json::Value::from),
        1 => any::<bool>().prop_map(serde_json::Value::from),
        1 => Just(serde_json::Value::Null),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            3 => prop::collection::btree_map(name(), inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A message that is valid in most cases, so that the code after the validation runs, too.
fn message() -> impl Strategy<Value = serde_json::Value> {
    (word(), word(), word(), json()).prop_map(|(to, id, text, extra)| {
        let mut message = serde_json::json!({"destinations": [{"to": to, "messageId": id}], "to": to, "text": text,
            "binary": {"hex": text, "dataCoding": id}});
        if let (Some(message), Some(extra)) = (message.as_object_mut(), extra.as_object()) {
            message.extend(extra.clone());
        }
        serde_json::json!({"messages": [message], "to": to, "text": text, "from": id, "tracking": {"track": "URL"}})
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let valid = prop_oneof![json(), message()];
    prop_oneof![
        4 => valid.clone().prop_map(|value| value.to_string().into_bytes()),
        3 => valid.prop_map(|value| xml::from_json("request", &value).into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => any::<String>().prop_map(String::into_bytes),
    ]
}

fn fuzzed() -> impl Strategy<Value = Fuzzed> {
    let method = proptest::sample::select(vec![
        Method::GET,
        Method::POST,
        Method::POST,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
    ]);
    let path = (
        proptest::sample::select(PATHS),
        proptest::sample::select(&["", "", "", ".json", ".xml", "/"][..]),
    );
    let kinds = &[
        "application/json",
        "application/json",
        "application/xml",
        "text/xml; charset=utf-8",
        "text/plain",
        "application/x-www-form-urlencoded",
        ";;,=",
        "application/xml;q=oops, application/json;q=0.2",
    ][..];
    let kind = prop::option::weighted(0.9, proptest::sample::select(kinds).prop_map(str::to_owned));
    let query = prop::collection::vec((name(), word()), 0..5);
    (
        method,
        path,
        query,
        kind.clone(),
        kind,
        prop::bool::weighted(0.95),
        body(),
    )
        .prop_map(
            |(method, (path, suffix), query, content_type, accept, authorized, body)| Fuzzed {
                method,
                path: format!("{path}{suffix}"),
                query,
                content_type,
                accept,
                authorized,
                body,
            },
        )
}

async fn check(simulator: &TestSimulator, fuzzed: &Fuzzed) {
    let request = if fuzzed.authorized {
        TestSimulator::request
    } else {
        TestSimulator::anonymous
    };
    let mut request = request(simulator, fuzzed.method.clone(), &fuzzed.path).query(&fuzzed.query);
    if let Some(kind) = &fuzzed.content_type {
        request = request.header("content-type", kind);
    }
    if let Some(accept) = &fuzzed.accept {
        request = request.header("accept", accept);
    }
    let answer = simulator.answer(request.body(fuzzed.body.clone())).await;
    if fuzzed.path == "/" && fuzzed.method == Method::GET {
        assert_eq!(answer.headers["location"], "/_sim/");
        return;
    }
    let expected_type = if fuzzed.path.starts_with("/_sim/") || fuzzed.path.ends_with(".json") {
        Some("application/json;charset=UTF-8")
    } else if fuzzed.path.ends_with(".xml") {
        Some("application/xml;charset=UTF-8")
    } else {
        match fuzzed.accept.as_deref() {
            Some("application/json") => Some("application/json;charset=UTF-8"),
            Some("application/xml" | "text/xml; charset=utf-8") => {
                Some("application/xml;charset=UTF-8")
            }
            _ => None,
        }
    };
    if let Some(expected_type) = expected_type {
        assert_eq!(answer.content_type, expected_type);
    }
    let value = if answer.content_type.starts_with("application/xml") {
        xml::to_json(answer.text.as_bytes())
            .unwrap_or_else(|error| panic!("{error}: {}", answer.text))
    } else {
        answer.json()
    };
    if answer.status != StatusCode::OK {
        let exception = &value["requestError"]["serviceException"];
        assert!(
            exception["messageId"].is_string() && exception["text"].is_string(),
            "{}",
            answer.text
        );
        assert_ne!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[test]
fn every_request_gets_a_response_in_the_requested_format() {
    let mut fuzz = Fuzz::begin(500);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let simulator = TestSimulator::with(|config| {
            config.logs_per_minute = 0;
            config.speed = 1000.0;
            config.bounds.messages = 2000;
        })
        .await;
        let strategy = fuzzed();
        let mut cases = 0_u32;
        while fuzz.goes_on_after(cases) {
            let case = fuzz.draw(&strategy);
            let checked = tokio::time::timeout(
                Duration::from_secs(20),
                std::panic::AssertUnwindSafe(check(&simulator, &case)),
            );
            if futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(checked))
                .await
                .is_err()
            {
                panic!(
                    "after {cases} cases: {case:?}\n{}",
                    String::from_utf8_lossy(&case.body)
                );
            }
            cases += 1;
        }
        assert!(
            cases > 0
                && simulator.get("/_sim/state").await["messages"]
                    .as_u64()
                    .unwrap()
                    > 0,
            "nothing was reached"
        );
    });
}
