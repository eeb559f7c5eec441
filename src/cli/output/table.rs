//! A table that is printed in parts, and that fits the terminal.
//!
//! Invariants: without a width (stdout is not a terminal) every column is complete. On a terminal, columns that can be missed
//! are left out, in their order, and texts are shortened; ids and numbers never are.

use std::io::{self, Write};

use super::{colour::Tone, printable};

/// Least width of a text that is shortened, before another column is left out.
const SHORTEST_TEXT: usize = 12;
const GAP: usize = 2;

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub(super) name: &'static str,
    /// The rank in which it is left out: 1 first. `None`: never.
    leave_out: Option<u8>,
    is_text: bool,
    has_tone: bool,
}

impl Column {
    /// A column that is always printed whole: an id, a number.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            leave_out: None,
            is_text: false,
            has_tone: false,
        }
    }

    /// A text, which is shortened on a narrow terminal.
    #[must_use]
    pub const fn text(name: &'static str) -> Self {
        Self {
            is_text: true,
            ..Self::new(name)
        }
    }

    /// Left out on a narrow terminal, the column with the lowest rank first.
    #[must_use]
    pub const fn left_out(self, rank: u8) -> Self {
        Self {
            leave_out: Some(rank),
            ..self
        }
    }

    /// Coloured by what its cells contain ([`Tone::of`]).
    #[must_use]
    pub const fn toned(self) -> Self {
        Self {
            has_tone: true,
            ..self
        }
    }
}

/// A column grows if a later row needs it and never shrinks, except texts on a terminal. The last column is not padded: long
/// texts belong there.
#[derive(Debug)]
pub struct Table {
    columns: &'static [Column],
    /// The widths of the cells so far.
    widths: Vec<usize>,
    /// Whether each column is printed; decided with the header.
    shown: Option<Vec<bool>>,
}

/// How a table is printed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Screen {
    /// Columns of the terminal; `None` where stdout is not a terminal.
    pub width: Option<usize>,
    pub has_colours: bool,
}

impl Table {
    #[must_use]
    pub fn new(columns: &'static [Column]) -> Self {
        Self {
            columns,
            widths: columns
                .iter()
                .map(|column| column.name.chars().count())
                .collect(),
            shown: None,
        }
    }

    /// A table with minimum widths, for rows that are printed one by one.
    #[must_use]
    pub fn with_widths(columns: &'static [Column], widths: &[usize]) -> Self {
        let mut table = Self::new(columns);
        for (width, least) in table.widths.iter_mut().zip(widths) {
            *width = (*width).max(*least);
        }
        table
    }

