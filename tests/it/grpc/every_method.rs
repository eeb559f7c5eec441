//! Every method of the contract, called by independent clients: grpcurl (reflection v1alpha), buf (reflection v1), and the stubs
//! that grpcio-tools generates for Python. A new method of the contract needs a call in [`calls`].

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use smsbridge::proto;

use crate::support::{
    bridge::TestBridge,
    external_programs::{Ended, GRPC_TOOLS, Python, end, run},
    simulator::TestSimulator,
};

const TO: &str = "41793026727";

/// One call, and a part of its expected response.
struct Call {
    method: &'static str,
    requests: Vec<Value>,
    answered: &'static str,
}

fn at(hours: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);
    format!("{at:.0}")
}

/// Each method at least once, in an order in which each finds the data that it needs.
fn calls() -> Vec<Call> {
    let message = json!({"destinations": [{"to": TO}], "text": "Hello"});
    let scheduled = json!({"destinations": [{"to": TO}], "text": "Later", "sendAt": at(5)});
    let on_a_stream = |mark: &str| json!({"correlation": mark, "request": {"message": message}});
    let spring = || json!({"bulkId": "spring"});
    let mut calls = Vec::new();
    let mut call = |method, requests: Vec<Value>, answered| {
        calls.push(Call {
            method,
            requests,
            answered,
        });
    };
    call(
        "SmsService/SendSms",
        vec![
            json!({"requestId": "pin-1", "message": message, "tracking": {"track": "SMS", "type": "ONE_TIME_PIN"}}),
        ],
        "OUTCOME_ACCEPTED",
    );
    call(
        "SmsService/SendSmsBulk",
        vec![json!({"bulkId": "spring", "messages": [scheduled]})],
        "OUTCOME_ACCEPTED",
    );
    call(
        "SmsService/StreamSms",
        vec![on_a_stream("first"), on_a_stream("second")],
        "second",
    );
    call("SmsService/ListSmsLogs", vec![json!({})], "pin-1");
    call(
        "SmsService/GetMessage",
        vec![json!({"messageId": "pin-1"})],
        "send.accepted",
    );
    call(
        "SmsService/PreviewSms",
        vec![json!({"text": "Hello"})],
        "originalText",
    );
    call("SmsService/GetBulk", vec![spring()], "sendAt");
    call(
        "SmsService/RescheduleBulk",
        vec![json!({"bulkId": "spring", "sendAt": at(9)})],
        "sendAt",
    );
    call(
        "SmsService/GetBulkStatus",
        vec![spring()],
        "BULK_STATUS_PENDING",
    );
    call(
        "SmsService/UpdateBulkStatus",
        vec![json!({"bulkId": "spring", "status": "BULK_STATUS_PAUSED"})],
        "BULK_STATUS_PAUSED",
    );
    call(
        "SmsService/ConfirmConversion",
        vec![json!({"messageId": "pin-1"})],
        "processKey",
    );
    call(
        "ReportService/PullDeliveryReports",
        vec![json!({})],
        "DELIVERED_TO_HANDSET",
    );
    call(
        "InboxService/PullReceivedMessages",
        vec![json!({})],
        "Hi there",
    );
    call(
        "InboxService/ListReceivedMessages",
        vec![json!({})],
        "Hi there",
    );
    call(
        "LookupService/LookupNumbers",
        vec![json!({"to": [TO]})],
        "mccMnc",
    );
    call(
        "LookupService/RequestNumberLookup",
        vec![json!({"to": [TO]})],
        "PENDING_WAITING_DELIVERY",
    );
    call(
        "EventService/StreamEvents",
        vec![
            json!({"since": "2020-01-01T00:00:00Z", "endAtHead": true, "filter": {"types": ["send.#"]}}),
        ],
        "send.accepted",
    );
    call(
        "EventService/Subscribe",
        vec![json!({"start": {"name": "mine"}})],
        "created",
    );
    call(
        "ReferenceService/ListStatuses",
        vec![json!({})],
        "DELIVERED_TO_HANDSET",
    );
    call(
        "ReferenceService/ListErrors",
        vec![json!({})],
        "EC_ABSENT_SUBSCRIBER",
    );
    call("AccountService/GetBalance", vec![json!({})], "balance");
    for method in [
        "AdminService/ListDeadLetters",
        "AdminService/GetDeadLetter",
        "AdminService/ReplayDeadLetters",
        "AdminService/DiscardDeadLetters",
    ] {
        call(method, vec![json!({})], WITHOUT_BROKER);
    }
    let id = "0192f0c1-6e1f-7a53-a2a5-3c5be1d1a9f4";
    call("AdminService/ListQuarantined", vec![json!({})], "");
    call(
        "AdminService/GetQuarantined",
        vec![json!({"id": id})],
        NOT_THERE,
    );
    for method in [
        "AdminService/ReplayQuarantined",
        "AdminService/DiscardQuarantined",
    ] {
        call(method, vec![json!({"ids": [id]})], id);
    }
    call("AdminService/Reconcile", vec![json!({})], NOT_BUILT);
    calls
}

