//! A walk through a queue: takes its messages one after the other, and gives back what was not removed.
//!
//! A queue has no reading: what is looked at is taken from its other consumers until it is given back. So a walk is short, and there is
//! one at a time in all replicas: an exclusive queue of the same session is the lock, so lock and messages are lost together.
//!
//! Invariants: a message leaves the queue only by an acknowledgement of this module's user (a lost session gives everything back); the
//! order of the queue stays: what is given back goes behind what was given back earlier, so a walk that ends early takes that as well,
//! and gives back all of it in the order in which it was taken; at most [`MAX_WINDOW`] bodies are in memory at a time, and [`MIN_WINDOW`] after
//! large ones. A walk takes no more messages than the queue had when it began, so it ends although messages come back.
//! Neighbours: `desk` begins, parks and ends walks, `page` reads pages; the dead letters of `commands` and the quarantine of `events` are
//! walked through.

mod desk;
mod page;

use std::{collections::VecDeque, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Consumer, ErrorKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions,
        BasicQosOptions, QueueDeclareOptions,
    },
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::FieldTable,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use self::{
    desk::Desk,
    page::{NoPageToken, Page, PageRequest, Place, Seen},
};
use super::{AmqpError, Endpoint, Session, Topology};

/// The messages that are taken at once, at first and after large ones.
const MIN_WINDOW: u16 = 4;
/// The messages that are taken at once at most. Each may be as long as the broker allows, so 16 of them take 256 MiB (RabbitMQ 4.x).
const MAX_WINDOW: u16 = 16;
/// After a window with more bytes than this in its bodies, the next one is a small one.
const LARGE_WINDOW_BYTES: usize = 1024 * 1024;
/// After this time without a delivery, the queue is asked whether it has more.
const SILENCE: Duration = Duration::from_millis(100);
/// The queue is empty if it said so this many times: what is on its way to this consumer is no longer in it.
const EMPTY_ANSWERS: u32 = 3;
/// The time between these answers after a full window, when more messages are likely: a busy quorum queue that does not count within
/// 250 ms says that it has none.
const BETWEEN_EMPTY_ANSWERS: Duration = Duration::from_millis(300);
/// The longest wait for a delivery of a queue that says it has more.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// The messages that are taken only to keep the order of the queue, at most: some 25 seconds.
const MAX_TAKEN_FOR_ORDER: u32 = 100_000;
/// How often the lock is asked for while somebody else has it.
const LOCK_CHECK: Duration = Duration::from_millis(100);

/// A queue that is walked through.
#[derive(Debug, Clone)]
pub struct Walked {
    pub queue: String,
    /// The exclusive queue of the one that walks.
    pub lock: String,
    /// The name of the session.
    pub purpose: &'static str,
}

/// Why a walk did not begin or ended.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    #[error("another walk through the queue is under way, here or on another replica")]
    Busy,
    #[error(
        "the broker did not deliver all messages that it had counted: it is busy, or another program took them"
    )]
    CutShort,
    #[error(
        "the last message of the page before was removed or moved, or another program holds it"
    )]
    PlaceGone,
    #[error("the time for the call was up")]
    TimeUp,
    #[error("this process is shutting down")]
    ShuttingDown,
    #[error(transparent)]
    Broker(#[from] AmqpError),
}

impl From<lapin::Error> for WalkError {
    fn from(error: lapin::Error) -> Self {
        Self::Broker(error.into())
    }
}

/// Its messages are unacknowledged until [`Walk::end`]; without that the end of the session gives them back, in any order.
pub struct Walk {
    session: Session,
    channel: Channel,
    queue: String,
    /// Messages to take at most.
    left: u32,
    window: u16,
    /// The limit of the channel's next consumer.
    prefetch: u16,
    windows: u32,
    /// Taken and not looked at.
    taken: VecDeque<Delivery>,
    /// Whether it ended although the queue had said that it has more.
    is_cut_short: bool,
    /// Whether the last one that was taken had been taken before. Those that had not are behind all that had.
    had_been_taken: bool,
}

