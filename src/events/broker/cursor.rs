//! Cursors of the broker's log: `stream:{offset}`, with the offset of the event in the stream.

pub(super) fn parse_cursor(cursor: &str) -> Option<i64> {
    let offset = cursor.strip_prefix("stream:")?;
    if offset.is_empty() || !offset.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // The reader attaches to the offset after it, which must be valid too.
    offset.parse().ok().filter(|offset| *offset < i64::MAX)
}

pub(super) fn format_cursor(offset: i64) -> String {
    format!("stream:{offset}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_cursors_are_refused() {
        assert_eq!(parse_cursor(&format_cursor(42)), Some(42));
        for cursor in [
            "",
            "42",
            "stream:",
            "stream:-1",
            "stream:+1",
            "stream: 1",
            "sqlite:1",
            "stream:9223372036854775807",
        ] {
            assert_eq!(parse_cursor(cursor), None, "{cursor}");
        }
    }
}
