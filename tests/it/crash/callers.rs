//! Callers by gRPC whose replica is killed after the API has accepted their messages, and who repeat their calls on another one
//! (docs/RELIABILITY.md, P2).

use std::collections::HashMap;

use futures_util::future::join_all;
use serde_json::json;
use smsbridge::proto::v1::Outcome;

use super::{fleet::simulator, schedule::ApiMemory};
use crate::support::{
    bridge::text_with_id, broker::TestBroker, eventually, process::BridgeProcess,
};

const CALLERS: usize = 50;
const SEND_PATH: &str = "/sms/1/text/advanced";
/// Long enough that the process is killed before it gets an answer.
const LATENCY_MS: u64 = 5_000;

fn number(caller: usize) -> String {
    format!("41783{caller:06}")
}

/// Returns how often each handset got its message.
async fn messages_after_repeated_calls(memory: ApiMemory) -> Vec<u64> {
    let broker = TestBroker::start().await;
    let simulator = simulator(1, memory).await;
    let settings = [
        ("SMSBRIDGE_AMQP__URL", broker.url.as_str()),
        ("SMSBRIDGE_AMQP__PREFIX", &broker.prefix),
        ("SMSBRIDGE_HTTP__PUBLIC_URL", ""),
        ("SMSBRIDGE_SEND__IN_DOUBT_WAIT", "100ms"),
    ];
    let first = BridgeProcess::start(&simulator, &settings).await;
    let second = BridgeProcess::start(&simulator, &settings).await;
    for bridge in [&first, &second] {
        eventually("the bridge is ready", async || {
            bridge.ready().await.starts_with("ready").then_some(())
        })
        .await;
    }
    simulator
        .fault(json!({"kind": "latency", "ms": LATENCY_MS, "path": SEND_PATH}))
        .await;
    let channel = first.sms().await;
    let calls = (0..CALLERS).map(|caller| {
        let mut sms = channel.clone();
        let request = text_with_id(&format!("r{caller}"), &[&number(caller)]);
        tokio::spawn(async move { sms.send_sms(request).await })
    });
    let calls: Vec<_> = calls.collect();
    eventually("the API has every message", async || {
        (simulator.messages().await.len() == CALLERS).then_some(())
    })
    .await;
    first.kill().await;
    for call in join_all(calls).await {
        call.unwrap().unwrap_err();
    }
    simulator.heal().await;
    for fault in super::faults::of_run(memory) {
        simulator.fault(fault).await;
    }
    let channel = second.sms().await;
    let repeated = (0..CALLERS).map(|caller| {
        let mut sms = channel.clone();
        async move {
            let request = text_with_id(&format!("r{caller}"), &[&number(caller)]);
            sms.send_sms(request).await
        }
    });
    for answer in join_all(repeated).await {
        let results = answer.unwrap().into_inner().results;
        assert_eq!(results[0].outcome(), Outcome::Accepted);
    }
    second.stop().await;
    let mut deliveries: HashMap<String, u64> = HashMap::new();
    for row in simulator.all_final().await {
        let to = row["to"].as_str().unwrap().to_owned();
        *deliveries.entry(to).or_default() += row["handsetDeliveries"].as_u64().unwrap();
    }
    assert_eq!(deliveries.len(), CALLERS);
    deliveries.into_values().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_repeated_on_another_replica_send_nothing_twice_while_the_api_remembers_ids() {
    let messages = messages_after_repeated_calls(ApiMemory::LogsLag).await;
    assert_eq!(messages, [1; CALLERS]);
}

/// The hole of P2: the other replica does not know that the send began. Each call was repeated once, so there is no third
/// message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_repeated_on_another_replica_are_counted_where_the_api_forgets_ids() {
    let messages = messages_after_repeated_calls(ApiMemory::ForgetsIds).await;
    let twice = messages.iter().filter(|times| **times == 2).count();
    println!("calls repeated on another replica: {CALLERS}, sent twice {twice}");
    assert!(
        messages.iter().all(|times| (1..=2).contains(times)),
        "messages of each handset: {messages:?}"
    );
}
