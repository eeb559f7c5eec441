//! What the client commands print: aligned tables for people, or proto JSON for machines, one message a line.
//!
//! Invariants: stdout carries results only. What came from outside (texts, names) is shown without control characters, as a
//! received message must not be able to steer the operator's terminal.

use std::io::{self, BufWriter, Stdout, Write};

use serde::Serialize;

/// Standard output, in the format that was asked for.
#[derive(Debug)]
pub struct Output {
    json: bool,
    out: BufWriter<Stdout>,
}

impl Output {
    /// Standard output, as proto JSON where `json`, else as tables.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self {
            json,
            out: BufWriter::new(io::stdout()),
        }
    }

    /// Whether proto JSON was asked for.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints messages: each as a line of JSON, or all of them as rows of `table`.
    ///
    /// # Errors
    /// Where stdout can't be written.
    pub fn messages<M: Serialize>(
        &mut self,
        table: &mut Table,
        messages: &[M],
        row: impl Fn(&M) -> Vec<String>,
    ) -> io::Result<()> {
        if self.json {
            messages.iter().try_for_each(|message| self.json(message))
        } else {
            table.write(&mut self.out, messages.iter().map(row).collect())
        }
    }

    /// Prints a message as a line of JSON.
    ///
    /// # Errors
    /// Where stdout can't be written.
    pub fn json<M: Serialize>(&mut self, message: &M) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, message)?;
        self.out.write_all(b"\n")
    }

    /// Prints one message: as a line of JSON, or as `text` says it.
    ///
    /// # Errors
    /// Where stdout can't be written.
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

    /// Says something about the results on stderr: a script that reads stdout does not see it.
    ///
    /// # Errors
    /// Where stderr can't be written.
    pub fn note(&self, note: &str) -> io::Result<()> {
        writeln!(io::stderr(), "{note}")
    }

    /// Hands what was printed to the operating system. Dropping it does not report errors: call this last.
    ///
    /// # Errors
    /// Where stdout can't be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A table that may grow: its columns get wider when a later row needs it, and never narrower. The last column is not
/// padded, so that long texts belong there.
#[derive(Debug)]
pub struct Table {
    header: &'static [&'static str],
    widths: Vec<usize>,
    begun: bool,
}

impl Table {
    /// A table with these column names.
    #[must_use]
    pub fn new(header: &'static [&'static str]) -> Self {
        Self {
            header,
            widths: header.iter().map(|name| name.chars().count()).collect(),
            begun: false,
        }
    }

    /// The same with least widths, for rows that are printed one by one.
    #[must_use]
    pub fn with_widths(header: &'static [&'static str], widths: &[usize]) -> Self {
        let mut table = Self::new(header);
        for (width, least) in table.widths.iter_mut().zip(widths) {
            *width = (*width).max(*least);
        }
        table
    }

    /// Writes rows, below the column names where they are the first.
    ///
    /// # Errors
    /// Where `out` can't be written.
    pub fn write(&mut self, out: &mut impl Write, rows: Vec<Vec<String>>) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let rows: Vec<Vec<String>> = rows
            .into_iter()
            .map(|row| row.into_iter().map(printable).collect())
            .collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        if !self.begun {
            self.begun = true;
            self.write_row(out, self.header.iter().copied())?;
        }
        rows.iter()
            .try_for_each(|row| self.write_row(out, row.iter().map(String::as_str)))
    }

    fn write_row<'a>(
        &self,
        out: &mut impl Write,
        cells: impl Iterator<Item = &'a str>,
    ) -> io::Result<()> {
        let mut line = String::new();
        for (cell, &width) in cells.zip(&self.widths) {
            line.push_str(cell);
            let missing = width.saturating_sub(cell.chars().count()) + 2;
            line.extend(std::iter::repeat_n(' ', missing));
        }
        writeln!(out, "{}", line.trim_end())
    }
}

/// A text without control characters: line breaks, escape sequences and their like are written as escapes.
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

    fn rows(rows: &[[&str; 2]]) -> Vec<Vec<String>> {
        rows.iter()
            .map(|row| row.iter().map(|&cell| cell.to_owned()).collect())
            .collect()
    }

    #[test]
    fn columns_are_aligned_and_named_once() {
        let mut table = Table::new(&["TO", "TEXT"]);
        let mut out = Vec::new();
        table.write(&mut out, Vec::new()).unwrap();
        assert!(out.is_empty(), "no rows, no header");
        table
            .write(&mut out, rows(&[["417", "žuto"], ["41793026727", ""]]))
            .unwrap();
        table.write(&mut out, rows(&[["1", "later"]])).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "TO           TEXT\n417          žuto\n41793026727\n1            later\n"
        );
    }

    #[test]
    fn a_text_cannot_steer_the_terminal() {
        assert_eq!(
            printable("a\u{1b}[2Jb\nc\u{9b}".into()),
            "a\\u{1b}[2Jb\\nc\\u{9b}"
        );
        assert_eq!(printable("čšž 😀".into()), "čšž 😀");
    }
}
