//! The subscriptions of the embedded engine: rows of the table `subscription`.
//!
//! Neighbours: `writer` saves and deletes, `events::subscription` has the trait and uses it.

use futures_util::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    super::{
        AppendError, ReadError, SavedSubscription, SubscriptionKey, SubscriptionStore, Visibility,
    },
    EmbeddedLog,
    writer::Job,
};
use crate::proto::v1;

impl SubscriptionStore for EmbeddedLog {
    fn head_cursor(&self) -> String {
        self.id.cursor(*self.head.borrow())
    }

    fn find(
        &self,
        key: SubscriptionKey,
    ) -> BoxFuture<'_, Result<Option<SavedSubscription>, ReadError>> {
        self.readers.query(move |file| find(file, key)).boxed()
    }

    fn count(&self, application: String) -> BoxFuture<'_, Result<usize, ReadError>> {
        self.readers
            .query(move |file| count(file, &application))
            .boxed()
    }

    fn forget_unused(
        &self,
        application: String,
        since: Timestamp,
    ) -> BoxFuture<'_, Result<(), AppendError>> {
        self.write(move |reply| Job::ForgetSubscriptions {
            application,
            unused_since_ms: since.as_millisecond(),
            reply,
        })
        .boxed()
    }

    fn save_position(
        &self,
        key: SubscriptionKey,
        cursor: String,
    ) -> BoxFuture<'_, Result<(), AppendError>> {
        self.write(move |reply| Job::SavePosition { key, cursor, reply })
            .boxed()
    }

    fn save(&self, subscription: SavedSubscription) -> BoxFuture<'_, Result<(), AppendError>> {
        self.write(|reply| Job::SaveSubscription {
            subscription,
            reply,
        })
        .boxed()
    }
}

fn find(file: &Connection, key: SubscriptionKey) -> rusqlite::Result<Option<SavedSubscription>> {
    let row: Option<(Option<Vec<u8>>, String, Option<bool>)> = file
        .query_row(
            "SELECT filter, cursor, sees_all FROM subscription WHERE application = ?1 AND name = ?2",
            params![key.application, key.name],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    Ok(row.map(|(filter, cursor, sees_all)| SavedSubscription {
        key,
        visibility: sees_all.map(|sees_all| {
            if sees_all {
                Visibility::AllApplications
            } else {
                Visibility::OwnApplication
            }
        }),
        filter: filter.and_then(|filter| v1::EventFilter::decode(filter.as_slice()).ok()),
        cursor,
    }))
}

fn count(file: &Connection, application: &str) -> rusqlite::Result<usize> {
    let sql = "SELECT count(*) FROM subscription WHERE application = ?1";
    let count: u32 = file.query_row(sql, [application], |row| row.get(0))?;
    Ok(count as usize)
}
