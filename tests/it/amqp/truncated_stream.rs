//! Cursors and readers of the broker's log where the stream was truncated, or deleted and declared again.

use std::sync::Arc;

use futures_util::StreamExt as _;
use smsbridge::events::{EventLog as _, ReadError, Start};

use super::log::{accepted, ids, log, read_to_head, small_stream};
use crate::support::{broker::TestBroker, eventually};

const SINCE_EVER: Start = Start::Since(jiff::Timestamp::UNIX_EPOCH);

fn offset(cursor: &str) -> i64 {
    let digits = cursor.strip_prefix("stream:").unwrap();
    let end = digits.bytes().take_while(u8::is_ascii_digit).count();
    digits[..end].parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_whose_next_events_were_truncated_is_out_of_range() {
    let broker = TestBroker::start().await;
    let log = log(&broker).await;
    let client = broker.client().await;
    // Opens the readers' session now, because a new session declares the stream with its usual arguments.
    read_to_head(&log, SINCE_EVER).await;
    small_stream(&client, &broker, 200_000, 100_000).await;
    let mut filler = accepted("filler");
    filler.event.source_payload = "x".repeat(5_000);
    let fill = async || {
        log.append(Arc::new(vec![filler.clone(); 100]))
            .await
            .unwrap()
    };
    fill().await;

    let mut slow = log.read(SINCE_EVER, false).await.unwrap();
    let first = slow.next().await.unwrap().unwrap();
    let first = first[0].cursor.clone();
    // Far more than a reader is given in advance.
    let oldest = eventually("the stream is truncated", async || {
        fill().await;
        match log.read(Start::After(first.clone()), false).await {
            Err(ReadError::OutOfRange { oldest_cursor, .. }) => {
                Some(oldest_cursor).filter(|oldest| offset(oldest) > 1_000)
            }
            Err(error) => panic!("{error}"),
            Ok(_) => None,
        }
    })
    .await;
    let mut expected = None;
    let refused = loop {
        match slow.next().await.expect("the reader does not end") {
            Ok(events) => {
                for event in events {
                    let found = offset(&event.cursor);
                    assert_eq!(found, expected.unwrap_or(found), "no event is skipped");
                    expected = Some(found + 1);
                }
            }
            Err(error) => break error,
        }
    };
    let ReadError::OutOfRange { oldest_cursor, .. } = refused else {
        panic!("{refused}")
    };
    assert!(offset(&oldest_cursor) >= offset(&oldest), "{oldest_cursor}");
    let rest = read_to_head(&log, Start::After(oldest_cursor.clone())).await;
    assert_eq!(offset(&rest[0].cursor), offset(&oldest_cursor) + 1);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_a_stream_that_was_deleted_is_refused() {
    let broker = TestBroker::start().await;
    let log = log(&broker).await;
    let client = broker.client().await;
    let append = async |names: [&str; 4]| {
        let events = names.map(accepted).into();
        log.append(Arc::new(events)).await.unwrap();
        read_to_head(&log, SINCE_EVER).await
    };
    let deleted = append(["a0", "a1", "a2", "a3"]).await;
    let after = Start::After(deleted[1].cursor.clone());
    assert_eq!(ids(&read_to_head(&log, after.clone()).await), ["a2", "a3"]);

    small_stream(&client, &broker, 20_000_000, 10_000_000).await;
    let events = append(["b0", "b1", "b2", "b3"]).await;
    let refused = log.read(after, true).await.err();
    assert!(
        matches!(refused, Some(ReadError::BadCursor { .. })),
        "{refused:?}"
    );
    let after = Start::After(events[1].cursor.clone());
    assert_eq!(ids(&read_to_head(&log, after).await), ["b2", "b3"]);
    // The cursor of an earlier version does not name its stream.
    let after = Start::After("stream:1".into());
    assert_eq!(ids(&read_to_head(&log, after).await), ["b2", "b3"]);
    log.close().await;
}
