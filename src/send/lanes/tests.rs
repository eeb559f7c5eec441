//! When a batch leaves, and what is in it.

use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use super::*;
use crate::{
    proto::v1::{self, outbound_message::Content},
    send::{batch_item::ExclusiveRequest, call::ReplyTo},
};

fn item_for(urgent: bool, reply_to: ReplyTo) -> BatchItem {
    let mut message = v1::OutboundMessage::default();
    if urgent {
        message.set_priority(v1::Priority::Urgent);
    }
    BatchItem::alone(message, Instant::now(), reply_to)
}

fn item(urgent: bool) -> BatchItem {
    item_for(urgent, ReplyTo::Callback(Box::new(|_| {})))
}

fn in_doubt(urgent: bool) -> BatchItem {
    BatchItem {
        in_doubt_since: Some(Instant::now()),
        ..item(urgent)
    }
}

const LONG: Duration = Duration::from_secs(3600);

fn lanes(max_batch: usize) -> Arc<Lanes> {
    let max_batch = Room {
        destinations: max_batch,
        bytes: 10_000,
    };
    Arc::new(Lanes::new(max_batch, Metrics::new()))
}

/// Takes the next batch, of both lanes.
fn take(lanes: &Arc<Lanes>, due_in: Duration) -> Option<(Vec<BatchItem>, RequestGuard)> {
    let first = lanes.turns().next()?;
    lanes.take(first, true, usize::MAX, due_in)
}

fn is_woken(lanes: &Lanes) -> bool {
    lanes.changed().now_or_never().is_some()
}

fn is_held(lanes: &Lanes) -> bool {
    matches!(lanes.next_batch_at(LONG), NextBatch::At(_))
}

/// Takes a batch of `destinations`, whose results are due in `due_in`.
fn request(lanes: &Arc<Lanes>, destinations: usize, due_in: Duration) -> RequestGuard {
    lanes.push((0..destinations).map(|_| item(false)));
    let (items, request) = take(lanes, due_in).unwrap();
    assert_eq!(items.len(), destinations);
    assert!(is_woken(lanes));
    request
}

#[tokio::test]
async fn only_an_earlier_due_time_wakes_the_dispatcher() {
    let lanes = lanes(4);
    assert_eq!(lanes.next_batch_at(LONG), NextBatch::Never);
    let other = request(&lanes, 1, 2 * LONG);
    let first = item(false);
    let at = first.since + LONG;
    lanes.push([first]);
    assert!(is_woken(&lanes), "the first");
    assert_eq!(lanes.next_batch_at(LONG), NextBatch::At(at));
    lanes.push([item(false)]);
    assert!(!is_woken(&lanes), "it joins the first");
    assert_eq!(lanes.next_batch_at(LONG), NextBatch::At(at));
    lanes.push([item(true)]);
    assert!(is_woken(&lanes), "urgent");
    assert_eq!(lanes.next_batch_at(LONG), NextBatch::Now);
    assert_eq!(take(&lanes, LONG).unwrap().0.len(), 3);

    lanes.push([item(false), item(false), item(false)]);
    assert!(is_woken(&lanes), "the first again");
    assert!(is_held(&lanes));
    lanes.push([item(false)]);
    assert!(is_woken(&lanes), "a request is full");
    assert_eq!(lanes.next_batch_at(LONG), NextBatch::Now);
    assert_eq!(take(&lanes, LONG).unwrap().0.len(), 4);
    drop(other);
    assert!(is_woken(&lanes), "the request ended");
}

#[tokio::test]
async fn an_item_does_not_wait_if_no_request_is_in_flight() {
    let lanes = lanes(100);
    lanes.push([item(false)]);
    assert_eq!(lanes.next_batch_at(LONG), NextBatch::Now);
    let request = take(&lanes, 2 * LONG).unwrap().1;
    lanes.push([item(false)]);
    assert!(is_held(&lanes));
    assert_eq!(
        lanes.next_batch_at(Duration::ZERO),
        NextBatch::Now,
        "batching is off"
    );
    drop(request);
    assert_eq!(
        lanes.next_batch_at(LONG),
        NextBatch::Now,
        "the request failed"
    );
}

