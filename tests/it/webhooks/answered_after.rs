//! Infobip hears 200 only of what is durable, seen from outside of the bridge for each of 1,000 pushes (P5): on the broker a relay
//! notes which events are confirmed, on the embedded engine a trace of the system calls shows the write and the fsync before the answer.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    process::Stdio,
    sync::Arc,
};

use parking_lot::Mutex;
use reqwest::{Client, StatusCode, header};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::support::{
    DEADLINE,
    bridge::TestBridge,
    broker::TestBroker,
    process::BridgeProcess,
    relay::{ACK, PUBLISH, Peer, relay_frames},
    simulator::TestSimulator,
};

const PUSHES: usize = 1_000;
/// Pushes at a time.
const AT_A_TIME: usize = 8;

/// Long enough for each to be another one, and all of one length.
fn id(number: usize) -> String {
    format!("pushed-{number:05}-x")
}

/// The id in these bytes.
fn id_in(bytes: &[u8]) -> Option<String> {
    let prefix = b"pushed-";
    let at = bytes
        .windows(prefix.len())
        .position(|part| part == prefix)?;
    let found = bytes.get(at..at + id(0).len())?;
    Some(String::from_utf8_lossy(found).into_owned())
}

async fn push(client: &Client, url: &str, id: &str) {
    let report = serde_json::json!({"results": [{"messageId": id, "to": "41793026727",
        "status": {"groupId": 3, "groupName": "DELIVERED", "id": 5, "name": "DELIVERED_TO_HANDSET"}}]});
    let request = client
        .post(url)
        .header(header::CONTENT_TYPE, "application/json");
    let answer = request.body(report.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

/// What a connection to the broker has published and not got confirmed: the ids of events, by channel and delivery tag.
#[derive(Default)]
struct Unconfirmed {
    last: BTreeMap<[u8; 2], u64>,
    events: BTreeMap<([u8; 2], u64), String>,
}

/// A relay to the broker that adds the id of each event to `confirmed` when it reads its confirm.
async fn noting_relay(broker_url: &str, confirmed: Arc<Mutex<HashSet<String>>>) -> String {
    relay_frames(
        broker_url,
        move |unconfirmed: &mut Unconfirmed, peer, frame| {
            let channel = frame.channel();
            if peer == Peer::Broker && frame.is_method(ACK) {
                let (first, last) = frame.acknowledged().into_inner();
                let tags = (channel, first)..=(channel, last);
                let events = unconfirmed.events.extract_if(tags, |_, _| true);
                confirmed.lock().extend(events.map(|(_, id)| id));
            } else if frame.is_method(PUBLISH) {
                *unconfirmed.last.entry(channel).or_default() += 1;
            } else if peer == Peer::Client
                && frame.is_body()
                && let (Some(tag), Some(id)) = (unconfirmed.last.get(&channel), id_in(&frame.0))
            {
                unconfirmed.events.insert((channel, *tag), id);
            }
            frame.0
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_push_is_answered_before_the_broker_confirms_its_events() {
    let broker = TestBroker::start().await;
    drop(broker.publisher().await);
    let confirmed = Arc::new(Mutex::new(HashSet::new()));
    let url = noting_relay(&broker.url, Arc::clone(&confirmed)).await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.amqp = broker.config();
        config.amqp.url = Some(url.into());
    })
    .await;
    let pushers = (0..AT_A_TIME).map(|first| {
        let (url, confirmed) = (bridge.webhook("reports"), Arc::clone(&confirmed));
        tokio::spawn(async move {
            let client = Client::new();
            for number in (first..PUSHES).step_by(AT_A_TIME) {
                let id = id(number);
                push(&client, &url, &id).await;
                assert!(
                    confirmed.lock().contains(&id),
                    "{id} was answered too early"
                );
            }
        })
    });
    for pusher in pushers.collect::<Vec<_>>() {
        pusher.await.unwrap();
    }
    assert_eq!(confirmed.lock().len(), PUSHES);
}

/// Writes the system calls of a process to a file, until it is dropped.
async fn trace(process_id: u32, file: &Path) -> tokio::process::Child {
    let calls = "trace=pwrite64,write,writev,sendto,sendmsg,recvfrom,read,fsync,fdatasync";
    let mut tracer = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-s",
            "16384",
            "-e",
            calls,
            "-e",
            "signal=none",
            "-o",
        ])
        .arg(file)
        .args(["-p", &process_id.to_string()])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("strace is installed");
    let mut lines = BufReader::new(tracer.stderr.take().unwrap()).lines();
    let attached = tokio::time::timeout(DEADLINE, lines.next_line()).await;
    let attached = attached
        .expect("strace says something")
        .unwrap()
        .unwrap_or_default();
    assert!(attached.contains("attached"), "{attached}");
    tracer
}

/// A step of a system call, in the order of the trace.
enum Step {
    Begins(String),
    /// The whole call, with its result.
    Ends(String),
}

/// The steps of a line, with the thread.
fn steps<'a>(line: &'a str, begun: &mut BTreeMap<&'a str, &'a str>) -> Vec<(&'a str, Step)> {
    let Some((thread, call)) = line.split_once(' ') else {
        return Vec::new();
    };
    let call = call.trim_start();
    if let Some(beginning) = call.strip_suffix("<unfinished ...>") {
        begun.insert(thread, beginning);
        return vec![(thread, Step::Begins(beginning.to_owned()))];
    }
    if let Some((_, end)) = call
        .strip_prefix("<... ")
        .and_then(|call| call.split_once(" resumed>"))
    {
        let beginning = begun.remove(thread).unwrap_or_default();
        return vec![(thread, Step::Ends(format!("{beginning}{end}")))];
    }
    vec![
        (thread, Step::Begins(call.to_owned())),
        (thread, Step::Ends(call.to_owned())),
    ]
}

