//! What the bridge logs: its start, each outage once when it begins and once when it ends, the steps of a message, and the access
//! logs. No line contains a credential, a number or a text.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    amqp::lookup,
    support::{
        bridge::{text, text_with_id},
        broker::TestBroker,
        eventually,
        ports::unused_address,
        process::{BridgeProcess, parsed},
        simulator::{PASSWORD, TestSimulator, USERNAME},
    },
};

const NUMBER: &str = "41793026727";
const TEXT: &str = "Your code is seven";

fn message(line: &Value) -> &str {
    line["message"].as_str().unwrap_or_default()
}

/// Level and message of each line.
fn summary(lines: &[Value]) -> Vec<String> {
    let shown = |line: &Value| format!("{} {}", line["level"].as_str().unwrap(), message(line));
    lines.iter().map(shown).collect()
}

fn with_message<'a>(lines: &'a [Value], part: &str) -> Vec<&'a Value> {
    let matches = |line: &&Value| message(line).contains(part);
    lines.iter().filter(matches).collect()
}

/// Steps at `debug` too.
const DEBUG: (&str, &str) = ("SMSBRIDGE_LOG__FILTER", "info,smsbridge=debug");

/// Waits until this many lines with this message are logged after the first `before` ones.
async fn repeated(bridge: &BridgeProcess, before: usize, part: &str, times: usize) {
    eventually(part, async || {
        let lines = bridge.logged();
        (with_message(&lines[before..], part).len() >= times).then_some(())
    })
    .await;
}

/// The lines that are not at `debug`.
fn without_debug(lines: &[Value]) -> Vec<Value> {
    let shown = lines.iter().filter(|line| line["level"] != "DEBUG");
    shown.cloned().collect()
}

/// Waits until a line with this message is logged; returns all lines.
async fn logs(bridge: &BridgeProcess, part: &str) -> Vec<Value> {
    eventually(part, async || {
        let lines = bridge.logged();
        (!with_message(&lines, part).is_empty()).then_some(lines)
    })
    .await
}

