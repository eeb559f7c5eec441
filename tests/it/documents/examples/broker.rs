//! The AMQP examples, against a bridge on a broker.

use std::process::Stdio;

use lapin::{
    BasicProperties,
    message::Delivery,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use smsbridge::amqp::headers::number_header;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{
    FIRST, REJECTED, SECOND, json_lines,
    language::{Examples, NodeExamples, PythonExamples},
};
use crate::support::{
    DEADLINE,
    bridge::TestBridge,
    broker::TestBroker,
    eventually,
    external_programs::{Ended, end, run},
    simulator::TestSimulator,
};

/// A bridge whose queues and exchanges are declared.
pub(in crate::documents) async fn bridge_on(
    broker: &TestBroker,
    simulator: &TestSimulator,
) -> TestBridge {
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
    let in_vain = ["--timeout", "1", "--count", "1"];
    let of_no_bridge = ["--prefix", "none", "--count", "1"];
    let rejected = [REJECTED, "--text=Hello", "--timeout", "10"];
    for (script, queue, args, said) in [
        ("amqp_events", &of_unused[..], in_vain, "0 of 1 events"),
        ("amqp_events", &of_unused, of_no_bridge, "none.events"),
        ("amqp_stream", &[], in_vain, "0 of 1 events"),
        ("amqp_stream", &[], of_no_bridge, "none.events.log"),
        ("amqp_send", &[], rejected, "send.rejected"),
    ] {
        let mut command = examples.on(&broker, script, queue);
        command.args(args);
        let ended = end(command).await;
        assert_eq!(ended.status, Some(1), "{script} {args:?}: {ended:?}");
        // Events are on stdout.
        let all = format!("{}{}", ended.stdout, ended.stderr);
        assert!(all.contains(said), "{script} {args:?}: {ended:?}");
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

/// A letter that may have been sent, or that nobody can tell from a new command, is replayed with `--force` only.
async fn replays_what_is_sent_once(examples: &impl Examples) {
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let bridge = bridge_on(&broker, &simulator).await;
    let client = broker.client().await;
    let (topology, dead) = (broker.topology(), broker.topology().dead());
    let letters = async |args: &[&str]| end(examples.on(&broker, "amqp_dead_letters", args)).await;
    let count = async || {
        let options = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let name = dead.as_str().into();
        let queue = client
            .channel
            .queue_declare(name, options, FieldTable::default());
        queue.await.unwrap().message_count()
    };
    let command =
        format!(r#"{{"message": {{"destinations": [{{"to": "{FIRST}"}}], "text": ""}}}}"#);
    let publish = async |properties: BasicProperties| {
        let commands = topology.commands();
        let body = command.as_bytes();
        client
            .publish(&commands, "sms.send", properties, body)
            .await;
        eventually("it is a dead letter", async || {
            (count().await == 1).then_some(())
        })
        .await;
    };

    // A reply and its correlation survive a replay.
    let with_id = BasicProperties::default()
        .with_message_id("r1".into())
        .with_reply_to("replies".into())
        .with_correlation_id("c1".into());
    publish(with_id).await;
    let ended = letters(&["--replay"]).await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let letter = client.take(&dead).await.properties;
    assert_eq!(letter.reply_to().as_ref().unwrap().as_str(), "replies");
    assert_eq!(letter.correlation_id().as_ref().unwrap().as_str(), "c1");

    publish(BasicProperties::default()).await;
    let ended = letters(&["--replay"]).await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("no request id"), "{ended:?}");
    // It was not published again: that letter would have another time.
    eventually("it is back in its queue", async || {
        (count().await == 1).then_some(())
    })
    .await;
    let letter = client.take(&dead).await;
    let before = died_at_ms(&letter);
    client
        .publish("", &dead, letter.properties.clone(), &letter.data)
        .await;
    eventually("it is back", async || (count().await == 1).then_some(())).await;
    let ended = letters(&["--replay", "--force"]).await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(died_at_ms(&client.take(&dead).await) > before);

    let mut headers = FieldTable::default();
    let reason = AMQPValue::LongString("DELIVERY_LIMIT".into());
    headers.insert("smsbridge-reason".into(), reason);
    // Without the bridge's other headers.
    let given_up = BasicProperties::default()
        .with_message_id("r2".into())
        .with_headers(headers);
    client
        .publish("", &dead, given_up, command.as_bytes())
        .await;
    let ended = letters(&["--replay"]).await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    let line = "-  -  -  request r2  DELIVERY_LIMIT: -\n";
    assert!(ended.stdout.starts_with(line), "{ended:?}");
    eventually("it is back in its queue", async || {
        (count().await == 1).then_some(())
    })
    .await;

    // Without a queue that takes it, a command stays a dead letter.
    let bound = BasicProperties::default().with_message_id("r3".into());
    client.take(&dead).await;
    client.publish("", &dead, bound, command.as_bytes()).await;
    bridge.stop().await;
    for queue in [
        topology.send_normal(),
        topology.unroutable(),
        topology.returned(),
    ] {
        let options = QueueDeleteOptions::default();
        let deleted = client.channel.queue_delete(queue.as_str().into(), options);
        deleted.await.unwrap();
    }
    let ended = letters(&["--replay"]).await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("returned"), "{ended:?}");
    eventually("it is back in its queue", async || {
        (count().await == 1).then_some(())
    })
    .await;
}

/// A consumer whose queue is deleted, and a URL that is none: one line, exit status 1.
async fn ends_with_a_message(examples: &impl Examples) {
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let bridge = bridge_on(&broker, &simulator).await;
    let client = broker.client().await;
    let one_line = |ended: &Ended, part: &str| {
        assert_eq!(ended.status, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(part), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    };
    for url in ["nonsense", "http://guest:guest@127.0.0.1", "amqp://h:port"] {
        let ended = end(examples.on(&broker, "amqp_stream", &["--amqp-url", url])).await;
        one_line(&ended, "--amqp-url");
    }

    let queue = format!("{}.example", broker.prefix);
    let events = ["--queue", queue.as_str()];
    let mut declare = examples.on(&broker, "amqp_events", &events);
    declare.args(["--count", "0"]);
    run(declare).await;
    run(examples.on(&broker, "amqp_send", &[FIRST, "--text", "Hello"])).await;
    bridge.stop().await;
    let stream = broker.topology().events_log();
    for (script, args, queue) in [
        ("amqp_events", &events, &queue),
        ("amqp_stream", &["--offset", "first"], &stream),
    ] {
        let mut consumer = examples.on(&broker, script, args);
        consumer.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut consumer = consumer.kill_on_drop(true).spawn().unwrap();
        let mut events = BufReader::new(consumer.stdout.take().unwrap()).lines();
        events.next_line().await.unwrap().expect("an event");
        let name = queue.as_str().into();
        let options = QueueDeleteOptions::default();
        client.channel.queue_delete(name, options).await.unwrap();
        let ended = tokio::time::timeout(DEADLINE, consumer.wait_with_output());
        let ended = ended.await.expect("it ends").unwrap();
        let ended = Ended {
            status: ended.status.code(),
            stdout: String::new(),
            stderr: String::from_utf8(ended.stderr).unwrap(),
        };
        one_line(&ended, "queue");
    }
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

/// When a command became a dead letter, in milliseconds.
fn died_at_ms(letter: &Delivery) -> i64 {
    number_header(letter.properties.headers().as_ref(), "smsbridge-died-at").unwrap()
}

#[tokio::test]
async fn python_replays_only_what_is_sent_once() {
    replays_what_is_sent_once(&PythonExamples::ready().await).await;
}

#[tokio::test]
async fn node_replays_only_what_is_sent_once() {
    replays_what_is_sent_once(&NodeExamples::ready().await).await;
}

#[tokio::test]
async fn python_amqp_examples_end_with_a_message() {
    ends_with_a_message(&PythonExamples::ready().await).await;
}

#[tokio::test]
async fn node_amqp_examples_end_with_a_message() {
    ends_with_a_message(&NodeExamples::ready().await).await;
}