#[tokio::test]
async fn a_batch_waits_for_callers_that_just_received_results() {
    let lanes = lanes(100);
    let requests = [2, 1].map(|n| (n, request(&lanes, n, 2 * LONG)));
    let far = request(&lanes, 1, 2 * LONG);
    for (delivered, request) in requests {
        request.results_delivered(delivered, LONG);
    }
    lanes.push([item(false)]);
    assert!(is_woken(&lanes) && is_held(&lanes), "two more may come");
    lanes.push([item(false)]);
    assert!(!is_woken(&lanes) && is_held(&lanes), "one more may come");
    lanes.push([item(false)]);
    assert!(is_woken(&lanes), "all have returned");
    assert_eq!(lanes.next_batch_at(LONG), NextBatch::Now);
    let (items, request) = take(&lanes, 2 * LONG).unwrap();
    assert_eq!(items.len(), 3);

    lanes.push([item(false)]);
    assert!(
        is_held(&lanes),
        "no return is expected, but a request is in flight"
    );
    take(&lanes, 2 * LONG).unwrap();

    drop(far);
    request.results_delivered(3, Duration::ZERO);
    lanes.push([item(false)]);
    assert_eq!(
        lanes.next_batch_at(LONG),
        NextBatch::Now,
        "they did not return in time"
    );
}

#[tokio::test]
async fn a_batch_waits_for_results_that_are_due_before_its_own_deadline() {
    let lanes = lanes(100);
    let one = request(&lanes, 1, 2 * LONG);
    let close = request(&lanes, 2, Duration::ZERO);
    let far = request(&lanes, 5, 2 * LONG);
    one.results_delivered(1, LONG);
    lanes.push([item(false)]);
    assert!(is_held(&lanes), "callers of the close request may return");
    close.results_delivered(2, LONG);
    assert!(is_held(&lanes), "they have received their results");
    lanes.push([item(false), item(false)]);
    assert_eq!(
        lanes.next_batch_at(LONG),
        NextBatch::Now,
        "they have returned"
    );
    drop(far);
}

/// One in doubt may be the cause of the failures.
#[tokio::test]
async fn a_probe_is_not_in_doubt_while_others_wait() {
    let lanes = lanes(4);
    lanes.push([in_doubt(true), item(false)]);
    let is_in_doubt = || {
        lanes.take_probe(LONG).unwrap().0[0]
            .in_doubt_since
            .is_some()
    };
    assert!(!is_in_doubt());
    assert!(is_in_doubt());
    assert!(lanes.take_probe(LONG).is_none());
}

/// A request that its caller named.
fn named() -> Arc<ExclusiveRequest> {
    Arc::new(ExclusiveRequest {
        wire_bulk_id: Some("default.campaign".into()),
        tracking: None,
    })
}

#[tokio::test]
async fn a_probe_does_not_split_a_named_request() {
    let lanes = lanes(4);
    let exclusive = named();
    let of_one = |urgent| BatchItem {
        exclusive: Some(Arc::clone(&exclusive)),
        ..item(urgent)
    };
    lanes.push([of_one(false), item(false), of_one(false), of_one(true)]);
    assert_eq!(lanes.take_probe(LONG).unwrap().0.len(), 3);
    assert_eq!(lanes.take_probe(LONG).unwrap().0.len(), 1);

    // Texts and binary messages have endpoints of their own.
    let binary = BatchItem {
        exclusive: Some(Arc::clone(&exclusive)),
        ..item_of(Content::Binary(v1::BinaryContent::default()))
    };
    lanes.push([of_one(false), binary, of_one(false)]);
    assert_eq!(lanes.take_probe(LONG).unwrap().0.len(), 2);
    assert_eq!(lanes.take_probe(LONG).unwrap().0.len(), 1);
}

#[tokio::test]
async fn a_caller_stays_if_only_sends_in_doubt_wait_beside_it() {
    let lanes = lanes(4);
    lanes.push([item(false), item(true)]);
    assert_eq!(lanes.remove_callers().len(), 2, "nothing else waits");
    lanes.push([in_doubt(true), item(false), item(false)]);
    assert_eq!(lanes.remove_callers().len(), 1);
    assert_eq!(lanes.remove_callers().len(), 0, "it is the next probe");
    lanes.push([item_for(false, ReplyTo::Command(oneshot::channel().0))]);
    assert_eq!(lanes.remove_callers().len(), 1, "the command is");
}