#[tokio::test]
async fn the_start_tells_what_runs_and_no_secret() {
    let simulator = TestSimulator::start().await;
    let secret = "a-secret-of-this-test";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("smsbridge.toml");
    std::fs::write(&file, format!("[http]\nsecret = \"{secret}\"\n")).unwrap();
    let file = file.to_str().unwrap();
    let bridge = BridgeProcess::start(&simulator, &[("SMSBRIDGE_CONFIG", file)]).await;
    let (_, said) = bridge.stop().await;
    let lines = parsed(&said);
    let only = |part: &str| {
        let found = with_message(&lines, part);
        assert_eq!(found.len(), 1, "{part} in {said}");
        found[0].clone()
    };
    let start = only("starting");
    assert_eq!(start["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(start["config"], file);
    let api = only("requests go to the API");
    assert_eq!(api["base_url"], simulator.base_url());
    assert_eq!(api["credentials"], "username and password");
    let log = only("events are stored");
    assert_eq!(log["engine"], "embedded");
    let callers = only("calls are accepted");
    assert_eq!(callers["authentication"], "none");
    assert_eq!(callers["tls"], false);
    let pushes = only("URLs for Infobip");
    let inbound = pushes["inbound"].as_str().unwrap();
    assert!(inbound.ends_with("/infobip/***/inbound"), "{inbound}");
    assert_eq!(with_message(&lines, "no report").len(), 0);
    assert!(!said.contains("WARN"), "{said}");
    for private in [secret, USERNAME, PASSWORD] {
        assert!(!said.contains(private), "{private} in {said}");
    }
}

#[tokio::test]
async fn a_bridge_without_a_public_url_warns_once_that_no_report_arrives() {
    let simulator = TestSimulator::start().await;
    let settings = [("SMSBRIDGE_HTTP__PUBLIC_URL", "")];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    let (_, said) = bridge.stop().await;
    let lines = parsed(&said);
    let warned = with_message(&lines, "http.public_url");
    assert_eq!(warned.len(), 1, "{said}");
    assert_eq!(warned[0]["level"], "WARN");
}

#[tokio::test]
async fn an_outage_of_the_api_is_logged_when_it_begins_and_when_it_ends() {
    let simulator = TestSimulator::start().await;
    let address = unused_address();
    let url = format!("http://{address}");
    let settings = [("SMSBRIDGE_INFOBIP__BASE_URL", url.as_str()), DEBUG];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    let mut sms = bridge.sms().await;
    let again = sms.clone();
    let sending = tokio::spawn(async move { sms.send_sms(text(&[NUMBER], TEXT)).await });
    let lines = logs(&bridge, "the API cannot").await;
    let begin = with_message(&lines, "the API cannot be reached");
    assert_eq!(begin.len(), 1, "{lines:?}");
    assert_eq!(begin[0]["base_url"], url);
    assert!(begin[0]["cause"].as_str().unwrap().contains("refused"));
    repeated(&bridge, 0, "the API does not take sends now", 3).await;
    let refused = sending.await.unwrap().unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    let _back = TestSimulator::with(|config| config.listen = address).await;
    eventually("a probe is answered", async || {
        again.clone().send_sms(text(&[NUMBER], TEXT)).await.ok()
    })
    .await;
    let (_, said) = bridge.stop().await;
    let api: Vec<Value> = without_debug(&parsed(&said))
        .into_iter()
        .filter(|line| message(line).starts_with("the API "))
        .collect();
    assert_eq!(api.len(), 2, "{said}");
    assert_eq!(message(&api[1]), "the API is reached again");
    assert!(api[1]["failed_requests"].as_u64().unwrap() >= 3, "{said}");
    assert!(api[1]["after_s"].as_f64().unwrap() > 0.0, "{said}");
}

#[tokio::test]
async fn a_refused_password_of_the_api_is_logged_once() {
    let simulator = TestSimulator::start().await;
    let settings = [("SMSBRIDGE_INFOBIP__PASSWORD", "wrong-password")];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    for _ in 0..3 {
        let refused = bridge.sms().await.send_sms(text(&[NUMBER], TEXT)).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::FailedPrecondition);
    }
    let (_, said) = bridge.stop().await;
    let problems: Vec<Value> = parsed(&said)
        .into_iter()
        .filter(|line| line["level"] == "WARN" || line["level"] == "ERROR")
        .collect();
    assert_eq!(problems.len(), 1, "{said}");
    assert!(message(&problems[0]).contains("infobip.password"), "{said}");
    assert!(!said.contains("wrong-password"), "{said}");
}

/// Starts a bridge with this broker URL, and returns the only problem that it logs, and the text of `/ready`.
async fn problem_with(broker: &TestBroker, url: &str) -> (Value, String) {
    let simulator = TestSimulator::start().await;
    let settings = [
        ("SMSBRIDGE_AMQP__URL", url),
        ("SMSBRIDGE_AMQP__PREFIX", &broker.prefix),
        DEBUG,
    ];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    repeated(&bridge, 0, "the publisher has no session", 3).await;
    repeated(&bridge, 0, "commands cannot be consumed", 3).await;
    let ready = bridge.ready().await;
    let (_, said) = bridge.stop().await;
    assert!(!said.contains("lapin"), "{said}");
    let mut problems: Vec<Value> = parsed(&said)
        .into_iter()
        .filter(|line| line["level"] == "WARN" || line["level"] == "ERROR")
        .collect();
    assert_eq!(problems.len(), 1, "{said}");
    (problems.remove(0), ready)
}

#[tokio::test(flavor = "multi_thread")]
async fn causes_of_an_outage_of_the_broker_are_told_apart() {
    let broker = TestBroker::start().await;
    let (_, host) = broker.url.split_once('@').unwrap();
    let (host, _) = host.split_once('/').unwrap();
    for (url, cause) in [
        (
            format!("amqp://guest:wrong-password@{host}/%2f"),
            "user or password of amqp.url is refused",
        ),
        (
            format!("amqp://guest:guest@{host}/nowhere"),
            "the vhost `nowhere` does not exist",
        ),
        (
            format!("amqps://guest:guest@{host}/%2f"),
            "amqps:// is for a TLS port",
        ),
        (
            "amqp://guest:guest@127.0.0.1:1/%2f".to_owned(),
            "cannot be reached: Connection refused",
        ),
    ] {
        let (problem, ready) = problem_with(&broker, &url).await;
        let logged = problem["cause"].as_str().unwrap().to_owned();
        assert!(logged.contains(cause), "{problem}");
        assert!(ready.contains(&logged), "{ready} / {logged}");
        assert!(!problem.to_string().contains("wrong-password"), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_broker_is_logged_when_it_begins_and_when_it_ends() {
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let proxy = broker.proxy().await;
    let settings = [
        ("SMSBRIDGE_AMQP__URL", proxy.url.as_str()),
        ("SMSBRIDGE_AMQP__PREFIX", &broker.prefix),
        DEBUG,
    ];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    logs(&bridge, "commands are consumed").await;
    let before = bridge.logged().len();
    proxy.down();
    repeated(&bridge, before, "the publisher has no session", 3).await;
    repeated(&bridge, before, "commands cannot be consumed", 3).await;
    proxy.up();
    logs(&bridge, "the broker is available again").await;
    eventually("the bridge is ready", async || {
        (bridge.ready().await == "ready\n").then_some(())
    })
    .await;
    let lines = without_debug(&bridge.logged()[before..]);
    assert_eq!(
        summary(&lines),
        [
            "WARN the broker is unavailable: trying again until it is back",
            "INFO the broker is available again",
        ],
    );
    assert!(lines[1]["after_s"].as_f64().unwrap() > 0.0, "{lines:?}");
    bridge.stop().await;
}

/// The steps of one message at `debug`, in their order.
#[tokio::test]
async fn the_path_of_a_message_is_logged_at_debug_without_its_number_and_text() {
    // The report comes when the test advances the clock, after the answer.
    let simulator = TestSimulator::frozen().await;
    let settings = [DEBUG];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    let request = smsbridge::proto::v1::SendSmsRequest {
        request_id: "r-good".into(),
        ..text(&[NUMBER], TEXT)
    };
    bridge.sms().await.send_sms(request).await.unwrap();
    logs(&bridge, "a send was answered").await;
    simulator.advance(Duration::from_secs(60)).await;
    logs(&bridge, "events were stored").await;
    let invalid = smsbridge::proto::v1::SendSmsRequest {
        request_id: "r-bad".into(),
        ..text(&[NUMBER], "")
    };
    bridge.sms().await.send_sms(invalid).await.unwrap_err();
    let (_, said) = bridge.stop().await;
    let lines = parsed(&said);
    let steps = |id: &str| -> Vec<String> {
        lines
            .iter()
            .filter(|line| line["level"] == "DEBUG" && line.to_string().contains(id))
            .map(|line| message(line).to_owned())
            .collect()
    };
    assert_eq!(
        steps("r-good"),
        [
            "a send was received",
            "a send was admitted",
            "a batch is sent",
            "a result",
            "results were stored",
            "a send was answered",
            "events were stored",
        ],
        "{said}"
    );
    assert_eq!(
        steps("r-bad"),
        ["a send was received", "a send was refused"],
        "{said}"
    );
    for private in [NUMBER, TEXT] {
        assert!(!said.contains(private), "{private} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_of_a_look_up_is_logged_at_debug_without_its_number() {
    let simulator = TestSimulator::start().await;
    let broker = TestBroker::start().await;
    let settings = [
        ("SMSBRIDGE_AMQP__URL", broker.url.as_str()),
        ("SMSBRIDGE_AMQP__PREFIX", &broker.prefix),
        DEBUG,
    ];
    drop(broker.publisher().await);
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    let client = broker.client().await;
    let publish = async |request_id: &str| {
        let properties = lookup::with_id(request_id);
        lookup::publish(&broker, &client, properties, &[NUMBER.into()]).await;
    };
    publish("r-found").await;
    repeated(&bridge, 0, "a command ended", 1).await;
    simulator
        .fault(json!({"kind": "status", "status": 503, "processed": true, "path": lookup::LOOKUP_PATH, "count": 1}))
        .await;
    publish("r-lost").await;
    repeated(&bridge, 0, "a command ended", 2).await;
    let (_, said) = bridge.stop().await;
    let lines = parsed(&said);
    let steps = |id: &str| -> Vec<&str> {
        let of_id = lines.iter().filter(|line| line["request_id"] == id);
        of_id.map(message).collect()
    };
    let (received, asked, ended) = (
        "a command was received",
        "numbers are looked up",
        "a command ended",
    );
    let lost = "the answer to a look-up is lost: its numbers are not asked again";
    assert_eq!(steps("r-found"), [received, asked, ended]);
    assert_eq!(steps("r-lost"), [received, asked, lost, ended]);
    assert!(!said.contains(NUMBER), "{said}");
}

#[tokio::test]
async fn access_logs_have_filters_of_their_own() {
    let simulator = TestSimulator::start().await;
    let settings = [("SMSBRIDGE_LOG__FILTER", "info,smsbridge::access=debug")];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    let mut request = tonic::Request::new(text_with_id("r1", &[NUMBER]));
    let application = "billing".parse().unwrap();
    request
        .metadata_mut()
        .insert("x-smsbridge-application", application);
    bridge.sms().await.send_sms(request).await.unwrap();
    let url = format!("http://{}/infobip/local/clicks", bridge.addresses.http);
    let click =
        json!({"notificationType": "CLICKED", "recipient": NUMBER, "messageId": "default.m1"});
    let push = reqwest::Client::new().post(url).body(click.to_string());
    assert_eq!(push.send().await.unwrap().status(), 200);
    let (_, said) = bridge.stop().await;
    let lines = parsed(&said);
    let calls: Vec<&Value> = lines
        .iter()
        .filter(|line| line["target"] == "smsbridge::access::grpc")
        .collect();
    assert_eq!(calls.len(), 1, "{said}");
    assert_eq!(calls[0]["method"], "smsbridge.v1.SmsService/SendSms");
    assert_eq!(calls[0]["application"], "billing");
    assert_eq!(calls[0]["code"], "OK");
    assert!(calls[0]["ms"].is_number(), "{said}");
    let clicks = lines.iter().find(|line| {
        line["target"] == "smsbridge::access::webhooks" && line["endpoint"] == "clicks"
    });
    let clicks = clicks.unwrap_or_else(|| panic!("{said}"));
    assert_eq!(clicks["status"], 200);
    assert!(clicks["ms"].is_number(), "{said}");
    assert!(!said.contains(NUMBER), "{said}");
}

#[tokio::test]
async fn refused_pushes_are_logged_and_unauthorized_ones_once_a_minute() {
    let simulator = TestSimulator::start().await;
    let secret = "a-secret-of-this-test";
    let settings = [
        ("SMSBRIDGE_HTTP__SECRET", secret),
        ("SMSBRIDGE_HTTP__MAX_BODY_BYTES", "1024"),
    ];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    let push = async |secret: &str, body: String| {
        let url = format!("http://{}/infobip/{secret}/reports", bridge.addresses.http);
        let sent = reqwest::Client::new().post(url).body(body).send().await;
        sent.unwrap().status().as_u16()
    };
    assert_eq!(push(secret, "x".repeat(1025)).await, 413);
    for _ in 0..3 {
        assert_eq!(push("an-earlier-secret", String::new()).await, 404);
    }
    let (_, said) = bridge.stop().await;
    let warnings: Vec<Value> = parsed(&said)
        .into_iter()
        .filter(|line| line["level"] == "WARN")
        .collect();
    assert_eq!(warnings.len(), 2, "{said}");
    let [refused, unauthorized] = [&warnings[0], &warnings[1]];
    assert!(message(refused).contains("http.max_body_bytes"), "{said}");
    assert_eq!(refused["endpoint"], "reports");
    assert_eq!(refused["max_body_bytes"], 1024);
    assert!(message(unauthorized).contains("http.secret"), "{said}");
    assert_eq!(unauthorized["endpoint"], "reports");
    assert_eq!(unauthorized["pushes"], 1);
    for private in [secret, "an-earlier-secret"] {
        assert!(!said.contains(private), "{private} in {said}");
    }
}

/// An empty field would look like an id.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_about_a_request_without_an_id_has_no_field_for_it() {
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let settings = [
        ("SMSBRIDGE_AMQP__URL", broker.url.as_str()),
        ("SMSBRIDGE_AMQP__PREFIX", &broker.prefix),
        DEBUG,
    ];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    let _declared = broker.publisher().await;
    let client = broker.client().await;
    let commands = broker.topology().commands();
    for id in ["", "r-dead"] {
        let properties = lapin::BasicProperties::default();
        let properties = match id {
            "" => properties,
            id => properties.with_message_id(id.into()),
        };
        let body = format!(r#"{{"message": "{TEXT} {NUMBER}"}}"#);
        client
            .publish(&commands, "sms.send", properties, body.as_bytes())
            .await;
    }
    let sms = text(&[NUMBER], TEXT);
    bridge.sms().await.send_sms(sms).await.unwrap();
    let dead = "dead-lettering an invalid command";
    repeated(&bridge, 0, dead, 2).await;
    let (_, said) = bridge.stop().await;
    let lines = parsed(&said);
    let mut ids: Vec<_> = with_message(&lines, dead)
        .into_iter()
        .map(|line| line.get("request_id").cloned())
        .collect();
    ids.sort_by_key(Option::is_some);
    assert_eq!(ids, [None, Some(json!("r-dead"))], "{said}");
    // It says where the mistake is, and not what was in the body.
    for line in with_message(&lines, dead) {
        assert_eq!(
            (&line["level"], &line["cause"]),
            (&json!("INFO"), &json!("caller"))
        );
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.starts_with("line 1 column "), "{detail}");
        assert_eq!(line["reason"], "UNREADABLE_REQUEST");
    }
    assert!(!said.contains(TEXT) && !said.contains(NUMBER), "{said}");
    assert!(!with_message(&lines, "a send was answered").is_empty());
    for line in &lines {
        assert_ne!(line.get("request_id"), Some(&json!("")), "{line}");
    }
}
