//! The manual's parameters that no sample uses, each tested against its description.

use std::{collections::BTreeMap, time::Duration};

use infobip_simulator::codes::{ERRORS, STATUSES};
use serde_json::{Value, json};

use crate::support::{account::Account, receiver::PushReceiver};

const MINUTE: Duration = Duration::from_secs(60);

fn rows(answer: &Value) -> &[Value] {
    answer["results"].as_array().expect("results")
}

/// One field of every row, in order.
fn column<'a>(answer: &'a Value, field: &str) -> Vec<&'a str> {
    rows(answer)
        .iter()
        .map(|row| {
            row[field]
                .as_str()
                .unwrap_or_else(|| panic!("{field} of {row}"))
        })
        .collect()
}

/// Sends one advanced message to one number. Returns its result.
async fn send(account: &Account, to: &str, message: Value) -> Value {
    let mut message = message;
    message["destinations"] = json!([{ "to": to }]);
    let (status, answer) = account
        .post("/sms/1/text/advanced", &json!({ "messages": [message] }))
        .await;
    assert_eq!(status, 200, "{answer}");
    answer["messages"][0].clone()
}

#[tokio::test]
async fn logs_answer_each_filter() {
    let account = Account::open().await;
    for (id, bulk, from, to) in [
        ("one", "first", "InfoSMS", "41793026727"),
        ("two", "first", "WineShop", "385981234567"),
        ("three", "second", "InfoSMS", "41763026727"),
        ("four", "third", "InfoSMS", "99902000112"),
    ] {
        let request = json!({"bulkId": bulk, "messages": [
            {"from": from, "destinations": [{"to": to, "messageId": id}], "text": "Test SMS."}]});
        let (status, answer) = account.post("/sms/1/text/advanced", &request).await;
        assert_eq!(status, 200, "{answer}");
        account.advance(MINUTE).await;
    }
    let cases: &[(&str, &[&str])] = &[
        ("", &["four", "three", "two", "one"]),
        ("from=WineShop", &["two"]),
        ("to=41793026727", &["one"]),
        ("bulkId=first", &["two", "one"]),
        ("bulkId=first,second", &["three", "two", "one"]),
        ("bulkId=first&bulkId=second", &["three", "two", "one"]),
        ("messageId=one", &["one"]),
        ("messageId=one,three,unknown", &["three", "one"]),
        ("messageId=one&messageId=three", &["three", "one"]),
        ("messageId=one&bulkId=second", &[]),
        ("generalStatus=DELIVERED", &["three", "two", "one"]),
        ("generalStatus=UNDELIVERABLE", &["four"]),
        ("generalStatus=PENDING", &[]),
        (
            "sentSince=2015-02-12T08:53:00.000%2B0000",
            &["four", "three"],
        ),
        ("sentUntil=2015-02-12T08:53:00.000Z", &["two", "one"]),
        (
            "sentSince=2015-02-12T08:52:00.000&sentUntil=2015-02-12T08:53:00.000",
            &["two"],
        ),
        ("limit=2", &["four", "three"]),
        ("mcc=228", &["three", "one"]),
        ("mcc=228&mnc=01", &["one"]),
        ("mcc=219", &["two"]),
    ];
    for (query, expected) in cases {
        let (status, answer) = account.get(&format!("/sms/1/logs?{query}")).await;
        assert_eq!(status, 200, "{query}: {answer}");
        assert_eq!(&column(&answer, "messageId"), expected, "{query}");
    }
}

#[tokio::test]
async fn logs_reach_back_48_hours() {
    let account = Account::open().await;
    send(&account, "41793026727", json!({"text": "Test SMS."})).await;
    account.advance((48 * 60 - 1) * MINUTE).await;
    assert_eq!(rows(&account.get("/sms/1/logs").await.1).len(), 1);
    account.advance(2 * MINUTE).await;
    assert_eq!(rows(&account.get("/sms/1/logs").await.1).len(), 0);
}

#[tokio::test]
async fn fifty_rows_are_the_default_and_1000_the_most() {
    let account = Account::open().await;
    let destinations: Vec<_> = (0..1060)
        .map(|n| json!({ "to": format!("4179{n:07}") }))
        .collect();
    let request = json!({"messages": [{"destinations": destinations, "text": "Test SMS."}]});
    account.post("/sms/1/text/advanced", &request).await;
    account.advance(MINUTE).await;
    for (query, expected) in [("", 50), ("?limit=7", 7), ("?limit=1001", 1000)] {
        assert_eq!(
            rows(&account.get(&format!("/sms/1/logs{query}")).await.1).len(),
            expected,
            "logs{query}"
        );
    }
    // Each report is read once: 50, then 7, then the rest.
    for (query, expected) in [
        ("", 50),
        ("?limit=7", 7),
        ("?limit=1000", 1000),
        ("?limit=1000", 3),
    ] {
        assert_eq!(
            rows(&account.get(&format!("/sms/1/reports{query}")).await.1).len(),
            expected,
            "reports{query}"
        );
    }
}

