//! Logs that lag behind, and logs with several rows of one id: a message that was accepted is never reported as rejected
//! (docs/RELIABILITY.md, P2 and P3).

use std::time::Duration;

use serde_json::{Value, json};
use smsbridge::proto::v1::{Outcome, SendResult};

use super::{LOGS, SEND, TO, handset_deliveries};
use crate::support::{
    bridge::{TestBridge, text_with_id},
    simulator::TestSimulator,
};

/// The logs of the API lag less than the bridge expects.
const LAG: Duration = Duration::from_millis(1_500);

async fn bridge(simulator: &TestSimulator, log_lag: Duration) -> TestBridge {
    TestBridge::with(simulator, |config| {
        config.infobip.log_lag = log_lag;
        config.send.in_doubt_for = Duration::from_secs(8);
    })
    .await
}

async fn send(bridge: &TestBridge) -> SendResult {
    let sent = bridge.sms().send_sms(text_with_id("r1", &[TO])).await;
    sent.unwrap().into_inner().results.remove(0)
}

fn row(id: i32, name: &str, group: (i32, &str)) -> Value {
    json!({"messageId": "default.r1", "to": TO, "status":
        {"groupId": group.0, "groupName": group.1, "id": id, "name": name}})
}

fn rejected_row() -> Value {
    row(6, "REJECTED_NETWORK", (5, "REJECTED"))
}

fn duplicate_row() -> Value {
    row(23, "REJECTED_DUPLICATE_MESSAGE_ID", (5, "REJECTED"))
}

/// The response of the first request is lost, and the logs do not have its message yet. The second request is rejected.
async fn an_earlier_acceptance_is_found(rejection: Value) {
    let simulator = TestSimulator::start().await;
    let bridge = bridge(&simulator, LAG * 2).await;
    let lag = u64::try_from(LAG.as_millis()).unwrap();
    simulator
        .fault(json!([
            {"kind": "log_lag", "ms": lag, "path": SEND},
            {"kind": "accept_then_drop", "count": 1, "path": SEND},
            rejection,
        ]))
        .await;
    let result = send(&bridge).await;
    assert_eq!(result.outcome(), Outcome::Accepted, "{result:?}");
    assert_eq!(handset_deliveries(&simulator.all_final().await), [1]);
    let paths = simulator.paths().await;
    let sends = paths.iter().filter(|path| *path == SEND).count();
    assert_eq!(sends, 2, "{paths:?}");
}

#[tokio::test]
async fn a_message_that_is_refused_when_sent_again_is_looked_up_once_more() {
    let refused = json!({"kind": "status", "status": 400, "count": 1, "path": SEND});
    an_earlier_acceptance_is_found(refused).await;
}

#[tokio::test]
async fn a_message_that_is_rejected_when_sent_again_is_looked_up_once_more() {
    let body = json!({"messages": [rejected_row()]});
    let rejected = json!({"kind": "status", "status": 200, "body": body, "count": 1, "path": SEND});
    an_earlier_acceptance_is_found(rejected).await;
}

#[tokio::test]
async fn a_message_that_is_rejected_when_sent_again_is_rejected_if_the_logs_do_not_have_it() {
    let body = json!({"messages": [rejected_row()]});
    for (fault, reason) in [
        (json!({"status": 400}), Some("API_REFUSED")),
        (json!({"status": 200, "body": body}), None),
    ] {
        let simulator = TestSimulator::start().await;
        let bridge = bridge(&simulator, Duration::from_millis(300)).await;
        let mut rejection = json!({"kind": "status", "count": 1, "path": SEND});
        for (key, value) in fault.as_object().unwrap() {
            rejection[key] = value.clone();
        }
        simulator
            .fault(json!([{"kind": "reset", "count": 1, "path": SEND}, rejection]))
            .await;
        let result = send(&bridge).await;
        assert_eq!(result.outcome(), Outcome::Rejected, "{result:?}");
        let refusal = result.refusal.as_ref();
        assert_eq!(refusal.map(|refusal| refusal.reason.as_str()), reason);
        assert_eq!(simulator.paths().await, [SEND, LOGS, SEND, LOGS]);
    }
}

/// Both responses are lost. The logs have the rejection of the second request before the acceptance of the first one.
#[tokio::test]
async fn a_message_that_the_logs_have_as_rejected_when_sent_again_is_looked_up_once_more() {
    let simulator = TestSimulator::start().await;
    let bridge = bridge(&simulator, Duration::from_millis(300)).await;
    let accepted = row(5, "DELIVERED_TO_HANDSET", (3, "DELIVERED"));
    let logs = |rows: Value| json!({"kind": "status", "status": 200, "body": {"results": rows}, "count": 1, "path": LOGS});
    simulator
        .fault(json!([
            {"kind": "reset", "count": 2, "path": SEND},
            logs(json!([])),
            logs(json!([rejected_row()])),
            logs(json!([rejected_row(), accepted])),
        ]))
        .await;
    let result = send(&bridge).await;
    assert_eq!(result.outcome(), Outcome::Accepted, "{result:?}");
    assert_eq!(simulator.paths().await, [SEND, LOGS, SEND, LOGS, LOGS]);
}

/// The API logs the rejection of a message that was sent again beside the message that it accepted.
#[tokio::test]
async fn an_accepted_row_of_the_logs_counts_whatever_the_others_say() {
    let accepted = || row(5, "DELIVERED_TO_HANDSET", (3, "DELIVERED"));
    for rows in [
        [accepted(), rejected_row(), duplicate_row()],
        [duplicate_row(), rejected_row(), accepted()],
    ] {
        let simulator = TestSimulator::start().await;
        let bridge = bridge(&simulator, LAG).await;
        simulator
            .fault(json!([
                {"kind": "accept_then_drop", "count": 1, "path": SEND},
                {"kind": "status", "status": 200, "body": {"results": rows}, "path": LOGS},
            ]))
            .await;
        assert_eq!(send(&bridge).await.outcome(), Outcome::Accepted);
    }
}

/// It tells only that the API has seen the id.
#[tokio::test]
async fn a_duplicate_in_the_logs_is_neither_a_rejection_nor_sent_again() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.send.in_doubt_for = Duration::from_secs(1);
    })
    .await;
    simulator
        .fault(json!([
            {"kind": "reset", "count": 1, "path": SEND},
            {"kind": "status", "status": 200, "body": {"results": [duplicate_row()]}, "path": LOGS},
        ]))
        .await;
    assert_eq!(send(&bridge).await.outcome(), Outcome::Unknown);
    let paths = simulator.paths().await;
    assert_eq!(paths.iter().filter(|path| *path == SEND).count(), 1);
}
