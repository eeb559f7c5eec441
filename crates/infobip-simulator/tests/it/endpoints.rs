//! The simulator's endpoints except sending one text: formats, validation, limits, schedules, look-ups, links.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    receiver::PushReceiver,
    simulator::{Answer, TestSimulator},
};

const TO: &str = "41793026727";

async fn get(simulator: &TestSimulator, path: &str) -> Answer {
    simulator.answer(simulator.request(Method::GET, path)).await
}

async fn put(simulator: &TestSimulator, path: &str, body: Value) -> Answer {
    simulator.try_send(Method::PUT, path, &body).await
}

async fn post(simulator: &TestSimulator, path: &str, body: Value) -> Answer {
    simulator.try_send(Method::POST, path, &body).await
}

fn reasons(answer: &Answer) -> Value {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
    answer.json()["requestError"]["serviceException"]["validationErrors"].clone()
}

#[tokio::test]
async fn endpoints_accept_and_return_xml() {
    let simulator = TestSimulator::start().await;
    let body = "<request><bulkId>B-1</bulkId><messages><message><from>InfoSMS</from><destinations><destination>\
                <to>41793026727</to><messageId>x-1</messageId></destination></destinations><text>Ünïcode &amp; more</text>\
                <flash>true</flash></message></messages></request>";
    let request = simulator
        .request(Method::POST, "/sms/1/text/advanced")
        .header("content-type", "application/xml")
        .header("accept", "application/xml")
        .body(body);
    let answer = simulator.answer(request).await;
    assert_eq!(answer.content_type, "application/xml;charset=UTF-8");
    assert!(
        answer
            .text
            .contains("<smsResponse><bulkId>B-1</bulkId><messages><message>"),
        "{}",
        answer.text
    );
    assert!(answer.text.contains("<messageId>x-1</messageId>"));
    let message = &simulator.all_final().await[0];
    assert_eq!(message["text"], "Ünïcode & more");
    assert_eq!(message["flash"], true);
    let logs = get(&simulator, "/sms/1/logs.xml?messageId=x-1").await.text;
    assert!(
        logs.contains("<smsLogsResponse><results><result>") && logs.contains("Ünïcode &amp; more"),
        "{logs}"
    );
    // Errors have the requested format, too. A path suffix takes precedence over Accept.
    let request = simulator
        .anonymous(Method::GET, "/sms/1/reports")
        .header("accept", "application/xml;q=0.9, */*;q=0.1");
    let refused = simulator.answer(request).await;
    assert!(
        refused
            .text
            .contains("<ApiException><requestError><serviceException>"),
        "{}",
        refused.text
    );
    let request = simulator
        .request(Method::GET, "/sms/1/reports.json")
        .header("accept", "application/xml");
    assert_eq!(
        simulator.answer(request).await.content_type,
        "application/json;charset=UTF-8"
    );
}

