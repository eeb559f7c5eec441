use super::*;
use crate::{
    events::{ReadError, embedded::EmbeddedLog},
    ops::metrics::Metrics,
};

fn event(cursor: u64, application: &str) -> v1::Event {
    v1::Event {
        cursor: cursor.to_string(),
        application: application.into(),
        ..Default::default()
    }
}

/// A task of the application `ops`, with this memory.
struct TestTask {
    task: Task,
    commands: mpsc::Sender<Command>,
    _received: mpsc::Receiver<Command>,
    _folder: tempfile::TempDir,
}

impl TestTask {
    fn new(memory: DeliveryMemory) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(folder.path(), Duration::from_secs(60), Metrics::new());
        let key = SubscriptionKey {
            application: "ops".into(),
            name: "x".into(),
        };
        let saved = SavedSubscription {
            key,
            visibility: Some(Visibility::OwnApplication),
            filter: None,
            cursor: "0".into(),
        };
        let none = futures_util::stream::pending().boxed();
        let log = std::sync::Arc::new(log.unwrap());
        let (commands, received) = mpsc::channel(8);
        Self {
            task: Task::new(log, memory, saved, none, true),
            commands,
            _received: received,
            _folder: folder,
        }
    }

    fn attach(&mut self, max_outstanding: usize) -> Attached {
        let subscriber = Subscriber {
            filter: None,
            visibility: self.task.visibility,
            max_outstanding,
        };
        let (reply, attached) = oneshot::channel();
        self.task
            .attach(subscriber, reply, &self.commands.downgrade());
        attached.now_or_never().unwrap().unwrap().unwrap()
    }

    fn settle(&mut self, delivery: &v1::Delivery) {
        let settle = Command::Settle {
            subscriber: 0,
            delivery_ids: vec![delivery.delivery_id.clone()],
            done: true,
        };
        self.task.handle(settle, &self.commands.downgrade());
        self.task.deliver();
    }
}

#[tokio::test]
async fn delivering_ends_when_subscribers_are_full_or_gone() {
    let mut test = TestTask::new(DeliveryMemory::of_bytes(1 << 20));
    let mut full = test.attach(1);
    let of_others = event(2, "shop");
    test.task
        .read
        .extend([event(1, "ops"), of_others, event(3, "ops"), event(4, "ops")]);
    test.task.deliver();
    let first = full.deliveries.try_recv().unwrap();
    assert_eq!((first.delivery_id.as_str(), first.attempt), ("1", 1));
    assert!(full.deliveries.try_recv().is_err(), "it is full");
    assert_eq!(test.task.read.len(), 3, "the rest waits");

    // A subscriber that has gone away gets no delivery, and keeps none from the others.
    drop(test.attach(1).deliveries);
    test.task.deliver();
    assert_eq!(test.task.subscribers.len(), 1);
    let mut next = test.attach(1);
    test.task.deliver();
    let third = next.deliveries.try_recv().unwrap();
    assert_eq!(
        third.delivery_id, "3",
        "not the event of another application"
    );
    assert!(next.deliveries.try_recv().is_err());
}

#[tokio::test]
async fn deliveries_wait_for_memory_but_a_subscription_without_any_gets_one() {
    let long = |cursor: u64| v1::Event {
        source_payload: "x".repeat(10_000),
        ..event(cursor, "ops")
    };
    // Room for two of these events, which are held twice, and not for three.
    let mut test = TestTask::new(DeliveryMemory::of_bytes(50_000));
    let mut attached = test.attach(100);
    test.task.read.extend((1..=4).map(long));
    test.task.deliver();
    let first = attached.deliveries.try_recv().unwrap();
    attached.deliveries.try_recv().unwrap();
    assert!(
        attached.deliveries.try_recv().is_err(),
        "the memory is full"
    );
    assert!(test.task.waits);
    test.settle(&first);
    let third = attached.deliveries.try_recv().unwrap();
    assert_eq!(third.delivery_id, "3");
    assert!(attached.deliveries.try_recv().is_err());

    // The other subscriptions of the application hold all of it.
    let mut poor = TestTask::new(DeliveryMemory::of_bytes(0));
    let mut attached = poor.attach(100);
    poor.task.read.extend((1..=2).map(long));
    poor.task.deliver();
    let only = attached.deliveries.try_recv().unwrap();
    assert!(attached.deliveries.try_recv().is_err());
    poor.settle(&only);
    assert!(!poor.task.waits);
    assert_eq!(attached.deliveries.try_recv().unwrap().delivery_id, "2");
}

#[tokio::test]
async fn a_subscriber_that_acknowledges_before_it_reads_stays_attached() {
    let mut test = TestTask::new(DeliveryMemory::of_bytes(1 << 20));
    let mut attached = test.attach(1);
    test.task.read.extend((1..=3).map(|n| event(n, "ops")));
    test.task.deliver();
    // The second delivery has no room in the channel, in which the first one still is.
    test.settle(&v1::Delivery {
        delivery_id: "1".into(),
        ..Default::default()
    });
    assert_eq!(test.task.subscribers.len(), 1, "it is attached");
    assert!(test.task.waits);
    assert_eq!(attached.deliveries.try_recv().unwrap().delivery_id, "1");
    test.task.deliver();
    assert_eq!(attached.deliveries.try_recv().unwrap().delivery_id, "2");
}

#[tokio::test]
async fn a_subscriber_is_told_that_the_log_could_not_be_read() {
    let mut test = TestTask::new(DeliveryMemory::of_bytes(1 << 20));
    let unreadable = || ReadError::Unavailable("the disk is gone".into());
    let failing = futures_util::stream::once(std::future::ready(Err(unreadable())));
    test.task.events = failing.boxed();
    let attached = test.attach(1);
    let TestTask {
        task,
        commands,
        _received: received,
        _folder,
    } = test;
    let closing = CancellationToken::new();
    task.run(received, commands.downgrade(), &closing).await;
    let ended = attached.handle.ended().await;
    assert_eq!(ended.unwrap_err().cause(), unreadable().cause());
}