#[tokio::test]
async fn of_eight_batches_in_a_row_one_begins_with_a_normal_item() {
    let lanes = lanes(1);
    lanes.push((0..20).map(|_| item(true)));
    take(&lanes, LONG).unwrap();
    lanes.push([item(false), item(false)]);
    let is_normal = || !take(&lanes, LONG).unwrap().0[0].is_urgent();
    let normal: Vec<_> = (0..19).filter(|_| is_normal()).collect();
    assert_eq!(normal, [7, 15]);
}

#[tokio::test]
async fn a_batch_for_urgent_items_only_has_no_normal_item() {
    let lanes = lanes(4);
    lanes.push([item(false), item(true), item(true)]);
    let (items, _) = lanes.take(Lane::Urgent, false, 4, LONG).unwrap();
    assert!(items.len() == 2 && items.iter().all(BatchItem::is_urgent));
    assert!(lanes.take(Lane::Urgent, false, 4, LONG).is_none());
    assert_eq!(lanes.take(Lane::Urgent, true, 4, LONG).unwrap().0.len(), 1);
}

/// An item with this content.
fn item_of(content: Content) -> BatchItem {
    let message = v1::OutboundMessage {
        content: Some(content),
        ..Default::default()
    };
    let reply_to = ReplyTo::Callback(Box::new(|_| {}));
    BatchItem::alone(message, Instant::now(), reply_to)
}

#[tokio::test]
async fn texts_and_binary_messages_in_turn_share_two_requests() {
    let lanes = lanes(10);
    let content = |n: i32| match n % 2 {
        0 => Content::Text(n.to_string()),
        _ => Content::Binary(v1::BinaryContent::default()),
    };
    lanes.push((0..8).map(|n| item_of(content(n))));
    let text_of = |item: &BatchItem| match &item.message().content {
        Some(Content::Text(text)) => text.clone(),
        _ => "binary".to_owned(),
    };
    let texts: Vec<_> = take(&lanes, LONG).unwrap().0.iter().map(text_of).collect();
    assert_eq!(texts, ["0", "2", "4", "6"]);
    assert_eq!(take(&lanes, LONG).unwrap().0.len(), 4);
    assert!(take(&lanes, LONG).is_none());
}

#[tokio::test]
async fn long_messages_do_not_share_a_request() {
    let lanes = lanes(10);
    let long = || item_of(Content::Text("x".repeat(4_000)));
    let short = item_of(Content::Text("x".into()));
    let too_long = item_of(Content::Text("x".repeat(20_000)));
    lanes.push([long(), long(), long(), too_long, short]);
    let mut sizes = Vec::new();
    while let Some((items, _)) = take(&lanes, LONG) {
        sizes.push(items.len());
    }
    assert_eq!(sizes, [2, 1, 1, 1]);
}

/// A batch of one call with a bulk id takes nothing of others, and looks at none of them.
#[tokio::test]
async fn a_named_request_has_all_items_of_its_call_of_one_kind() {
    let lanes = lanes(2);
    let exclusive = named();
    let of_call = |content| BatchItem {
        exclusive: Some(Arc::clone(&exclusive)),
        ..item_of(content)
    };
    let text = || of_call(Content::Text("x".into()));
    let binary = || of_call(Content::Binary(v1::BinaryContent::default()));
    lanes.push([text(), binary(), text(), text(), item(false), item(false)]);
    let mut sizes = Vec::new();
    while let Some((items, _)) = take(&lanes, LONG) {
        sizes.push(items.len());
    }
    assert_eq!(sizes, [3, 1, 2]);
}

/// The parts of a refused request, or a scheduled message: no caller counts on one request.
#[tokio::test]
async fn an_exclusive_request_without_a_name_has_the_size_of_a_shared_one() {
    let lanes = lanes(3);
    let exclusive = Arc::new(ExclusiveRequest::default());
    let part = || BatchItem {
        exclusive: Some(Arc::clone(&exclusive)),
        ..item(false)
    };
    lanes.push((0..8).map(|_| part()));
    lanes.push([item(false)]);
    assert_eq!(lanes.take_probe(LONG).unwrap().0.len(), 1);
    let (items, _) = lanes.take(Lane::Normal, true, 2, LONG).unwrap();
    assert_eq!(items.len(), 2, "the rate allows no more");
    let mut sizes = Vec::new();
    while let Some((items, _)) = take(&lanes, LONG) {
        sizes.push(items.len());
    }
    assert_eq!(sizes, [3, 2, 1]);
}