#[tokio::test]
async fn reports_of_a_bulk_leave_the_others_unread() {
    let account = Account::open().await;
    for bulk in ["first", "second", "third"] {
        let request = json!({"bulkId": bulk, "messages": [{"text": "Test SMS.",
            "destinations": [{"to": "41793026727"}, {"to": "41793026731"}]}]});
        account.post("/sms/1/text/advanced", &request).await;
    }
    account.advance(MINUTE).await;
    let (_, answer) = account.get("/sms/1/reports?bulkId=second,third").await;
    let mut bulks = column(&answer, "bulkId");
    bulks.sort_unstable();
    assert_eq!(bulks, ["second", "second", "third", "third"]);
    let (_, answer) = account.get("/sms/1/reports").await;
    assert_eq!(column(&answer, "bulkId"), ["first", "first"]);
}

#[tokio::test]
async fn reports_take_several_ids_joined_or_repeated() {
    let account = Account::open().await;
    let ids = ["one", "two", "three", "four", "five"];
    let destinations: Vec<_> = ids
        .iter()
        .map(|id| json!({"to": "41793026727", "messageId": id}))
        .collect();
    account
        .post(
            "/sms/1/text/advanced",
            &json!({"messages": [{"destinations": destinations, "text": "Test SMS."}]}),
        )
        .await;
    account.advance(MINUTE).await;
    for (query, expected) in [
        ("messageId=one,two,one", 2),
        ("messageId=three&messageId=four", 2),
        ("messageId=one", 0),
    ] {
        let (_, answer) = account.get(&format!("/sms/1/reports?{query}")).await;
        assert_eq!(rows(&answer).len(), expected, "{query}");
    }
    assert_eq!(
        column(&account.get("/sms/1/reports").await.1, "messageId"),
        ["five"]
    );
}

#[tokio::test]
async fn a_body_that_is_no_object_is_a_bad_request() {
    let account = Account::open().await;
    let listed =
        json!(["BULK-ID", [{"destinations": [{"to": "41793026727"}], "text": "Test SMS."}], null]);
    for body in [listed, json!("text"), json!(null), json!(7)] {
        let (status, answer) = account.post("/sms/1/text/advanced", &body).await;
        assert_eq!(status, 400, "{answer}");
        assert_eq!(
            answer["requestError"]["serviceException"]["messageId"],
            "BAD_REQUEST"
        );
    }
    assert_eq!(
        account.get("/account/1/balance").await.1,
        json!({"balance": 1_000_000, "currency": "EUR"})
    );
}