impl Walk {
    /// Waits for the lock until `until`.
    async fn begin(
        endpoint: &Endpoint,
        topology: &Topology,
        walked: &Walked,
        until: Instant,
    ) -> Result<Self, WalkError> {
        // Declares the queue, so that no message is taken from one that drops it after some deliveries.
        let session = topology.open_session(endpoint, walked.purpose).await?;
        loop {
            if lock(&session, &walked.lock).await? {
                break;
            }
            if Instant::now() + LOCK_CHECK >= until {
                session.close().await;
                return Err(WalkError::Busy);
            }
            sleep(LOCK_CHECK).await;
        }
        let channel = session.consuming_channel(MIN_WINDOW).await?;
        let mut walk = Self {
            session,
            channel,
            queue: walked.queue.clone(),
            left: MIN_WINDOW.into(),
            window: MIN_WINDOW,
            prefetch: MIN_WINDOW,
            windows: 0,
            taken: VecDeque::new(),
            is_cut_short: false,
            had_been_taken: true,
        };
        // Counted only after the first ones were taken: what another walk has just given back is counted too late otherwise.
        let begun = walk.take_first().await;
        if let Err(error) = begun {
            walk.session.close().await;
            return Err(error);
        }
        Ok(walk)
    }

    async fn take_first(&mut self) -> Result<(), WalkError> {
        self.take_window().await?;
        if self.taken.len() >= usize::from(MIN_WINDOW) {
            let count = || ready(&self.channel, &self.queue);
            self.left = counted(count, BETWEEN_EMPTY_ANSWERS).await?;
        }
        Ok(())
    }

    /// The next message. `None` at the end. Not cancel-safe: whoever drops the future ends the walk.
    pub async fn next(&mut self) -> Result<Option<Delivery>, WalkError> {
        if self.taken.is_empty() && self.left > 0 {
            self.take_window().await?;
        }
        Ok(self.taken.pop_front())
    }

    /// Whether there is no further message.
    pub fn is_at_end(&self) -> bool {
        self.is_exhausted() && !self.is_cut_short
    }

    /// Whether this walk has no further message, although the queue may have some.
    pub fn is_exhausted(&self) -> bool {
        self.taken.is_empty() && self.left == 0
    }

    /// # Errors
    /// If it ended before it had as many messages as the queue had counted.
    pub fn check_end(&self) -> Result<(), WalkError> {
        match self.is_exhausted() && self.is_cut_short {
            true => Err(WalkError::CutShort),
            false => Ok(()),
        }
    }

    /// Removes a message of this walk from the queue.
    pub async fn remove(&self, message: &Delivery) -> Result<(), WalkError> {
        match message.acker.ack(BasicAckOptions::default()).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(WalkError::Broker(self.session.end())),
        }
    }

    /// Returns when the broker has got all acknowledgements.
    pub async fn settle(&self) -> Result<(), WalkError> {
        // Its answer follows all of them on the channel.
        ready(&self.channel, &self.queue).await?;
        Ok(())
    }

    /// Gives back what was not removed, in the order of the queue; at once if the process stops, whatever the order.
    async fn end(mut self, stop: &CancellationToken) -> Result<(), WalkError> {
        let ended = self.give_back(stop).await;
        self.session.close().await;
        ended
    }

    async fn give_back(&mut self, stop: &CancellationToken) -> Result<(), WalkError> {
        if self.left <= MAX_TAKEN_FOR_ORDER {
            while self.left > 0 && self.had_been_taken && !stop.is_cancelled() {
                self.taken.clear();
                self.take_window().await?;
            }
        }
        self.taken.clear();
        let all_of_the_channel = 0;
        let options = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        self.channel.basic_nack(all_of_the_channel, options).await?;
        self.settle().await
    }

    /// Takes some messages: the next ones, because the earlier ones are unacknowledged. A consumer with a limit of its own for each
    /// window, because one that lives on would take another message for each removed one.
    async fn take_window(&mut self) -> Result<(), WalkError> {
        let size = u32::from(self.window).min(self.left);
        let prefetch = u16::try_from(size).unwrap_or(self.window);
        if prefetch != self.prefetch {
            let options = BasicQosOptions::default();
            self.channel.basic_qos(prefetch, options).await?;
            self.prefetch = prefetch;
        }
        self.windows += 1;
        // The broker gives messages back by consumers, in the order of their tags.
        let tag = format!("walk-{:010}", self.windows);
        let mut consumer = self
            .channel
            .basic_consume(
                self.queue.as_str().into(),
                tag.as_str().into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        let mut received = Vec::with_capacity(size as usize);
        let mut last = Instant::now();
        let mut empty_answers = 0;
        // The first window is taken before the messages are counted.
        let is_counted = self.windows > 1;
        let silence = match is_counted {
            true => BETWEEN_EMPTY_ANSWERS,
            false => SILENCE,
        };
        while received.len() < size as usize {
            match timeout(silence, consumer.next()).await {
                Ok(Some(Ok(delivery))) => {
                    received.push(delivery);
                    last = Instant::now();
                    empty_answers = 0;
                }
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(None) => return Err(WalkError::Broker(self.session.end())),
                Err(_) if !self.session.is_open() => {
                    return Err(WalkError::Broker(self.session.end()));
                }
                Err(_) if ready(&self.channel, &self.queue).await? == 0 => {
                    empty_answers += 1;
                    if empty_answers == EMPTY_ANSWERS {
                        break;
                    }
                }
                Err(_) if last.elapsed() > DELIVERY_TIMEOUT => {
                    return Err(AmqpError::TimedOut(DELIVERY_TIMEOUT).into());
                }
                Err(_) => {}
            }
        }
        self.cancel(&mut consumer, &mut received).await?;
        let is_whole = received.len() >= size as usize;
        let bytes: usize = received.iter().map(|message| message.data.len()).sum();
        self.window = match bytes > LARGE_WINDOW_BYTES {
            true => MIN_WINDOW,
            false => self.window.saturating_mul(2).min(MAX_WINDOW),
        };
        self.is_cut_short |= is_counted && !is_whole;
        let taken = u32::try_from(received.len()).unwrap_or(u32::MAX);
        self.left = if is_whole {
            self.left.saturating_sub(taken)
        } else {
            0
        };
        if let Some(last) = received.last() {
            self.had_been_taken = last.redelivered;
        }
        self.taken.extend(received);
        Ok(())
    }

    async fn cancel(
        &self,
        consumer: &mut Consumer,
        received: &mut Vec<Delivery>,
    ) -> Result<(), WalkError> {
        let options = BasicCancelOptions::default();
        self.channel.basic_cancel(consumer.tag(), options).await?;
        while let Some(Ok(delivery)) = consumer.next().await {
            received.push(delivery);
        }
        Ok(())
    }
}

