//! A replay whose caller goes away.

use super::*;
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_on_when_its_caller_goes_away() {
    on_both_engines(async |engine| {
        let operated = Operated::start(engine, seeds(40)).await;
        let mut admin = operated.admin.clone();
        let replaying = tokio::spawn(async move {
            let request = v1::ReplayQuarantinedRequest::default();
            admin.replay_quarantined(request).await
        });
        eventually("the replay has begun", async || {
            let left = operated.bridge.all_events().await.len();
            (left > 0).then_some(())
        })
        .await;
        replaying.abort();
        drop(replaying.await);
        eventually("all are replayed", async || {
            (operated.list().await.len() == 1).then_some(())
        })
        .await;
        assert_eq!(message_ids(&operated.bridge).await.len(), 40);
        operated.bridge.stop().await;
    })
    .await;
}