#[tokio::test]
async fn senders_and_destinations_are_checked_message_by_message() {
    let account = Account::open().await;
    for (from, accepted) in [
        ("ab", false),
        ("abc", true),
        ("CompanyName", true),
        ("CompanyNames", false),
        ("12", false),
        ("123", true),
        ("12345678901234", true),
        ("123456789012345", false),
    ] {
        let result = send(
            &account,
            "41793026727",
            json!({"from": from, "text": "Test SMS."}),
        )
        .await;
        let expected = if accepted {
            "MESSAGE_ACCEPTED"
        } else {
            "REJECTED_SOURCE"
        };
        assert_eq!(result["status"]["name"], expected, "{from}");
    }
    let request = json!({"messages": [{"text": "Test SMS.", "destinations": [
        {"to": "41793026727", "messageId": "M"}, {"to": "41793026727", "messageId": "M"}, {"to": ""}, {},
        {"to": "417930267271234567"}, {"to": "nobody"}, {"to": "+41793026731"},
    ]}]});
    let (status, answer) = account.post("/sms/1/text/advanced", &request).await;
    assert_eq!(status, 200);
    let ids: Vec<_> = answer["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .map(|row| &row["status"]["id"])
        .collect();
    assert_eq!(ids, [0, 23, 51, 51, 52, 52, 0]);
    assert_eq!(answer["messages"][2].get("messageId"), None);
}

#[tokio::test]
async fn language_shift_tables_and_transliteration_change_the_parts() {
    let account = Account::open().await;
    let turkish = "ğ".repeat(100);
    let language = |single: bool, locking: bool| json!({"languageCode": "TR", "singleShift": single, "lockingShift": locking});
    for (message, parts) in [
        (json!({ "text": turkish }), 2),
        (
            json!({ "text": turkish, "language": language(true, false) }),
            2,
        ),
        (
            json!({ "text": turkish, "language": language(false, true) }),
            1,
        ),
        (
            json!({ "text": "a".repeat(156), "language": language(false, true) }),
            2,
        ),
        (json!({ "text": "a".repeat(156) }), 1),
        (json!({ "text": turkish, "transliteration": "TURKISH" }), 1),
        (json!({ "text": "a".repeat(25 * 153) }), 25),
    ] {
        let result = send(&account, "41793026727", message.clone()).await;
        assert_eq!(result["smsCount"], parts, "{message}");
        assert_eq!(result["status"]["id"], 0, "{message}");
    }
    let result = send(
        &account,
        "41793026727",
        json!({ "text": "a".repeat(25 * 153 + 1) }),
    )
    .await;
    assert_eq!(result["status"]["name"], "REJECTED_MESSAGE_TOO_LONG");
    // The handset receives the transliterated text.
    let result = send(
        &account,
        "41793026727",
        json!({"text": "Καλημέρα", "transliteration": "GREEK"}),
    )
    .await;
    let id = result["messageId"].as_str().expect("an id");
    assert_eq!(
        column(
            &account.get(&format!("/sms/1/logs?messageId={id}")).await.1,
            "text"
        ),
        ["KAΛHMEPA"]
    );
}

#[tokio::test]
async fn validity_period_ends_a_message_and_48_hours_end_every_one() {
    let account = Account::open().await;
    let short = send(
        &account,
        "99905000000",
        json!({"text": "Test SMS.", "validityPeriod": 5}),
    )
    .await;
    // The value of the sample of 2015, which is in milliseconds: cut to 48 h.
    let long = send(
        &account,
        "99905000001",
        json!({"text": "Test SMS.", "validityPeriod": 86_400_000}),
    )
    .await;
    let status = async |result: &Value| {
        let id = result["messageId"].as_str().expect("an id");
        let (_, ledger) = account.get(&format!("/_sim/messages?messageId={id}")).await;
        ledger["messages"][0]["status"]["name"]
            .as_str()
            .expect("a status")
            .to_owned()
    };
    account.advance(4 * MINUTE).await;
    assert_eq!(status(&short).await, "PENDING_WAITING_DELIVERY");
    account.advance(2 * MINUTE).await;
    assert_eq!(status(&short).await, "EXPIRED_EXPIRED");
    account.advance((48 * 60 - 8) * MINUTE).await;
    assert_eq!(status(&long).await, "PENDING_WAITING_DELIVERY");
    account.advance(4 * MINUTE).await;
    assert_eq!(status(&long).await, "EXPIRED_EXPIRED");
}

#[tokio::test]
async fn send_at_holds_a_message_back_until_its_time() {
    let account = Account::open().await;
    let at = "2015-02-12T10:00:00.000+00:00";
    let result = send(
        &account,
        "41793026727",
        json!({"text": "Test SMS.", "sendAt": at}),
    )
    .await;
    assert_eq!(result["status"]["name"], "PENDING_ACCEPTED");
    account.advance(67 * MINUTE).await;
    assert_eq!(rows(&account.get("/sms/1/reports").await.1).len(), 0);
    account.advance(2 * MINUTE).await;
    let (_, answer) = account.get("/sms/1/reports").await;
    assert_eq!(column(&answer, "sentAt"), ["2015-02-12T10:00:00.000+0000"]);
}

#[tokio::test]
async fn pushed_inbound_messages_fill_all_parameters() {
    let receiver = PushReceiver::start().await;
    let template = receiver.url(
        "/in?s=%sender%&r=%receiver%&t=%text%&b=%bin%&d=%datetime%&i=%messageId%&c=%datacoding%&e=%esmclass%&output=json",
    );
    let account = Account::with_inbound_pushed_to(&template).await;
    let first = account
        .receive("38598123123", "385921004026", json!({"text": "A&B"}))
        .await;
    let unicode = json!({"hex": "0416 0021", "dataCoding": 8, "esmClass": 64});
    account
        .receive("38598123123", "385921004026", unicode)
        .await;
    account.advance(MINUTE).await;
    let pushed = receiver.pushed();
    assert_eq!(pushed.len(), 2);
    let parameters = |at: usize| -> BTreeMap<String, String> {
        let url = reqwest::Url::parse(&receiver.url(&pushed[at].uri.to_string())).expect("a URL");
        url.query_pairs()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect()
    };
    let (text, octets) = (parameters(0), parameters(1));
    let expected = [
        ("s", "38598123123"),
        ("r", "385921004026"),
        ("t", "A&B"),
        ("b", ""),
        ("c", "0"),
        ("e", "0"),
    ];
    for (name, value) in expected {
        assert_eq!(text[name], value, "{name}");
    }
    assert_eq!(text["i"], first);
    assert!(
        text["d"].starts_with("2015-02-12T08:51:43"),
        "{}",
        text["d"]
    );
    assert!(
        !text.contains_key("output"),
        "the manual's own example leaves it out"
    );
    for (name, value) in [("t", ""), ("b", "04160021"), ("c", "8"), ("e", "64")] {
        assert_eq!(octets[name], value, "{name}");
    }
}

#[tokio::test]
async fn every_status_of_the_manual_can_be_produced() {
    let account = Account::open().await;
    for status in STATUSES {
        let result = send(
            &account,
            &format!("99901{:03}000", status.id),
            json!({"text": "Test SMS."}),
        )
        .await;
        let mut expected = json!({"groupId": status.group_id, "groupName": status.group_name, "id": status.id,
            "name": status.name, "description": status.description});
        if let Some(action) = status.action {
            expected["action"] = action.into();
        }
        assert_eq!(result["status"], expected);
    }
}

#[tokio::test]
async fn every_gsm_error_of_the_manual_can_be_produced() {
    let account = Account::open().await;
    let destinations: Vec<_> = ERRORS
        .iter()
        .map(|error| json!({"to": format!("99902{:04}00", error.id), "messageId": format!("error-{}", error.id)}))
        .collect();
    let request = json!({"messages": [{"destinations": destinations, "text": "Test SMS."}]});
    account.post("/sms/1/text/advanced", &request).await;
    account.advance(MINUTE).await;
    let (_, answer) = account.get("/sms/1/reports?limit=1000").await;
    assert_eq!(rows(&answer).len(), ERRORS.len());
    for error in ERRORS {
        let id = format!("error-{}", error.id);
        let row = rows(&answer)
            .iter()
            .find(|row| row["messageId"] == id.as_str())
            .expect("a report");
        let expected = json!({"groupId": error.group_id, "groupName": error.group_name, "id": error.id,
            "name": error.name, "description": error.description, "permanent": error.permanent});
        assert_eq!(row["error"], expected);
        let group = if error.permanent {
            "UNDELIVERABLE"
        } else {
            "EXPIRED"
        };
        assert_eq!(row["status"]["groupName"], group, "{error:?}");
    }
}

#[tokio::test]
async fn conversion_tracking_keeps_its_process_key() {
    let account = Account::open().await;
    let request = json!({"tracking": {"track": "SMS", "processKey": "KEY", "type": "ONE_TIME_PIN"}, "messages": [
        {"destinations": [{"to": "41793026727", "messageId": "M"}], "text": "Your PIN is 1234"}]});
    let (_, answer) = account.post("/sms/1/text/advanced", &request).await;
    assert_eq!(answer["trackingProcessKey"], "KEY");
    assert_eq!(
        account.post("/ct/1/log/end/M", &json!({})).await,
        (200, json!({"processKey": "KEY"}))
    );
    assert_eq!(
        account.post("/ct/1/log/end/unknown", &json!({})).await.0,
        404
    );
}

#[tokio::test]
async fn report_pushes_are_tried_again_as_the_manuals_table_says() {
    let receiver = PushReceiver::start().await;
    receiver.answer_with(reqwest::StatusCode::SERVICE_UNAVAILABLE);
    let account = Account::open().await;
    let url = receiver.url("/sms/advanced");
    send(
        &account,
        "41793026727",
        json!({"text": "Test SMS.", "notifyUrl": url}),
    )
    .await;
    account.advance(60 * 60 * MINUTE).await;
    let (_, pushes) = account.get("/_sim/pushes").await;
    let attempts = pushes["pushes"][0]["attempts"]
        .as_array()
        .expect("attempts");
    let at: Vec<_> = attempts
        .iter()
        .map(|attempt| attempt["atMs"].as_i64().expect("a time"))
        .collect();
    let minutes: Vec<_> = at.iter().map(|ms| (ms - at[0]) / 60_000).collect();
    // The manual's column "Cumulative", and "the last retry will be done 41:30h after the initial one".
    assert_eq!(minutes[..8], [0, 1, 3, 8, 18, 35, 60 + 1, 60 + 38]);
    assert_eq!((minutes.len(), minutes.last()), (21, Some(&(41 * 60 + 30))));
    assert_eq!(receiver.pushed().len(), 21);
    // The push is lost. The report cannot be pulled either; only the logs had the message, for 48 h.
    assert_eq!(rows(&account.get("/sms/1/reports").await.1).len(), 0);
}
