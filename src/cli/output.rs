//! Prints the results of client commands: aligned tables, or proto JSON, one message per line.
//!
//! Invariants: only results go to stdout. Texts and names from outside are printed without control characters: a received
//! message must not send escape sequences to the operator's terminal.

use std::io::{self, BufWriter, Stdout, Write};

use serde::Serialize;

#[derive(Debug)]
pub struct Output {
    json: bool,
    out: BufWriter<Stdout>,
}

impl Output {
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self {
            json,
            out: BufWriter::new(io::stdout()),
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
            messages.iter().try_for_each(|message| self.json(message))
        } else {
            table.write(&mut self.out, messages.iter().map(row).collect())
        }
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

    /// Flushes stdout. Dropping does not report errors: call this last.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A table that is printed in parts. A column grows if a later row needs it and never shrinks. The last column is not padded:
/// long texts belong there.
#[derive(Debug)]
pub struct Table {
    header: &'static [&'static str],
    widths: Vec<usize>,
    has_header: bool,
}

impl Table {
    #[must_use]
    pub fn new(header: &'static [&'static str]) -> Self {
        Self {
            header,
            widths: header.iter().map(|name| name.chars().count()).collect(),
            has_header: false,
        }
    }

    /// A table with minimum widths, for rows that are printed one by one.
    #[must_use]
    pub fn with_widths(header: &'static [&'static str], widths: &[usize]) -> Self {
        let mut table = Self::new(header);
        for (width, least) in table.widths.iter_mut().zip(widths) {
            *width = (*width).max(*least);
        }
        table
    }

    /// Writes rows; before the first ones, the header.
    ///
    /// # Errors
    /// If `out` cannot be written.
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
        if !self.has_header {
            self.has_header = true;
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

    fn rows(rows: &[[&str; 2]]) -> Vec<Vec<String>> {
        rows.iter()
            .map(|row| row.iter().map(|&cell| cell.to_owned()).collect())
            .collect()
    }

    #[test]
    fn a_table_prints_its_header_once_and_aligns_its_columns() {
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
    fn control_characters_are_escaped() {
        assert_eq!(
            printable("a\u{1b}[2Jb\nc\u{9b}".into()),
            "a\\u{1b}[2Jb\\nc\\u{9b}"
        );
        assert_eq!(printable("čšž 😀".into()), "čšž 😀");
    }
}
