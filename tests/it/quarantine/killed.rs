//! A replay that a kill ends between two durable steps loses nothing and doubles nothing.

use super::*;
use crate::support::{DEADLINE, process::BridgeProcess};

/// Replays all with a process that is killed at a point, and again with another one.
async fn replay_with_a_kill(engine: &Engine, seeds: Vec<Quarantined>, at: &str) -> Operated {
    let folder = tempfile::tempdir().unwrap();
    engine.seed(&folder, seeds).await;
    let simulator = TestSimulator::start().await;
    let mut settings = engine.settings();
    settings.push(("SMSBRIDGE_KILL_AT", at));
    settings.push(("SMSBRIDGE_LOG__FILTER", "info,smsbridge=debug"));
    let bridge = BridgeProcess::start_in(folder, &simulator, &settings).await;
    let mut admin = Admin::new(bridge.connect().await);
    let request = v1::ReplayQuarantinedRequest::default();
    assert!(
        admin.replay_quarantined(request).await.is_err(),
        "{at} is reached"
    );
    let ended = bridge.kill_after(DEADLINE).await;
    assert!(ended.status.is_some(), "it ended by itself");
    assert!(!ended.said.contains("41793026727"), "{}", ended.said);
    let bridge = TestBridge::at(&simulator.base_url(), ended.folder, |config| {
        engine.configure(config);
    })
    .await;
    Operated {
        admin: Admin::new(bridge.channel.clone()),
        engine: Engine::Embedded,
        simulator,
        bridge,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn between_the_events_and_the_removal_nothing_is_lost() {
    on_both_engines(async |engine| {
        let operated = replay_with_a_kill(&engine, seeds(20), "events-stored:7").await;
        let left = operated.list().await.len();
        assert_eq!(left, 21 - 6, "the one whose removal is missing is there");
        let replayed = operated.replay(Vec::new()).await;
        assert_eq!((replayed.count, replayed.unreadable_count), (14, 1));
        assert_eq!(message_ids(&operated.bridge).await.len(), 20);
        assert_eq!(operated.list().await.len(), 1);
        operated.bridge.stop().await;
    })
    .await;
}

/// Messages without ids get the same ones again.
#[tokio::test(flavor = "multi_thread")]
async fn messages_without_ids_are_the_same_events_again() {
    on_both_engines(async |engine| {
        let row = r#"{"from":"41793026727","to":"41790000000","text":"Hi"}"#;
        let rows = format!(r#"{{"results":[{row},7,{row}]}}"#);
        let rows = body(origin("inbound", Source::Push), &rows);
        let query = "sender=41793026727&receiver=41790000000&text=Hi";
        let query = body(origin("inbound", Source::Query), query);
        let seeds = vec![rows, query];
        // The second body's events are stored, and it is there.
        let operated = replay_with_a_kill(&engine, seeds.clone(), "events-stored:2").await;
        assert_eq!(
            operated.list().await.len(),
            2,
            "it, and the row that nobody reads"
        );
        let replayed = operated.replay(Vec::new()).await;
        assert_eq!((replayed.count, replayed.unreadable_count), (1, 1));
        let events = distinct(operated.bridge.all_events().await);
        assert_eq!(events.len(), 3, "{events:?}");
        operated.bridge.stop().await;
        // The first body's.
        engine.discard_all().await;
        let operated = replay_with_a_kill(&engine, vec![seeds[0].clone()], "events-stored").await;
        assert_eq!(operated.replay(Vec::new()).await.count, 1);
        let events = distinct(operated.bridge.all_events().await);
        let expected = match &engine {
            Engine::Embedded => 2,
            Engine::Broker(_) => 3,
        };
        assert_eq!(events.len(), expected, "{events:?}");
        assert_eq!(operated.list().await.len(), 1);
        operated.bridge.stop().await;
    })
    .await;
}

/// Only the broker has two steps here: the rows that nobody reads are in quarantine twice then, until the next visit.
#[tokio::test(flavor = "multi_thread")]
async fn between_the_unreadable_rows_and_the_removal_nothing_is_doubled() {
    let broker = TestBroker::start().await;
    drop(broker.publisher().await);
    let engine = Engine::Broker(broker);
    let rows = report("a").replace("]}", ",7,8]}");
    let seeds = vec![body(origin("reports", Source::Push), &rows)];
    let operated = replay_with_a_kill(&engine, seeds, "parts-stored").await;
    assert_eq!(operated.replay(Vec::new()).await.count, 1);
    let replayed = operated.replay(Vec::new()).await;
    assert_eq!((replayed.count, replayed.unreadable_count), (0, 2));
    let mut bodies = Vec::new();
    for one in operated.list().await {
        bodies.push(operated.get(&one.id).await.body);
    }
    assert_eq!(bodies, ["7", "8"]);
    assert_eq!(message_ids(&operated.bridge).await.len(), 1);
    operated.bridge.stop().await;
}
