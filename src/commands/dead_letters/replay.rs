//! Replays the letters of a walk: publishes copies of them, some at a time.
//!
//! Invariant: a letter is removed only after its copy is confirmed (P1, docs/RELIABILITY.md).
//! Neighbours: `copy` makes the copies, `amqp::walk` takes and removes the letters.

mod copy;

use futures_util::future::join_all;
use lapin::message::Delivery;
use tokio::time::Instant;

use super::{DeadLettersError, Inner, letter::letter, progress::Progress, select::Selection};
use crate::{
    amqp::{Message, walk::Walk},
    ops::{
        kill_point::{self, KillPoint},
        metrics::LetterEnd,
    },
};

/// Copies that wait for their confirms at the same time.
const MAX_REPLAYS: usize = 16;
/// The bytes of their bodies: one more copy only if there are fewer.
const MAX_REPLAYED_BYTES: usize = 4 * 1024 * 1024;

/// Replays the letters that are selected.
pub(super) async fn replay(
    letters: &Inner,
    walk: &mut Walk,
    selection: &Selection,
    allow_repeat: bool,
    until: Instant,
    progress: &mut Progress,
) -> Result<(), DeadLettersError> {
    let Inner { topology, user, .. } = letters;
    let mut copies: Vec<(Delivery, Message)> = Vec::with_capacity(MAX_REPLAYS);
    let mut bytes = 0;
    while let Some(delivery) = walk.next().await? {
        let letter = letter(&delivery);
        if selection.selects(&letter) {
            match copy::copy(&delivery, &letter, topology, user, allow_repeat) {
                Ok(copy) => {
                    bytes += copy.body.len();
                    copies.push((delivery, copy));
                }
                Err(detail) => progress.refuse(&letter.id, detail),
            }
            progress.note_found(selection, letter.id);
            if selection.has_found_all(&progress.found) {
                break;
            }
        }
        if copies.len() >= MAX_REPLAYS || bytes >= MAX_REPLAYED_BYTES {
            publish(letters, walk, std::mem::take(&mut copies), progress).await?;
            bytes = 0;
        }
        letters.desk.check_time(until)?;
    }
    publish(letters, walk, copies, progress).await?;
    if !selection.has_found_all(&progress.found) {
        walk.check_end()?;
    }
    Ok(())
}

/// Publishes copies, and removes each letter whose copy is confirmed. An error is that of the first that is not.
async fn publish(
    letters: &Inner,
    walk: &Walk,
    copies: Vec<(Delivery, Message)>,
    progress: &mut Progress,
) -> Result<(), DeadLettersError> {
    let publisher = &letters.publisher;
    let publishing = copies
        .into_iter()
        .map(|(delivery, copy)| async move { (delivery, publisher.publish_mandatory(copy).await) });
    let mut ended = Ok(());
    for (delivery, published) in join_all(publishing).await {
        let removed = match published {
            Ok(()) => {
                kill_point::reached(KillPoint::ReplayConfirmed);
                letters.metrics.dead_letter_ended(LetterEnd::Replayed);
                progress.count += 1;
                walk.remove(&delivery).await.map_err(DeadLettersError::from)
            }
            Err(error) => Err(DeadLettersError::Broker(error)),
        };
        ended = ended.and(removed);
    }
    ended
}
