//! Lets the broker leave out the chunks of the stream that have no event of the wanted applications (RabbitMQ 3.13; earlier ones
//! ignore the arguments and deliver everything).
//!
//! Each event has its application as filter value. The broker keeps a Bloom filter of these for each chunk and delivers whole chunks, so
//! other events come too: the caller's own filter stays.
//! Invariant: the chunk of the last event of a bounded read is never left out, because its filter value is one of the wanted ones: a Bloom
//! filter has no false negatives. Events without a filter value (of earlier versions) are wanted always.
//! The ends of the stream and the marks of cursors are sought without a filter (`stream_ends`, `probe`): they may be events of others.
//! Neighbour: `reader` attaches with it.

use lapin::types::{AMQPValue, FieldTable};

use crate::amqp::headers::{
    broker::{STREAM_FILTER, STREAM_MATCH_UNFILTERED},
    text,
};

/// Applications of one filter: with more of them few chunks are left out.
const MAX_APPLICATIONS: usize = 16;

/// The filter values that a read wants.
pub(super) struct StreamFilter(Vec<String>);

impl StreamFilter {
    /// `None` if the broker shall not filter. `last` is the filter value of the last event of a bounded read, if it has one.
    pub(super) fn new(applications: &[String], last: Option<&str>) -> Option<Self> {
        if applications.is_empty() || applications.len() > MAX_APPLICATIONS {
            return None;
        }
        let mut values = applications.to_vec();
        values.extend(last.map(str::to_owned));
        Some(Self(values))
    }

    /// Adds the arguments of the consumer.
    pub(super) fn add_to(&self, arguments: &mut FieldTable) {
        let values: Vec<AMQPValue> = self.0.iter().map(|value| text(value)).collect();
        arguments.insert(STREAM_FILTER.into(), AMQPValue::FieldArray(values.into()));
        arguments.insert(STREAM_MATCH_UNFILTERED.into(), AMQPValue::Boolean(true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_wants_the_last_event_too_and_is_bounded() {
        let values = |count: usize, last| {
            let applications: Vec<String> = (0..count).map(|n| n.to_string()).collect();
            StreamFilter::new(&applications, last).map(|filter| filter.0)
        };
        assert_eq!(values(0, Some("last")), None, "all applications");
        assert_eq!(
            values(1, Some("last")),
            Some(vec!["0".into(), "last".into()])
        );
        assert_eq!(values(1, None), Some(vec!["0".into()]));
        assert!(values(MAX_APPLICATIONS, None).is_some());
        assert_eq!(values(MAX_APPLICATIONS + 1, None), None);
    }
}