/// Declares the exclusive queue. `false` if another session has it.
async fn lock(session: &Session, name: &str) -> Result<bool, WalkError> {
    // A refused declaration closes its channel.
    let channel = session.consuming_channel(1).await?;
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..Default::default()
    };
    let declared = channel.queue_declare(name.into(), options, FieldTable::default());
    match declared.await {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            ErrorKind::ProtocolError(protocol)
                if matches!(
                    protocol.kind(),
                    AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED)
                ) =>
            {
                Ok(false)
            }
            _ => Err(error.into()),
        },
    }
}

/// The count; 0 only if the queue says so several times.
async fn counted<F, E>(count: impl Fn() -> F, between: Duration) -> Result<u32, E>
where
    F: Future<Output = Result<u32, E>>,
{
    for _ in 1..EMPTY_ANSWERS {
        let messages = count().await?;
        if messages > 0 {
            return Ok(messages);
        }
        sleep(between).await;
    }
    count().await
}

/// The number of messages that nobody has taken; 0 also if the broker is busy.
async fn ready(channel: &Channel, queue: &str) -> Result<u32, WalkError> {
    let options = QueueDeclareOptions {
        passive: true,
        durable: true,
        ..Default::default()
    };
    let declared = channel.queue_declare(queue.into(), options, FieldTable::default());
    Ok(declared.await?.message_count())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    async fn counted_of(answers: &[u32]) -> (u32, usize) {
        let left = Mutex::new(answers.iter().copied());
        let count = || {
            let next = left.lock().unwrap().next().unwrap();
            std::future::ready(Ok::<_, ()>(next))
        };
        let messages = counted(count, Duration::from_millis(1)).await.unwrap();
        (messages, left.into_inner().unwrap().len())
    }

    #[tokio::test]
    async fn one_zero_of_a_busy_broker_does_not_end_a_walk() {
        assert_eq!(counted_of(&[0, 0, 500]).await, (500, 0));
        assert_eq!(counted_of(&[0, 500, 7]).await, (500, 1));
        assert_eq!(counted_of(&[500, 7]).await, (500, 1));
        assert_eq!(counted_of(&[0, 0, 0, 7]).await, (0, 1));
        assert!(BETWEEN_EMPTY_ANSWERS > Duration::from_millis(250));
    }
}
