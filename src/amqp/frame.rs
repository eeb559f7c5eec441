//! Header tables of bounded size.
//!
//! AMQP carries the properties and headers of a message in one frame, whose size the connection negotiates (RabbitMQ's
//! default: 128 KiB). RabbitMQ closes the connection on a larger frame, which also fails everything else that is in flight
//! on it. Therefore a text from outside is cut before it becomes a header (`primitives::bounded_text`), and the headers of a
//! publisher are copied only if they fit. Neighbours: `headers` makes header values, `commands::republish` copies headers.

use lapin::types::{AMQPValue, FieldTable};

/// The publisher's headers that are copied, in encoded bytes: half of the default frame, which leaves room for the properties
/// and for the bridge's headers.
pub const MAX_FOREIGN_BYTES: usize = 64 * 1024;

/// The encoded size of a header.
#[must_use]
pub fn encoded_bytes(name: &str, value: &AMQPValue) -> usize {
    1 + name.len() + value_bytes(value)
}

/// The encoded size of a value, with the octet of its type.
fn value_bytes(value: &AMQPValue) -> usize {
    1 + match value {
        AMQPValue::Void => 0,
        AMQPValue::Boolean(_) | AMQPValue::ShortShortInt(_) | AMQPValue::ShortShortUInt(_) => 1,
        AMQPValue::ShortInt(_) | AMQPValue::ShortUInt(_) => 2,
        AMQPValue::LongInt(_) | AMQPValue::LongUInt(_) | AMQPValue::Float(_) => 4,
        AMQPValue::DecimalValue(_) => 5,
        AMQPValue::LongLongInt(_) | AMQPValue::Double(_) | AMQPValue::Timestamp(_) => 8,
        AMQPValue::ShortString(text) => 1 + text.as_str().len(),
        AMQPValue::LongString(text) => 4 + text.as_bytes().len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.as_slice().len(),
        AMQPValue::FieldArray(values) => {
            4 + values.as_slice().iter().map(value_bytes).sum::<usize>()
        }
        AMQPValue::FieldTable(table) => 4 + entries_bytes(table),
    }
}

fn entries_bytes(table: &FieldTable) -> usize {
    let entries = table.inner().iter();
    entries
        .map(|(name, value)| encoded_bytes(name.as_str(), value))
        .sum()
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldArray;

    use super::*;
    use crate::amqp::headers::bounded_text;

    #[test]
    fn sizes_equal_the_encoded_lengths() {
        let mut table = FieldTable::default();
        table.insert("flag".into(), AMQPValue::Boolean(true));
        table.insert("text".into(), bounded_text("abc"));
        let nested = AMQPValue::FieldTable(table);
        // Length, then "flag": 1 + 4, t, 1; "text": 1 + 4, S, 4 + 3.
        assert_eq!(value_bytes(&nested), 1 + 4 + (5 + 2) + (5 + 8));
        let array = AMQPValue::FieldArray(FieldArray::from(vec![nested, AMQPValue::Void]));
        assert_eq!(encoded_bytes("array", &array), 6 + 1 + 4 + 25 + 1);
    }
}