    /// The names of the columns that are left out.
    pub(super) fn left_out(&self) -> Vec<&'static str> {
        let Some(shown) = &self.shown else {
            return Vec::new();
        };
        self.columns
            .iter()
            .zip(shown)
            .filter(|(_, is_shown)| !**is_shown)
            .map(|(column, _)| column.name)
            .collect()
    }

    /// Writes rows; before the first ones, the header.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn write(
        &mut self,
        out: &mut impl Write,
        screen: Screen,
        rows: Vec<Vec<String>>,
    ) -> io::Result<()> {
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
        let is_first = self.shown.is_none();
        if is_first {
            self.shown = Some(self.choose(screen.width));
        }
        let widths = self.fit(screen.width);
        if is_first {
            let names = self.columns.iter().map(|column| column.name.to_owned());
            self.write_row(out, screen, &widths, &names.collect::<Vec<_>>(), true)?;
        }
        rows.iter()
            .try_for_each(|row| self.write_row(out, screen, &widths, row, false))
    }

    /// Which columns are printed: as many as fit with the shortest texts.
    fn choose(&self, width: Option<usize>) -> Vec<bool> {
        let mut shown = vec![true; self.columns.len()];
        let Some(width) = width else {
            return shown;
        };
        let least = |position: usize| match self.columns[position].is_text {
            true => self.widths[position].min(SHORTEST_TEXT),
            false => self.widths[position],
        };
        while total(&shown, least) > width {
            let next = (0..self.columns.len())
                .filter(|position| shown[*position])
                .filter_map(|position| Some((self.columns[position].leave_out?, position)))
                .min();
            match next {
                Some((_, position)) => shown[position] = false,
                None => break,
            }
        }
        shown
    }

    /// The widths of the columns: texts share what the others leave, the first ones first.
    fn fit(&self, width: Option<usize>) -> Vec<usize> {
        let (Some(width), Some(shown)) = (width, &self.shown) else {
            return self.widths.clone();
        };
        let mut widths = self.widths.clone();
        let texts = (0..widths.len()).filter(|position| self.columns[*position].is_text);
        // The last ones become shorter first, and shorter than they should be only if a later row needs the room.
        for shortest in [SHORTEST_TEXT, 1] {
            for position in texts.clone().rev() {
                let excess = total(shown, |position| widths[position]).saturating_sub(width);
                let least = widths[position].min(shortest);
                widths[position] = widths[position].saturating_sub(excess).max(least);
            }
        }
        widths
    }

    fn write_row(
        &self,
        out: &mut impl Write,
        screen: Screen,
        widths: &[usize],
        cells: &[String],
        is_header: bool,
    ) -> io::Result<()> {
        let mut line = String::new();
        let mut gap = 0;
        for (position, (column, cell)) in self.columns.iter().zip(cells).enumerate() {
            let is_shown = self.shown.as_ref().is_none_or(|shown| shown[position]);
            if !is_shown {
                continue;
            }
            let width = widths[position];
            let cell = if screen.width.is_some() && column.is_text {
                shortened(cell, width)
            } else {
                cell.clone()
            };
            let length = cell.chars().count();
            let tone = match is_header {
                true => Some(Tone::Bold),
                false if column.has_tone => Tone::of(&cell),
                false => None,
            };
            if length > 0 {
                line.extend(std::iter::repeat_n(' ', gap));
                gap = 0;
                match tone.filter(|_| screen.has_colours) {
                    Some(tone) => line.push_str(&tone.paint(&cell)),
                    None => line.push_str(&cell),
                }
            }
            gap += width.saturating_sub(length) + GAP;
        }
        writeln!(out, "{line}")
    }
}

/// The width of a row with its gaps.
fn total(shown: &[bool], width: impl Fn(usize) -> usize) -> usize {
    let widths = (0..shown.len())
        .filter(|position| shown[*position])
        .map(|position| width(position) + GAP);
    widths.sum::<usize>().saturating_sub(GAP)
}

/// At most `width` characters; a text that was longer ends in `…`.
fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain(['…']).collect()
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
        let mut table = Table::new(const { &[Column::new("TO"), Column::text("TEXT")] });
        let mut out = Vec::new();
        let screen = Screen::default();
        table.write(&mut out, screen, Vec::new()).unwrap();
        assert!(out.is_empty(), "no rows, no header");
        let first = rows(&[["417", "žuto"], ["41793026727", ""]]);
        table.write(&mut out, screen, first).unwrap();
        table
            .write(&mut out, screen, rows(&[["1", "later"]]))
            .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "TO           TEXT\n417          žuto\n41793026727\n1            later\n"
        );
    }

    #[test]
    fn a_later_row_that_is_wider_shortens_texts_only() {
        let mut table = Table::new(const { &[Column::new("ID"), Column::text("TEXT")] });
        let screen = Screen {
            width: Some(20),
            has_colours: false,
        };
        let mut out = Vec::new();
        let text = "a text of 24 characters.";
        for id in ["id", "0123456789ABCDEF", "0123456789ABCDEFGHIJ-22"] {
            table.write(&mut out, screen, rows(&[[id, text]])).unwrap();
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "ID  TEXT\nid  a text of 24 ch…\n0123456789ABCDEF  a…\n0123456789ABCDEFGHIJ-22  …\n"
        );
    }
}