#[tokio::test]
async fn a_content_type_is_needed_and_must_be_known() {
    let simulator = TestSimulator::start().await;
    let body = r#"{"to":"41793026727","text":"a"}"#;
    let missing = simulator
        .answer(
            simulator
                .request(Method::POST, "/sms/1/text/single")
                .body(body),
        )
        .await;
    assert_eq!(missing.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        missing.json()["requestError"]["serviceException"]["messageId"],
        "GENERAL_ERROR"
    );
    let request = simulator
        .request(Method::POST, "/sms/1/text/single")
        .header("content-type", "text/plain")
        .body(body);
    assert_eq!(
        simulator.answer(request).await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        get(&simulator, "/sms/1/text/single").await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(
        get(&simulator, "/sms/9/nothing").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_request_is_refused_whole_with_every_reason() {
    let simulator = TestSimulator::start().await;
    let wrong = json!({"messages": [
        {"destinations": [{"to": TO}], "text": "fine"},
        {"destinations": [{"to": TO}], "text": "", "notifyUrl": "nowhere", "sendAt": "soon", "validityPeriod": -1,
         "notifyContentType": "text/plain", "callbackData": "x".repeat(4001), "transliteration": "KLINGON",
         "language": {"languageCode": "XX"}}
    ], "tracking": {"track": "FAX"}});
    let reasons = reasons(&post(&simulator, "/sms/1/text/advanced", wrong).await);
    for field in [
        "messages[1].text",
        "messages[1].notifyUrl",
        "messages[1].sendAt",
        "messages[1].validityPeriod",
        "messages[1].notifyContentType",
        "messages[1].callbackData",
        "messages[1].transliteration",
        "messages[1].language.languageCode",
        "tracking.track",
    ] {
        assert!(
            reasons.get(field).is_some(),
            "{field} is missing: {reasons}"
        );
    }
    assert!(reasons.get("messages[0].text").is_none());
    assert!(
        simulator.messages().await.is_empty(),
        "nothing of it was accepted"
    );
    let broken = post(
        &simulator,
        "/sms/1/text/advanced",
        json!({"messages": {"destinations": 7}}),
    )
    .await;
    assert_eq!(broken.status, StatusCode::BAD_REQUEST);
    let far = json!({"messages": [{"destinations": [{"to": TO}], "text": "a", "sendAt": "2999-01-01T00:00:00Z"}]});
    assert_eq!(
        post(&simulator, "/sms/1/text/advanced", far).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn invalid_message_is_rejected_without_affecting_others() {
    let simulator = TestSimulator::with(|config| {
        config.forbidden_prefixes = vec!["850".into()];
        config.balance_micros = 200_000;
        config.default_price_micros = 100_000;
        config.require_known_prefix = true;
    })
    .await;
    let long = "x".repeat(153 * 25 + 1);
    let answer = simulator
        .post(
            "/sms/1/text/advanced",
            json!({"messages": [
                {"text": "a", "destinations": [{"to": "99904000011"}, {"to": ""}, {"messageId": "no-to"}, {"to": "4179302672712345"},
                                               {"to": "not a number"}, {"to": "85012345678"}, {"to": "21012345678"}]},
                {"text": long, "destinations": [{"to": "99904000012"}]},
                {"from": "ab", "text": "a", "destinations": [{"to": "99904000013"}]},
                {"text": "a", "destinations": [{"to": "99904000014"}, {"to": "99904000015"}]},
                {"text": "a"}
            ]}),
        )
        .await;
    let rows = answer["messages"].as_array().unwrap();
    let statuses: Vec<_> = rows
        .iter()
        .map(|row| row["status"]["id"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [7, 51, 51, 52, 52, 6, 8, 25, 11, 7, 12, 51]);
    assert_eq!(rows[1].get("messageId"), None, "MISSING_TO has no ids");
    assert_eq!(rows[1].get("smsCount"), None);
    assert!(rows[3]["messageId"].is_string());
    assert_eq!(simulator.messages().await.len(), 2);
    assert_eq!(
        simulator.get("/account/1/balance").await,
        json!({"balance": 0, "currency": "EUR"})
    );
    let logs = simulator.get("/sms/1/logs?generalStatus=REJECTED").await;
    assert_eq!(
        logs["results"].as_array().unwrap().len(),
        7,
        "all with an id are in the logs"
    );
}

#[tokio::test]
async fn flooding_filter_counts_messages_per_hour_if_enabled() {
    let simulator = TestSimulator::frozen_with(|config| config.flooding = true).await;
    let send = async |text: &str, to: &str| {
        let answer = simulator
            .post("/sms/1/text/single", json!({"to": to, "text": text}))
            .await;
        answer["messages"][0]["status"]["id"].as_u64().unwrap()
    };
    for _ in 0..6 {
        assert_eq!(send("same", TO).await, 7);
    }
    assert_eq!(send("same", TO).await, 20);
    assert_eq!(send("same", "41793026728").await, 7, "another number");
    for n in 0..19 {
        assert_eq!(send(&format!("different {n}"), TO).await, 7);
    }
    assert_eq!(send("one more", TO).await, 20);
    simulator.advance(Duration::from_secs(3600)).await;
    assert_eq!(send("same", TO).await, 7);
}

#[tokio::test]
async fn multi_binary_and_query_send_too() {
    let simulator = TestSimulator::start().await;
    let multi = json!({"messages": [{"from": "InfoSMS", "to": [TO, "41793026731"], "text": "a"}, {"to": "41793026785", "text": "b"}]});
    let multi = simulator.post("/sms/1/text/multi", multi).await;
    assert_eq!(multi["messages"].as_array().unwrap().len(), 3);
    assert!(multi["bulkId"].is_string());
    let binary = json!({"messages": [{"destinations": [{"to": TO, "messageId": "bin"}],
                        "binary": {"hex": "0f c2 4a bf 34 13 ba", "dataCoding": 8, "esmClass": 0}}]});
    assert_eq!(
        simulator.post("/sms/1/binary/advanced", binary).await["messages"][0]["smsCount"],
        1
    );
    let single = json!({"to": TO, "binary": {"hex": "54 65 73 74"}});
    assert_eq!(
        simulator.post("/sms/1/binary/single", single).await["messages"][0]["status"]["id"],
        7
    );
    let udh = json!({"to": TO, "binary": {"hex": "ff00", "esmClass": 64}});
    assert_eq!(
        simulator.post("/sms/1/binary/single", udh).await["messages"][0]["status"]["id"],
        24
    );
    let wrong = post(
        &simulator,
        "/sms/1/binary/single",
        json!({"to": TO, "binary": {"hex": "5"}}),
    )
    .await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let message = simulator
        .messages()
        .await
        .into_iter()
        .find(|message| message["messageId"] == "bin")
        .unwrap();
    assert_eq!(
        message["binary"],
        json!({"hex": "0fc24abf3413ba", "dataCoding": 8, "esmClass": 0})
    );

    let path = "/sms/1/text/query?username=Aladdin&password=open%20sesame&from=InfoSMS&to=41793026727,41793026731&to=41793026785&text=A+%26+B&flash=true";
    let answer = simulator
        .answer(simulator.anonymous(Method::GET, path))
        .await;
    assert_eq!(
        answer.json()["messages"].as_array().unwrap().len(),
        3,
        "{}",
        answer.text
    );
    let last = simulator.messages().await.pop().unwrap();
    assert_eq!(
        (last["text"].as_str(), last["flash"].as_bool()),
        (Some("A & B"), Some(true))
    );
    let recorded = simulator.requests().await.pop().unwrap()["query"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        !recorded.contains("sesame") && recorded.contains("to=41793026727"),
        "{recorded}"
    );
    let wrong = path.replace("sesame", "barley");
    let refused = simulator
        .answer(simulator.anonymous(Method::GET, &wrong))
        .await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn reports_are_filtered_and_limited() {
    let simulator = TestSimulator::frozen().await;
    let destinations: Vec<_> = (0..60)
        .map(|n| json!({"to": TO, "messageId": format!("m-{n}")}))
        .collect();
    let request =
        json!({"bulkId": "B-1", "messages": [{"text": "a", "destinations": destinations}]});
    assert_eq!(
        simulator.post("/sms/1/text/advanced", request).await["bulkId"],
        "B-1"
    );
    simulator
        .send(json!({"text": "other", "destinations": [{"to": TO, "messageId": "other"}]}))
        .await;
    simulator.advance(Duration::from_secs(1)).await;
    let count = async |path: &str| {
        simulator.get(path).await["results"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count("/sms/1/reports?messageId=m-7").await, 1);
    assert_eq!(count("/sms/1/reports?messageId=m-7").await, 0);
    assert_eq!(count("/sms/1/reports?bulkId=B-1&limit=3").await, 3);
    assert_eq!(count("/sms/1/reports?bulkId=unknown").await, 0);
    assert_eq!(count("/sms/1/reports").await, 50, "the default limit");
    assert_eq!(count("/sms/1/reports?limit=5000").await, 7);
    assert_eq!(
        get(&simulator, "/sms/1/reports?limit=none").await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        get(&simulator, "/sms/1/reports?limit=0").await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn the_logs_have_every_filter_of_the_manual() {
    let simulator = TestSimulator::frozen().await;
    simulator
        .send(
            json!({"from": "First", "text": "a", "destinations": [{"to": TO, "messageId": "m,1"}]}),
        )
        .await;
    simulator
        .send(
            json!({"from": "First", "text": "a", "destinations": [{"to": TO, "messageId": "m-1"}]}),
        )
        .await;
    simulator.advance(Duration::from_secs(60)).await;
    let request = json!({"bulkId": "B-2", "messages": [{"from": "Second", "text": "b", "destinations": [
        {"to": "38598123123", "messageId": "m-2"}, {"to": "99901010", "messageId": "m-3"}]}]});
    simulator.post("/sms/1/text/advanced", request).await;
    let ids = async |filter: &str| -> Vec<String> {
        let logs = simulator.get(&format!("/sms/1/logs?{filter}")).await;
        let rows = logs["results"].as_array().unwrap();
        rows.iter()
            .map(|row| row["messageId"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids("").await, ["m-3", "m-2", "m-1", "m,1"], "latest first");
    assert_eq!(ids("limit=1").await, ["m-3"]);
    assert_eq!(ids("from=Second").await, ["m-3", "m-2"]);
    assert_eq!(ids("to=38598123123").await, ["m-2"]);
    assert_eq!(ids("bulkId=B-2").await, ["m-3", "m-2"]);
    assert_eq!(ids("messageId=m-1,m-2").await, ["m-2", "m-1"]);
    assert_eq!(ids("messageId=m-1&messageId=m-2").await, ["m-2", "m-1"]);
    assert_eq!(ids("messageId[]=m-1").await, ["m-1"]);
    assert_eq!(ids("messageId=m-1&bulkId=B-2").await, [""; 0]);
    assert_eq!(ids("generalStatus=REJECTED").await, ["m-3"]);
    assert_eq!(ids("generalStatus=DELIVERED").await, ["m-1", "m,1"]);
    assert_eq!(ids("mcc=219").await, ["m-2"]);
    assert_eq!(ids("mcc=228&mnc=99").await, [""; 0]);
    assert_eq!(
        ids("sentSince=2015-02-12T08:52:43.123Z").await,
        ["m-3", "m-2"]
    );
    assert_eq!(
        ids("sentUntil=2015-02-12T09:51:43.123+0100").await,
        ["m-1", "m,1"],
        "a bare plus is meant"
    );
    assert_eq!(
        ids("sentSince=2015-02-12T08:51:43.124Z&sentUntil=2015-02-12T08:52:43.122Z").await,
        [""; 0]
    );
    for wrong in [
        "mnc=01",
        "generalStatus=LOST",
        "sentSince=yesterday",
        &format!("messageId={}", "x".repeat(2049)),
    ] {
        assert_eq!(
            get(&simulator, &format!("/sms/1/logs?{wrong}"))
                .await
                .status,
            StatusCode::BAD_REQUEST,
            "{wrong}"
        );
    }
    simulator.advance(Duration::from_secs(48 * 3600)).await;
    assert_eq!(ids("").await, ["m-3", "m-2"], "48 hours");
}

#[tokio::test]
async fn the_logs_answer_120_times_a_virtual_minute() {
    let simulator = TestSimulator::frozen().await;
    for _ in 0..120 {
        simulator.get("/sms/1/logs").await;
    }
    let limited = get(&simulator, "/sms/1/logs").await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        limited.json(),
        json!({"requestError": {"serviceException": {"messageId": "TOO_MANY_REQUESTS", "text": "Too many requests"}}})
    );
    assert_eq!(
        limited.headers.get("retry-after"),
        None,
        "unknown whether the API says it: off"
    );
    simulator.advance(Duration::from_secs(60)).await;
    simulator.get("/sms/1/logs").await;
}

#[tokio::test]
async fn a_schedule_is_kept_moved_paused_and_cancelled() {
    let simulator = TestSimulator::frozen().await;
    let schedule = async |bulk_id: &str| {
        let request = json!({"bulkId": bulk_id, "messages": [{"text": "a", "sendAt": "2015-02-12T11:00:00.000+01:00",
                             "destinations": [{"to": TO, "messageId": format!("{bulk_id}-1")}]}]});
        simulator.post("/sms/1/text/advanced", request).await
    };
    let answer = schedule("B-1").await;
    assert_eq!(answer["messages"][0]["status"]["name"], "PENDING_ACCEPTED");
    schedule("B-2").await;
    assert_eq!(
        simulator.get("/sms/1/bulks?bulkId=B-1").await,
        json!({"bulkId": "B-1", "sendAt": "2015-02-12T10:00:00.000+0000"})
    );
    let status = async |bulk: &str| {
        simulator
            .get(&format!("/sms/1/bulks/status?bulkId={bulk}"))
            .await["status"]
            .clone()
    };
    assert_eq!(status("B-1").await, "PENDING");
    let moved = put(
        &simulator,
        "/sms/1/bulks?bulkId=B-1",
        json!({"sendAt": "2015-02-12T12:00:00.000+0000"}),
    )
    .await;
    assert_eq!(
        moved.json(),
        json!({"bulkId": "B-1", "sendAt": "2015-02-12T12:00:00.000+0000"})
    );
    let paused = put(
        &simulator,
        "/sms/1/bulks/status?bulkId=B-2",
        json!({"status": "PAUSED"}),
    )
    .await;
    assert_eq!(paused.json(), json!({"bulkId": "B-2", "status": "PAUSED"}));
    let state = async |id: &str| {
        let messages = simulator.messages().await;
        messages
            .iter()
            .find(|message| message["messageId"] == id)
            .unwrap()["state"]
            .clone()
    };
    simulator.advance(Duration::from_secs(2 * 3600)).await;
    assert_eq!(
        (state("B-1-1").await, state("B-2-1").await),
        ("scheduled".into(), "scheduled".into())
    );
    simulator.advance(Duration::from_secs(2 * 3600)).await;
    assert_eq!(
        (state("B-1-1").await, status("B-1").await),
        ("delivered".into(), "FINISHED".into())
    );
    assert_eq!(state("B-2-1").await, "scheduled", "still paused");
    put(
        &simulator,
        "/sms/1/bulks/status?bulkId=B-2",
        json!({"status": "PENDING"}),
    )
    .await;
    simulator.advance(Duration::from_secs(1)).await;
    assert_eq!(state("B-2-1").await, "delivered");

    let request = json!({"bulkId": "B-3", "messages": [{"text": "a", "sendAt": "2015-02-13T00:00:00Z",
                         "destinations": [{"to": TO, "messageId": "B-3-1"}]}]});
    simulator.post("/sms/1/text/advanced", request).await;
    put(
        &simulator,
        "/sms/1/bulks/status?bulkId=B-3",
        json!({"status": "CANCELED"}),
    )
    .await;
    assert_eq!(status("B-3").await, "CANCELED");
    assert_eq!(state("B-3-1").await, "undeliverable");
    let late = put(
        &simulator,
        "/sms/1/bulks?bulkId=B-3",
        json!({"sendAt": "2015-02-14T00:00:00Z"}),
    )
    .await;
    assert_eq!(late.status, StatusCode::BAD_REQUEST);
    let unknown = get(&simulator, "/sms/1/bulks?bulkId=B-9").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(
        unknown.json()["requestError"]["serviceException"]["text"],
        "Bulk not found"
    );
    assert_eq!(
        get(&simulator, "/sms/1/bulks").await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn validity_and_delivery_windows_are_kept() {
    let simulator =
        TestSimulator::frozen_with(|config| config.delivery_latency_ms = (100, 100)).await;
    let message = |id: &str, extra: Value| {
        let mut message = json!({"text": "a", "destinations": [{"to": "999051", "messageId": id}]});
        message
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        message
    };
    simulator
        .send(message("short", json!({"validityPeriod": 10})))
        .await;
    simulator
        .send(message("cut", json!({"validityPeriod": 100_000})))
        .await;
    let window = json!({"deliveryTimeWindow": {"from": {"hour": 10}, "to": {"hour": 11, "minute": 30}, "days": ["THURSDAY"]}});
    let mut windowed = message("window", window);
    windowed["destinations"][0]["to"] = TO.into();
    simulator.send(windowed).await;
    let row = async |id: &str| {
        simulator.get(&format!("/sms/1/logs?messageId={id}")).await["results"][0].clone()
    };
    assert_eq!(
        row("window").await["status"]["name"],
        "PENDING_TIME_VIOLATION"
    );
    simulator.advance(Duration::from_secs(601)).await;
    assert_eq!(row("short").await["status"]["name"], "EXPIRED_EXPIRED");
    assert_eq!(row("short").await["doneAt"], "2015-02-12T09:01:43.123+0000");
    simulator.advance(Duration::from_secs(3600)).await;
    assert_eq!(
        row("window").await["status"]["name"],
        "DELIVERED_TO_HANDSET"
    );
    assert_eq!(
        row("window").await["doneAt"],
        "2015-02-12T10:00:00.100+0000"
    );
    simulator.advance(Duration::from_secs(48 * 3600)).await;
    let cut = simulator
        .messages()
        .await
        .into_iter()
        .find(|message| message["messageId"] == "cut")
        .unwrap();
    assert_eq!(cut["doneAt"], "2015-02-14T08:51:43.123+0000", "cut to 48 h");
}

#[tokio::test]
async fn previews_match_the_vectors_of_the_reference() {
    let simulator = TestSimulator::start().await;
    let text = "Let's see how many characters remain unused in this message.";
    let plain = simulator
        .post("/sms/1/preview", json!({"text": text}))
        .await;
    assert_eq!(
        plain,
        json!({"originalText": text, "previews": [
            {"textPreview": text, "messageCount": 1, "charactersRemaining": 100, "configuration": {}}]})
    );
    let turkish = "Mesaj gönderimi yapmadan önce önizleme seçeneğini kullanmanız doğru karar vermenize yardımcı olur.";
    let turkish = simulator
        .post(
            "/sms/1/preview",
            json!({"text": turkish, "languageCode": "TR"}),
        )
        .await;
    let numbers = |n: usize| {
        (
            turkish["previews"][n]["messageCount"].clone(),
            turkish["previews"][n]["charactersRemaining"].clone(),
        )
    };
    assert_eq!(
        (numbers(0), numbers(1)),
        ((2.into(), 36.into()), (1.into(), 57.into()))
    );
    assert_eq!(
        turkish["previews"][1]["configuration"],
        json!({"language": {"languageCode": "TR"}})
    );
    assert_eq!(
        post(&simulator, "/sms/1/preview", json!({})).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn keywords_are_removed_from_the_text_and_filter_the_inbox() {
    let simulator = TestSimulator::start().await;
    simulator
        .post(
            "/_sim/keywords",
            json!({"to": "385921004026", "keyword": "QUIZ"}),
        )
        .await;
    simulator
        .inbound(
            "385916242493",
            "385921004026",
            "QUIZ Correct answer is Paris",
        )
        .await;
    simulator
        .inbound("385916242493", "385921004026", "Correct answer")
        .await;
    simulator
        .inbound("385916242493", "385921004099", "QUIZ of another number")
        .await;
    let logs = simulator.get("/sms/1/inbox/logs?keyword=quiz").await;
    assert_eq!(logs["results"].as_array().unwrap().len(), 1);
    assert_eq!(logs["results"][0]["keyword"], "QUIZ");
    assert_eq!(logs["results"][0]["cleanText"], "Correct answer is Paris");
    let without = simulator
        .get("/sms/1/inbox/logs?keyword=NO_KEYWORD&to=385921004026")
        .await;
    assert_eq!(without["results"][0]["text"], "Correct answer");
    let first = simulator.get("/sms/1/inbox/reports?limit=1").await;
    assert_eq!(
        (
            first["messageCount"].clone(),
            first["pendingMessageCount"].clone()
        ),
        (1.into(), 2.into())
    );
}

#[tokio::test]
async fn inbound_octets_are_shown_and_posted() {
    let receiver = PushReceiver::start().await;
    let url = receiver.url("/inbox");
    let simulator = TestSimulator::with(|config| {
        config.inbound = Some(infobip_simulator::InboundPush::Post(url));
    })
    .await;
    simulator
        .post(
            "/_sim/inbound",
            json!({"from": "1", "to": "2", "hex": "04 36", "dataCoding": 8}),
        )
        .await;
    let pushed = receiver.wait_for(1).await;
    assert_eq!(pushed[0].json()["results"][0]["text"], "ж");
    assert_eq!(pushed[0].json()["messageCount"], 1);
    let both = json!({"from": "1", "to": "2", "hex": "00", "text": "a"});
    assert_eq!(
        post(&simulator, "/_sim/inbound", both).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn numbers_are_looked_up() {
    let simulator =
        TestSimulator::with(|config| (config.lookup_ported, config.lookup_roaming) = (0.0, 0.0))
            .await;
    let answer = simulator
        .post("/number/1/query", json!({"to": [TO, "abc", "999020027"]}))
        .await;
    let row = &answer["results"][0];
    assert_eq!(row["to"], TO);
    assert_eq!(
        (row["ported"].clone(), row["roaming"].clone()),
        (false.into(), false.into())
    );
    assert_eq!(row["originalNetwork"]["countryPrefix"], "41");
    assert_eq!(row["originalNetwork"]["networkPrefix"], "79");
    assert!(row["originalNetwork"]["networkId"].is_u64());
    assert!(
        row["imsi"]
            .as_str()
            .unwrap()
            .starts_with(row["mccMnc"].as_str().unwrap())
    );
    assert_eq!(row["imsi"].as_str().unwrap().len(), 15);
    assert_eq!(row["status"]["name"], "DELIVERED_TO_HANDSET");
    let invalid = &answer["results"][1];
    assert_eq!(invalid["originalNetwork"], json!({}));
    assert_eq!((invalid.get("mccMnc"), invalid.get("ported")), (None, None));
    assert_eq!(answer["results"][2]["error"]["id"], 27);
    assert_eq!(
        simulator.post("/number/1/query", json!({"to": [TO]})).await["results"][0],
        *row,
        "the same each time"
    );
    let many: Vec<_> = (0..1001).map(|n| format!("4179302{n:04}")).collect();
    let refused = post(&simulator, "/number/1/query", json!({"to": many})).await;
    assert!(reasons(&refused)["to"].is_array());
    let counted = simulator.get("/_sim/lookups").await;
    let expected =
        json!([{"to": TO, "count": 2}, {"to": "999020027", "count": 1}, {"to": "abc", "count": 1}]);
    assert_eq!(counted["lookups"], expected, "each time costs");

    let moved =
        TestSimulator::with(|config| (config.lookup_ported, config.lookup_roaming) = (1.0, 1.0))
            .await;
    let row = moved.post("/number/1/query", json!({"to": TO})).await["results"][0].clone();
    assert_eq!(
        (row["ported"].clone(), row["roaming"].clone()),
        (true.into(), true.into())
    );
    assert_ne!(
        row["portedNetwork"]["networkId"],
        row["originalNetwork"]["networkId"]
    );
    assert_ne!(row["roamingNetwork"]["countryPrefix"], "41");
}

#[tokio::test]
async fn an_asynchronous_lookup_is_pushed() {
    let (simulator, receiver) = (TestSimulator::start().await, PushReceiver::start().await);
    let request = json!({"to": [TO, "41793026834"], "notifyUrl": receiver.url("/lookups"), "notifyContentType": "application/json"});
    let answer = simulator.post("/number/1/notify", request).await;
    assert_eq!(
        answer["results"][0]["status"]["name"],
        "PENDING_WAITING_DELIVERY"
    );
    let pushed = receiver.wait_for(1).await;
    let lookups = pushed[0].json();
    assert_eq!(lookups["bulkId"], answer["bulkId"]);
    assert!(answer["results"][1]["messageId"].is_string());
    assert_eq!(lookups["results"][1].get("messageId"), None);
    assert_eq!(lookups["results"][1]["status"]["groupName"], "DELIVERED");
    let request = json!({"to": TO, "notifyUrl": receiver.url("/lookups")});
    let answer = simulator.post("/number/1/notify", request).await;
    assert_eq!(answer.get("bulkId"), None);
    let pushed = receiver.wait_for(2).await;
    assert_eq!(pushed[1].json().get("bulkId"), None);
    let without = post(&simulator, "/number/1/notify", json!({"to": TO})).await;
    assert!(reasons(&without)["notifyUrl"].is_array());
}

#[tokio::test]
async fn a_tracked_url_is_shortened_followed_and_its_click_pushed() {
    let receiver = PushReceiver::start().await;
    let url = receiver.url("/clicks");
    let simulator = TestSimulator::with(|config| config.clicks_url = Some(url)).await;
    let target = "http://www.example.com/awesomeApp/someUserId";
    let request = json!({"bulkId": "B-1", "tracking": {"track": "URL", "type": "SOCIAL_INVITES"}, "messages": [{
        "text": format!("Can you beat my score: {target}"),
        "destinations": [{"to": TO, "messageId": "m-1"}, {"to": "41793026731", "messageId": "m-2"}]}]});
    let answer = simulator.post("/sms/1/text/advanced", request).await;
    assert!(answer["trackingProcessKey"].is_string());
    let messages = simulator.messages().await;
    let short = |n: usize| {
        messages[n]["text"]
            .as_str()
            .unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(short(0).len(), 25, "{}", short(0));
    assert_ne!(short(0), short(1), "each message has its own");
    let path = short(0).split_once("s.test").unwrap().1.to_owned();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 12_0 like Mac OS X)";
    let followed = client
        .get(format!("{}{path}", simulator.base_url()))
        .header("user-agent", agent)
        .send()
        .await
        .unwrap();
    assert_eq!(followed.status(), StatusCode::FOUND);
    assert_eq!(followed.headers()["location"], target);
    let click = receiver.wait_for(1).await[0].json();
    assert_eq!(click["notificationType"], "CLICKED");
    assert_eq!(click["recipient"], TO);
    assert_eq!(click["url"], target);
    assert_eq!(
        (click["messageId"].clone(), click["bulkId"].clone()),
        ("m-1".into(), "B-1".into())
    );
    assert_eq!(click["recipientInfo"]["deviceType"], "Phone");
    assert_eq!(click["recipientInfo"]["countryPrefix"], "41");
    assert_eq!(click["geoLocationInfo"]["countryName"], "Switzerland");
    assert_eq!(
        simulator.get("/_sim/clicks").await["clicks"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        simulator
            .answer(simulator.anonymous(Method::GET, "/NONE/nowhere"))
            .await
            .status,
        StatusCode::NOT_FOUND
    );

    let confirmed = simulator
        .answer(simulator.request(Method::POST, "/ct/1/log/end/m-2"))
        .await;
    assert_eq!(
        confirmed.json(),
        json!({"processKey": answer["trackingProcessKey"]})
    );
    assert_eq!(
        simulator
            .answer(simulator.request(Method::POST, "/ct/1/log/end/m-9"))
            .await
            .status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        simulator.get("/_sim/conversions").await["conversions"][0]["messageId"],
        "m-2"
    );
}

#[tokio::test]
async fn unknown_fields_are_ignored_and_unknown_codes_have_a_shape() {
    let simulator = TestSimulator::start().await;
    let request = json!({"entityId": "e", "messages": [{"text": "a", "campaignId": 5, "regional": {"indiaDlt": {"contentTemplateId": "1"}},
        "callbackData": {"an": "object"}, "destinations": [{"to": "99901777"}, {"to": "999024999"}]}]});
    let answer = simulator.post("/sms/1/text/advanced", request).await;
    assert_eq!(answer["messages"][0]["status"]["id"], 777);
    assert_eq!(answer["messages"][0]["status"]["groupName"], "REJECTED");
    simulator.all_final().await;
    let report = simulator.get("/sms/1/reports").await["results"][0].clone();
    assert_eq!(report["error"]["id"], 4999);
    assert_eq!(report["callbackData"], json!({"an": "object"}));
}

#[tokio::test]
async fn stored_items_stay_within_their_bounds() {
    let simulator = TestSimulator::frozen_with(|config| {
        config.bounds.messages = 10;
        config.bounds.requests = 5;
        config.bounds.body_bytes = 10_000;
    })
    .await;
    for n in 0..25 {
        simulator
            .send(json!({"text": "a", "destinations": [{"to": TO, "messageId": format!("m-{n}")}]}))
            .await;
    }
    let messages = simulator.messages().await;
    assert_eq!(messages.len(), 10);
    assert_eq!(messages[0]["messageId"], "m-15", "the oldest gave way");
    assert_eq!(simulator.requests().await.len(), 5);
    let state = simulator.get("/_sim/state").await;
    assert_eq!(
        (state["evicted"].clone(), state["evictedUnfinished"].clone()),
        (15.into(), 15.into())
    );
    assert_eq!(
        simulator.get("/_sim/messages?limit=2").await["messages"][1]["messageId"],
        "m-24"
    );
    let large = json!({"messages": [{"text": "x".repeat(20_000), "destinations": [{"to": TO}]}]});
    assert_eq!(
        post(&simulator, "/sms/1/text/advanced", large).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    simulator.advance(Duration::from_secs(1)).await;
    assert_eq!(
        simulator.get("/sms/1/reports").await["results"]
            .as_array()
            .unwrap()
            .len(),
        10
    );
}
