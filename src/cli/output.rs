//! Prints the results of client commands: aligned tables, or proto JSON, one message per line.
//!
//! Invariants: only results go to stdout. Texts and names from outside are printed without control characters: a received
//! message must not send escape sequences to the operator's terminal. Colours and the terminal's width affect tables only.

use std::io::{self, BufWriter, Stdout, Write};

use serde::Serialize;

pub mod colour;
mod table;

pub use self::table::{Column, Screen, Table};
use crate::ops::terminal::takes_colours;

#[derive(Debug)]
pub struct Output {
    json: bool,
    out: BufWriter<Stdout>,
    screen: Screen,
    /// Columns that do not fit the terminal, until they are noted.
    left_out: Option<Vec<&'static str>>,
}

impl Output {
    #[must_use]
    pub fn new(json: bool) -> Self {
        let stdout = io::stdout();
        let size = terminal_size::terminal_size_of(&stdout);
        let screen = Screen {
            width: size.map(|(width, _)| width.0.into()),
            has_colours: takes_colours(&stdout),
        };
        Self {
            json,
            out: BufWriter::new(stdout),
            screen,
            left_out: None,
        }
    }

    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints messages: each as a line of JSON, or all of them as rows of `table`.
    ///
    /// # Errors
    /// If stdout cannot be written to.
    pub fn messages<M: Serialize>(
        &mut self,
        table: &mut Table,
        messages: &[M],
        row: impl Fn(&M) -> Vec<String>,
    ) -> io::Result<()> {
        if self.json {
            return messages.iter().try_for_each(|message| self.json(message));
        }
        let rows = messages.iter().map(row).collect();
        table.write(&mut self.out, self.screen, rows)?;
        self.left_out.get_or_insert_with(|| table.left_out());
        Ok(())
    }

    /// Prints a message as a line of JSON.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn json<M: Serialize>(&mut self, message: &M) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, message)?;
        self.out.write_all(b"\n")
    }

    /// Prints one message: as a line of JSON, or as the text that `text` returns.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn message<M: Serialize>(
        &mut self,
        message: &M,
        text: impl Fn(&M) -> String,
    ) -> io::Result<()> {
        if self.json {
            self.json(message)
        } else {
            writeln!(self.out, "{}", text(message))
        }
    }

    /// Prints a remark about the results to stderr, so that scripts that read stdout do not get it.
    ///
    /// # Errors
    /// If stderr cannot be written to.
    pub fn note(&self, note: &str) -> io::Result<()> {
        writeln!(io::stderr(), "{note}")
    }

    /// Flushes stdout, and names the columns that do not fit. Dropping does not report errors: call this last.
    ///
    /// # Errors
    /// If stdout or stderr cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        let Some(names) = self.left_out.as_mut().map(std::mem::take) else {
            return Ok(());
        };
        if names.is_empty() {
            return Ok(());
        }
        let mut note = format!("not shown: {} (--json shows all)", names.join(", "));
        if self.screen.width.is_some_and(|width| note.len() > width) {
            note = format!("not shown: {} columns (--json shows all)", names.len());
        }
        self.note(&note)
    }
}

/// Replaces control characters (line breaks, escape sequences) with Rust escapes.
#[must_use]
pub fn printable(text: String) -> String {
    if !text.chars().any(char::is_control) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            printable("a\u{1b}[2Jb\nc\u{9b}".into()),
            "a\\u{1b}[2Jb\\nc\\u{9b}"
        );
        assert_eq!(printable("čšž 😀".into()), "čšž 😀");
    }
}
