//! Cursors of the broker's log where the stream was deleted and declared again.

use std::sync::Arc;

use smsbridge::events::{EventLog as _, ReadError, Start};

use super::log::{accepted, ids, log, read_to_head, small_stream};
use crate::support::broker::TestBroker;

const SINCE_EVER: Start = Start::Since(jiff::Timestamp::UNIX_EPOCH);

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
    // As `OUT_OF_RANGE` names the oldest event: the cursor before it, with its mark.
    let mark = deleted[1].cursor.strip_prefix("stream:1-").unwrap();
    let before = Start::After(format!("stream:0~{mark}"));
    let found = read_to_head(&log, before.clone()).await;
    assert_eq!(ids(&found), ["a1", "a2", "a3"]);

    small_stream(&client, &broker, 20_000_000, 10_000_000).await;
    let events = append(["b0", "b1", "b2", "b3"]).await;
    for cursor in [after, before] {
        let refused = log.read(cursor, true).await.err();
        assert!(
            matches!(refused, Some(ReadError::BadCursor { .. })),
            "{refused:?}"
        );
    }
    let after = Start::After(events[1].cursor.clone());
    assert_eq!(ids(&read_to_head(&log, after).await), ["b2", "b3"]);
    // The cursor of an earlier version does not name its stream.
    let after = Start::After("stream:1".into());
    assert_eq!(ids(&read_to_head(&log, after).await), ["b2", "b3"]);
    log.close().await;
}
