//! Whether a stream takes colours.

use std::{env, io::IsTerminal};

/// Whether colours may be written to `stream`: it is a terminal that knows them, and `NO_COLOR` is not set
/// (<https://no-color.org>; an empty value does not count).
#[must_use]
pub fn takes_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal()
        && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && env::var_os("TERM").is_none_or(|term| term != "dumb")
}
