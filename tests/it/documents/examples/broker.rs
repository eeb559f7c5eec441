//! The AMQP examples, against a bridge on a broker.

use super::{
    FIRST, REJECTED, SECOND, json_lines,
    language::{Examples, NodeExamples, PythonExamples},
};
use crate::support::{
    bridge::TestBridge,
    broker::TestBroker,
    eventually,
    external_programs::{end, run},
    simulator::TestSimulator,
};

/// A bridge whose queues and exchanges are declared.
async fn bridge_on(broker: &TestBroker, simulator: &TestSimulator) -> TestBridge {
    let bridge = TestBridge::with(simulator, |config| config.amqp = broker.config()).await;
    let ready = format!("http://{}/ready", bridge.addresses.admin);
    eventually("the bridge is ready", async || {
        let answer = reqwest::get(&ready).await.unwrap();
        answer.status().is_success().then_some(())
    })
    .await;
    bridge
}

async fn publishes_and_consumes(examples: &impl Examples) {
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let bridge = bridge_on(&broker, &simulator).await;
    let queue = format!("{}.example", broker.prefix);
    let consume = |args: &[&str]| {
        let mut command = examples.on(&broker, "amqp_events", &["--queue", &queue]);
        command.args(args);
        command
    };
    run(consume(&["--count", "0"])).await;

    let printed = run(examples.on(&broker, "amqp_send", &[FIRST, SECOND, "--text", "Hello"])).await;
    for event in ["send.accepted", "report.delivered"] {
        for to in [FIRST, SECOND] {
            let expected = format!("{event}  default  {to}  ");
            assert!(printed.contains(&expected), "{printed}");
        }
    }
    let bulk = [
        FIRST,
        "--text",
        "One",
        "--text",
        "Two",
        "--urgent",
        "--application",
        "shop",
    ];
    let printed = run(examples.on(&broker, "amqp_send", &bulk)).await;
    assert_eq!(
        printed.matches("report.delivered  shop").count(),
        2,
        "{printed}"
    );
    assert_eq!(simulator.messages().await.len(), 4);

    let printed = run(consume(&["--count", "8", "--json", "--delete"])).await;
    let ids: std::collections::BTreeSet<_> = json_lines(&printed)
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 8, "{printed}");

    // The same events from the stream: all of them, then from an offset on.
    let stream = async |args: &[&str]| {
        let printed = run(examples.on(&broker, "amqp_stream", args)).await;
        printed.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = stream(&["--offset", "first", "--count", "8"]).await;
    assert!(
        all[0].starts_with("0  ") && all[7].starts_with("7  "),
        "{all:?}"
    );
    assert_eq!(stream(&["--offset", "6", "--count", "2"]).await, all[6..]);
    assert_eq!(stream(&["--since", "600", "--count", "8"]).await, all);

    // An example fails if what it expects does not happen.
    let unused = format!("{}.unused", broker.prefix);
    let of_unused = ["--queue", &unused, "--delete"];
    for (script, queue, args) in [
        (
            "amqp_events",
            &of_unused[..],
            ["--timeout", "1", "--count", "1"],
        ),
        (
            "amqp_events",
            &of_unused,
            ["--prefix", "none", "--count", "1"],
        ),
        ("amqp_stream", &[], ["--timeout", "1", "--count", "1"]),
        ("amqp_stream", &[], ["--prefix", "none", "--count", "1"]),
        (
            "amqp_send",
            &[],
            [REJECTED, "--text=Hello", "--timeout", "10"],
        ),
    ] {
        let mut command = examples.on(&broker, script, queue);
        command.args(args);
        let ended = end(command).await;
        assert_eq!(ended.status, Some(1), "{script} {args:?}: {ended:?}");
    }
    bridge.stop().await;
}

async fn shows_and_replays_dead_letters(examples: &impl Examples) {
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let bridge = bridge_on(&broker, &simulator).await;
    let letters = async |args: &[&str]| run(examples.on(&broker, "amqp_dead_letters", args)).await;
    assert_eq!(letters(&[]).await, "no dead letters\n");

    let invalid = [FIRST, "--text", "", "--request-id", "r1", "--urgent"];
    let ended = end(examples.on(&broker, "amqp_send", &invalid)).await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    let mistake = "command.invalid  default  request r1  INVALID_REQUEST: message.text: ";
    assert!(ended.stdout.contains(mistake), "{ended:?}");

    let client = broker.client().await;
    let dead = broker.topology().dead();
    eventually("it is a dead letter", async || {
        let printed = letters(&["--json"]).await;
        let letter = "default  sms.send.urgent  request r1  INVALID_REQUEST: ";
        (printed.contains(letter) && printed.contains(FIRST)).then_some(())
    })
    .await;
    // It is still there, so it can be replayed; then it comes back, because nothing was corrected.
    letters(&["--replay"]).await;
    let letter = client.take(&dead).await;
    assert_eq!(
        letter.properties.message_id().as_ref().unwrap().as_str(),
        "r1"
    );
    assert!(
        client.try_take(&dead).await.is_none(),
        "the first one was removed"
    );

    let ended = end(examples.on(&broker, "amqp_send", &invalid)).await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    eventually("it is discarded", async || {
        letters(&["--discard"])
            .await
            .contains("request r1")
            .then_some(())
    })
    .await;
    assert_eq!(letters(&[]).await, "no dead letters\n");
    bridge.stop().await;
}

#[tokio::test]
async fn python_publishes_commands_and_consumes_events() {
    publishes_and_consumes(&PythonExamples::ready().await).await;
}

#[tokio::test]
async fn python_shows_and_replays_dead_letters() {
    shows_and_replays_dead_letters(&PythonExamples::ready().await).await;
}

#[tokio::test]
async fn node_publishes_commands_and_consumes_events() {
    publishes_and_consumes(&NodeExamples::ready().await).await;
}

#[tokio::test]
async fn node_shows_and_replays_dead_letters() {
    shows_and_replays_dead_letters(&NodeExamples::ready().await).await;
}