/// The file or socket of a call: `-y` shows it behind the number.
fn file(call: &str) -> Option<String> {
    let (_, rest) = call.split_once('<')?;
    rest.split_once('>').map(|(file, _)| file.to_owned())
}

fn is_of_log(call: &str) -> bool {
    file(call).is_some_and(|file| file.ends_with("events.sqlite-wal"))
}

/// How far a push has come in the trace.
#[derive(Debug, PartialEq)]
enum Progress<'a> {
    Received,
    /// Its id is in the write-ahead log.
    Written,
    /// This thread syncs that file since then.
    Syncing(&'a str),
    Durable,
}

/// The pushes of a trace that were answered; panics at one that was answered before its fsync ended.
fn answered(trace: &str) -> HashSet<String> {
    let mut pushes: BTreeMap<String, Progress<'_>> = BTreeMap::new();
    let mut by_socket: BTreeMap<String, String> = BTreeMap::new();
    let mut begun = BTreeMap::new();
    let mut answered = HashSet::new();
    for (thread, step) in trace.lines().flat_map(|line| steps(line, &mut begun)) {
        match step {
            Step::Ends(call) if call.contains("POST /infobip") => {
                let id = id_in(call.as_bytes()).expect("the head and the body come together");
                by_socket.insert(file(&call).expect("a socket"), id.clone());
                pushes.insert(id, Progress::Received);
            }
            Step::Ends(call) if call.starts_with("pwrite64(") && is_of_log(&call) => {
                for (id, progress) in &mut pushes {
                    if *progress == Progress::Received && call.contains(id.as_str()) {
                        *progress = Progress::Written;
                    }
                }
            }
            Step::Begins(call) if call.contains("sync(") && is_of_log(&call) => {
                for progress in pushes.values_mut() {
                    if *progress == Progress::Written {
                        *progress = Progress::Syncing(thread);
                    }
                }
            }
            Step::Ends(call) if call.contains("sync(") && is_of_log(&call) => {
                assert!(call.ends_with("= 0"), "{call}");
                for progress in pushes.values_mut() {
                    if *progress == Progress::Syncing(thread) {
                        *progress = Progress::Durable;
                    }
                }
            }
            Step::Begins(call) if call.contains("HTTP/1.1 200 OK") => {
                let id = file(&call).and_then(|socket| by_socket.remove(&socket));
                let id = id.expect("a response to a push");
                let progress = pushes.remove(&id);
                assert_eq!(
                    progress,
                    Some(Progress::Durable),
                    "{id} was answered too early"
                );
                answered.insert(id);
            }
            _ => {}
        }
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs strace and the right to trace a process: `make trace-test` runs it"]
async fn no_push_is_answered_before_the_fsync_of_its_events() {
    let simulator = TestSimulator::start().await;
    let bridge = BridgeProcess::start(&simulator, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace");
    let tracer = trace(bridge.id(), &file).await;
    let url = format!("http://{}/infobip/local/reports", bridge.addresses.http);
    let pushers = (0..AT_A_TIME).map(|first| {
        let url = url.clone();
        tokio::spawn(async move {
            let client = Client::new();
            for number in (first..PUSHES).step_by(AT_A_TIME) {
                push(&client, &url, &id(number)).await;
            }
        })
    });
    for pusher in pushers.collect::<Vec<_>>() {
        pusher.await.unwrap();
    }
    bridge.stop().await;
    let mut tracer = tracer;
    tokio::time::timeout(DEADLINE, tracer.wait())
        .await
        .expect("strace ends with the process")
        .unwrap();
    let trace = std::fs::read(&file).unwrap();
    let answered = answered(&String::from_utf8_lossy(&trace));
    assert_eq!(answered.len(), PUSHES, "each push is in the trace");
}
