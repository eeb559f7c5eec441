//! Where subscriptions are kept while nobody is subscribed.
//!
//! Neighbours: [`super`] and its task read and save; the embedded engine has a store, the broker engine has none.

use futures_util::future::BoxFuture;

use crate::{
    events::{AppendError, ReadError},
    proto::v1,
};

/// The saved subscriptions of an engine.
pub trait SubscriptionStore: Send + Sync + 'static {
    /// The cursor of the newest event: where a new subscription starts.
    fn head_cursor(&self) -> String;

    /// A subscription as it was last saved.
    fn find(
        &self,
        key: SubscriptionKey,
    ) -> BoxFuture<'_, Result<Option<SavedSubscription>, ReadError>>;

    /// The number of subscriptions of an application.
    fn count(&self, application: String) -> BoxFuture<'_, Result<usize, ReadError>>;

    /// Deletes the subscriptions of an application that nobody has used since.
    fn forget_unused(
        &self,
        application: String,
        since: jiff::Timestamp,
    ) -> BoxFuture<'_, Result<(), AppendError>>;

    /// Saves a subscription. Durable on success.
    fn save(&self, subscription: SavedSubscription) -> BoxFuture<'_, Result<(), AppendError>>;

    /// Saves the cursor of a saved subscription. Durable on success.
    fn save_position(
        &self,
        key: SubscriptionKey,
        cursor: String,
    ) -> BoxFuture<'_, Result<(), AppendError>>;
}

/// The name of a subscription in its application.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubscriptionKey {
    pub application: String,
    pub name: String,
}

/// Whose events a subscription receives: what the caller that made it may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// The events of every application.
    AllApplications,
    /// The events of the subscription's own application.
    OwnApplication,
}

impl SubscriptionKey {
    /// The only application whose events the subscription receives; `None`: it receives those of all.
    #[must_use]
    pub fn visible(&self, visibility: Visibility) -> Option<&str> {
        match visibility {
            Visibility::AllApplications => None,
            Visibility::OwnApplication => Some(&self.application),
        }
    }
}

/// A subscription as the log stores it.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedSubscription {
    pub key: SubscriptionKey,
    /// Whose events it receives. `None`: saved by a version that did not store it; the next subscriber decides.
    pub visibility: Option<Visibility>,
    pub filter: Option<v1::EventFilter>,
    /// Every event up to this one is acknowledged or was not wanted.
    pub cursor: String,
}
