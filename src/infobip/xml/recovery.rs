//! Recovery from syntax errors: a malformed row is kept as bad, and reading continues at the next row.

use super::{Element, MAX_ELEMENTS, Parser, SyntaxError};
use crate::infobip::wire::rows::{
    BadRow, MAX_BODY_ROWS, MAX_BROKEN_ROWS, UnreadableBody, too_many_rows,
};

impl Parser<'_> {
    /// Reads to the end. After a malformed row, reading continues at the next one.
    pub(super) fn run(&mut self) -> Result<(), UnreadableBody> {
        let mut from = 0;
        while let Err(error) = self.read(from) {
            if self.elements > MAX_ELEMENTS || self.rows.len() > MAX_BODY_ROWS {
                return Err(too_many_rows());
            }
            let Some(innermost) = self.open.iter().rposition(Element::is_list_or_row) else {
                // Without a row before it, the whole body counts as unreadable.
                if self.rows.is_empty() {
                    return Err(UnreadableBody::new(error.detail));
                }
                match self.skip_to_next_row(&error) {
                    Some(next) => from = next,
                    None => return Ok(()),
                }
                continue;
            };
            // A malformed row is dropped entirely. A list with an error between its rows stays open for the next rows.
            let frame = &mut self.open[innermost];
            let is_list = frame.has_list
                || (frame.children.is_empty() && frame.name.eq_ignore_ascii_case("results"));
            let (start, search_from) = if is_list {
                // The remains of a row without a start tag belong to the malformed row.
                frame.children.clear();
                frame.text.clear();
                let start = self.row_end.max(frame.start);
                self.open.truncate(innermost + 1);
                (start, error.at + 1)
            } else {
                let start = frame.start;
                self.open.truncate(innermost);
                (start, error.at.max(start + 1))
            };
            match self.keep_malformed(start, search_from, error.detail) {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// After an error between lists: what is between the last row and the next one counts as malformed. Returns the offset of the
    /// next row, if there is one.
    fn skip_to_next_row(&mut self, error: &SyntaxError) -> Option<usize> {
        // A second root may be a row itself, which is read again below the first one.
        let is_second_root = self.open.is_empty() && self.root.is_some();
        let search_from = error.at + usize::from(!is_second_root);
        let next = self.keep_malformed(self.row_end, search_from, error.detail)?;
        // The same text is not kept twice.
        self.row_end = next;
        if is_second_root {
            self.open.extend(self.root.take());
        }
        Some(next)
    }

    /// Keeps the text from `start` to the next row, which is searched from `search_from` on, as a malformed row. Returns the offset
    /// of the next row, if there is one.
    fn keep_malformed(&mut self, start: usize, search_from: usize, detail: &str) -> Option<usize> {
        let next = (self.bad.len() + 1 < MAX_BROKEN_ROWS)
            .then(|| next_row(self.text, search_from))
            .flatten();
        let payload = self
            .text
            .get(start..next.unwrap_or(self.text.len()))
            .unwrap_or_default()
            .trim();
        if !is_only_closing_tags(payload) {
            self.bad.push(BadRow {
                payload: payload.to_owned(),
                detail: detail.to_owned(),
            });
        }
        next
    }
}

/// Offset of the next `<result>` or `<results>`, with any namespace prefix.
fn next_row(text: &str, from: usize) -> Option<usize> {
    let mut from = (from..text.len()).find(|at| text.is_char_boundary(*at))?;
    loop {
        let at = from + text.get(from..)?.find('<')?;
        from = at + 1;
        let rest = text.get(from..)?;
        let name = rest
            .split(|c: char| c.is_ascii_whitespace() || matches!(c, '>' | '/' | '<'))
            .next()?;
        let local = name.rsplit(':').next().unwrap_or(name);
        if local.eq_ignore_ascii_case("result") || local.eq_ignore_ascii_case("results") {
            return Some(at);
        }
    }
}

fn is_only_closing_tags(text: &str) -> bool {
    text.split('<')
        .map(str::trim)
        .all(|tag| tag.is_empty() || (tag.starts_with('/') && tag.ends_with('>')))
}