/// Part of the error text of methods that are not implemented.
const NOT_BUILT: &str = "not part of this version";
/// Part of the error text of a method that finds nothing.
const NOT_THERE: &str = "there is nothing with this id";
/// Part of the error text of methods that need a broker, which this bridge has not; all others answer OK.
const WITHOUT_BROKER: &str = "set amqp.url";

impl Call {
    fn code(&self) -> &'static str {
        match self.answered {
            NOT_BUILT => "UNIMPLEMENTED",
            NOT_THERE => "NOT_FOUND",
            WITHOUT_BROKER => "FAILED_PRECONDITION",
            _ => "OK",
        }
    }

    fn full_name(&self) -> String {
        format!("smsbridge.v1.{}", self.method)
    }

    /// The requests in the form that command-line clients read.
    fn data(&self) -> String {
        let requests = self.requests.iter().map(Value::to_string);
        requests.collect::<Vec<_>>().join("\n")
    }

    fn assert_ended(&self, ended: &Ended) {
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains(self.answered), "{}: {said}", self.method);
        let is_ok = self.code() == "OK";
        assert_eq!(ended.status == Some(0), is_ok, "{}: {said}", self.method);
        assert_eq!(
            said.to_lowercase().contains("unimplemented"),
            self.code() == "UNIMPLEMENTED",
            "{}: {said}",
            self.method
        );
    }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

async fn python() -> Python {
    Python::with(&repository("examples/python/requirements.txt"), GRPC_TOOLS).await
}

/// A bridge with unread data to pull: a received message, and a report that is not pushed.
async fn bridge() -> (TestSimulator, TestBridge) {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    simulator.inbound(TO, "41790000000", "Hi there").await;
    let unpushed =
        json!({"destinations": [{"to": TO, "messageId": "default.raw-1"}], "text": "Hello"});
    simulator.send(unpushed).await;
    simulator.all_final().await;
    (simulator, bridge)
}

#[test]
fn calls_cover_every_method() {
    let called: BTreeSet<_> = calls().iter().map(Call::full_name).collect();
    let ours = proto::methods().iter();
    let ours: BTreeSet<_> = ours
        .filter(|method| method.starts_with("smsbridge."))
        .cloned()
        .collect();
    assert_eq!(called, ours);
}

#[tokio::test]
async fn grpcurl_calls_every_method() {
    let python = python().await;
    let (_simulator, bridge) = bridge().await;
    let address = bridge.addresses.grpc.to_string();
    for call in calls() {
        let mut grpcurl = python.program("grpcurl");
        grpcurl.args([
            "-plaintext",
            "-d",
            &call.data(),
            &address,
            &call.full_name(),
        ]);
        call.assert_ended(&end(grpcurl).await);
    }
    bridge.stop().await;
}

#[tokio::test]
async fn buf_calls_every_method() {
    let python = python().await;
    let (_simulator, bridge) = bridge().await;
    for call in calls() {
        let mut buf = python.program("buf");
        let url = format!("http://{}/{}", bridge.addresses.grpc, call.full_name());
        buf.args(["curl", "--protocol", "grpc", "--http2-prior-knowledge"])
            .args(["--reflect-protocol", "grpc-v1", "-d", &call.data(), &url]);
        call.assert_ended(&end(buf).await);
    }
    bridge.stop().await;
}

#[tokio::test]
async fn pythons_stubs_call_every_method() {
    let python = python().await;
    let (_simulator, bridge) = bridge().await;
    let folder = tempfile::tempdir().unwrap();
    let mut make = python.script(&repository("examples/python/make_stubs.py"));
    make.arg(folder.path());
    run(make).await;
    let calls = calls();
    let list: Vec<_> = calls
        .iter()
        .map(|call| json!({"method": call.full_name(), "requests": call.requests}))
        .collect();
    let file = folder.path().join("calls.json");
    std::fs::write(&file, Value::from(list).to_string()).unwrap();
    let mut script = python.script(&repository("tests/clients/python/every_method.py"));
    script
        .arg(bridge.addresses.grpc.to_string())
        .arg(&file)
        .env("PYTHONPATH", folder.path());
    let answers: Vec<Value> = serde_json::from_str(&run(script).await).unwrap();
    assert_eq!(answers.len(), calls.len());
    for (call, answer) in calls.iter().zip(answers) {
        let said = answer["answers"].to_string();
        assert!(said.contains(call.answered), "{}: {answer}", call.method);
        assert_eq!(answer["code"], call.code(), "{}: {said}", call.method);
    }
    bridge.stop().await;
}
