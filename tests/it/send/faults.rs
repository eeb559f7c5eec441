//! Ten thousand sends through an API that fails every fifth request: no message is sent twice, the last answer of each caller is
//! true, and no outcome stays unknown (docs/RELIABILITY.md, P2 and P3).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use smsbridge::proto::v1::{Outcome, SendResult};
use tokio::sync::Semaphore;
use tonic::Code;

use crate::support::{
    bridge::{TestBridge, text_with_id},
    simulator::TestSimulator,
};

const SENDS: usize = 10_000;
/// Number of concurrent callers.
const CALLERS: usize = 500;
/// Attempts of a caller for one message, always with the same id.
const ATTEMPTS: usize = 200;

/// Every kind of fault, together on 20% of the requests.
fn faults() -> Vec<Value> {
    let fault = |mut fault: Value| {
        fault["probability"] = json!(0.04);
        fault
    };
    vec![
        fault(json!({"kind": "accept_then_drop", "path": "/sms/1/text/advanced"})),
        fault(json!({"kind": "reset"})),
        fault(json!({"kind": "html", "status": 502})),
        fault(json!({"kind": "status", "status": 429})),
        fault(json!({"kind": "latency", "ms": 1500})),
    ]
}

async fn run(forget_ids: bool) {
    let simulator = TestSimulator::with(|config| {
        config.delivery_latency_ms = (1, 5);
        config.logs_per_minute = 0;
    })
    .await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.infobip.request_timeout = Duration::from_secs(1);
        config.infobip.log_requests_per_minute = 100_000;
        config.http.public_url = None;
    })
    .await;
    for fault in faults() {
        simulator.fault(fault).await;
    }
    if forget_ids {
        simulator.fault(json!({"kind": "forget_ids"})).await;
    }

    let at_once = Arc::new(Semaphore::new(CALLERS));
    let mut callers = Vec::new();
    for n in 0..SENDS {
        let permit = Arc::clone(&at_once).acquire_owned().await.unwrap();
        let mut sms = bridge.sms();
        callers.push(tokio::spawn(async move {
            let _permit = permit;
            let id = format!("m{n}");
            for _ in 0..ATTEMPTS {
                let mut request = tonic::Request::new(text_with_id(&id, &["41793026727"]));
                // Longer than a message waits for several outages in a row.
                request.set_timeout(Duration::from_secs(60));
                match sms.send_sms(request).await {
                    Ok(answer) => {
                        let result = answer.into_inner().results.remove(0);
                        if result.outcome() != Outcome::Unknown {
                            return (id, result);
                        }
                    }
                    Err(status) => {
                        assert!(
                            matches!(
                                status.code(),
                                Code::Unavailable
                                    | Code::DeadlineExceeded
                                    | Code::ResourceExhausted
                            ),
                            "{status:?}"
                        );
                        // Less than its RetryInfo asks for.
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            }
            panic!("{id} has no answer after {ATTEMPTS} attempts");
        }));
    }
    let mut answers: BTreeMap<String, SendResult> = BTreeMap::new();
    for caller in callers {
        let (id, result) = caller.await.unwrap();
        answers.insert(id, result);
    }
    simulator.heal().await;

    let mut ledger: BTreeMap<String, u64> = BTreeMap::new();
    for message in simulator.all_final().await {
        let id = message["messageId"]
            .as_str()
            .unwrap()
            .strip_prefix("default.")
            .unwrap()
            .to_owned();
        *ledger.entry(id).or_default() += message["handsetDeliveries"].as_u64().unwrap();
    }
    let twice: Vec<_> = ledger.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "sent twice: {twice:?}");
    let accepted: Vec<&String> = answers
        .iter()
        .filter(|(_, result)| result.outcome() == Outcome::Accepted)
        .map(|(id, _)| id)
        .collect();
    let delivered: Vec<&String> = ledger
        .iter()
        .filter(|(_, times)| **times == 1)
        .map(|(id, _)| id)
        .collect();
    assert_eq!(answers.len(), SENDS);
    assert_eq!(accepted, delivered, "the answers and the ledger agree");
    assert_log_query_precedes_every_resend(&simulator.requests().await);
}

/// Checks the requests in the order in which the API received them.
fn assert_log_query_precedes_every_resend(requests: &[Value]) {
    let mut asked_since_sent: BTreeMap<String, bool> = BTreeMap::new();
    let mut resends = 0;
    for request in requests {
        if request["path"] == "/sms/1/logs" && request["status"] == 200 {
            for id in looked_up(request) {
                asked_since_sent.entry(id).and_modify(|asked| *asked = true);
            }
        // A 429 means that the request was not processed.
        } else if request["path"] == "/sms/1/text/advanced" && request["status"] != 429 {
            for id in request["messageIds"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
            {
                if let Some(asked) = asked_since_sent.insert(id.to_owned(), false) {
                    resends += 1;
                    assert!(asked, "{id} was sent again without a look into the logs");
                }
            }
        }
    }
    assert!(resends > 0, "no resend: the test shows nothing");
}

/// The message ids in a query of the logs.
fn looked_up(request: &Value) -> Vec<String> {
    let query = request["query"].as_str().unwrap_or_default();
    let ids = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("messageId="))
        .unwrap_or_default();
    let ids = percent_encoding::percent_decode_str(ids)
        .decode_utf8()
        .unwrap();
    ids.split(',').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_sent_twice_if_the_api_fails() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_sent_twice_if_the_api_forgets_ids() {
    run(true).await;
}
