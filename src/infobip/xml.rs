//! Converts XML bodies to JSON rows, so that every row is read by the same code.
//!
//! The name of the root is ignored. Rows are found if `<results>` contains `<result>`s, contains another `<results>` (the
//! format of 2015), or is a row itself (docs/INFOBIP_API.md#xml).
//!
//! Invariants: a malformed row does not affect the other rows; entities other than the predefined ones are not expanded; depth
//! and number of elements are bounded.
//! Neighbours: [`element`] builds the JSON, [`recovery`] continues after malformed rows, `wire::rows` splits JSON bodies and
//! reads the rows of both.

mod element;
mod recovery;

use std::borrow::Cow;

use quick_xml::{
    Reader,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};
use serde_json::Map;

use self::element::Element;
use super::wire::rows::{BadRow, MAX_BODY_ROWS, RawRows, UnreadableBody};

const MAX_DEPTH: usize = 32;
const MAX_ELEMENTS: usize = 500_000;

/// Splits an XML body into rows of JSON.
pub(super) fn split(text: &str) -> Result<RawRows<'static>, UnreadableBody> {
    let mut parser = Parser::new(text);
    parser.run()?;
    parser.finish()
}

/// The content of the root as JSON, for errors, which have no rows. `None` if the document is not well-formed.
pub(super) fn document_to_json(text: &str) -> Option<String> {
    let mut parser = Parser::new(text);
    parser.run().ok()?;
    let root = parser.root.filter(|_| parser.bad.is_empty())?;
    Some(root.into_json().to_string())
}

/// Reads the text and keeps the stack of open elements.
struct Parser<'a> {
    text: &'a str,
    open: Vec<Element>,
    root: Option<Element>,
    rows: Vec<Cow<'static, str>>,
    bad: Vec<BadRow>,
    elements: usize,
    /// Offset after the last row, in bytes.
    row_end: usize,
}

/// A syntax error and its offset in bytes.
struct SyntaxError {
    at: usize,
    detail: &'static str,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            open: Vec::new(),
            root: None,
            rows: Vec::new(),
            bad: Vec::new(),
            elements: 0,
            row_end: 0,
        }
    }

    fn read(&mut self, from: usize) -> Result<(), SyntaxError> {
        let mut reader = Reader::from_str(self.text.get(from..).unwrap_or_default());
        let config = reader.config_mut();
        // `end` compares the names, because reading may start within the document.
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        config.allow_dangling_amp = true;
        loop {
            let at = from
                + usize::try_from(reader.buffer_position())
                    .expect("an offset in a string fits in usize");
            let error = |detail| SyntaxError { at, detail };
            let event = reader.read_event();
            let after = from
                + usize::try_from(reader.buffer_position())
                    .expect("an offset in a string fits in usize");
            // The reader takes an unterminated tag and the next tag as a single tag.
            let is_tag = matches!(event, Ok(Event::Start(_) | Event::Empty(_) | Event::End(_)));
            if is_tag
                && self
                    .text
                    .get(at + 1..after)
                    .is_some_and(|tag| tag.contains('<'))
            {
                return Err(error("the XML has an unterminated tag"));
            }
            match event {
                Err(_) => return Err(error("the XML is malformed")),
                Ok(Event::Eof) if self.open.is_empty() => return Ok(()),
                Ok(Event::Eof) => return Err(error("the XML is truncated")),
                Ok(Event::Start(tag)) => self.start(&tag, at).map_err(error)?,
                Ok(Event::Empty(tag)) => {
                    self.start(&tag, at).map_err(error)?;
                    self.end(tag.name().into_inner(), after).map_err(error)?;
                }
                Ok(Event::End(tag)) => self.end(tag.name().into_inner(), after).map_err(error)?,
                Ok(Event::Text(text)) => self.add_text(&text.xml10_content()),
                Ok(Event::CData(text)) => self.add_text(&text.xml10_content()),
                Ok(Event::GeneralRef(reference)) => match reference.resolve_char_ref() {
                    Ok(Some(c)) => self.add_text(c.encode_utf8(&mut [0; 4])),
                    _ => match resolve_predefined_entity(&reference) {
                        Some(text) => self.add_text(text),
                        None => self.add_text(&format!("&{};", &*reference)),
                    },
                },
                Ok(Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_)) => {}
            }
        }
    }

    fn start(&mut self, tag: &BytesStart<'_>, at: usize) -> Result<(), &'static str> {
        self.elements += 1;
        if self.open.len() >= MAX_DEPTH {
            return Err("the XML is nested too deeply");
        }
        if self.elements > MAX_ELEMENTS {
            return Err("the XML has too many elements");
        }
        if self.open.is_empty() && self.root.is_some() {
            return Err("the XML has two root elements");
        }
        let element = Element {
            name: tag.local_name().into_inner().to_owned(),
            qualified_name: tag.name().into_inner().to_owned(),
            text: String::new(),
            children: Map::new(),
            start: at,
            has_list: false,
        };
        if element.is_list_or_row() && self.open.iter().any(Element::is_row) {
            return Err("the row is not closed before the next one");
        }
        self.open.push(element);
        Ok(())
    }

    fn end(&mut self, name: &str, after: usize) -> Result<(), &'static str> {
        if self
            .open
            .last()
            .is_none_or(|element| element.qualified_name != name)
        {
            return Err("the XML has mismatched tags");
        }
        let Some(element) = self.open.pop() else {
            return Err("the XML has mismatched tags");
        };
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(element);
            return Ok(());
        };
        if !element.is_list_or_row() {
            let name = element.name.clone();
            parent.add(name, element.into_json());
            return Ok(());
        }
        parent.has_list = true;
        self.row_end = after;
        if !element.children.is_empty() {
            self.rows.push(Cow::Owned(element.into_json().to_string()));
        } else if !element.text.trim().is_empty() {
            self.bad.push(BadRow {
                payload: element.text,
                detail: "the row has no fields".to_owned(),
            });
        }
        if self.rows.len() > MAX_BODY_ROWS {
            return Err("the XML has too many rows");
        }
        Ok(())
    }

    fn add_text(&mut self, text: &str) {
        if let Some(element) = self.open.last_mut() {
            element.text.push_str(text);
        }
    }

    fn finish(self) -> Result<RawRows<'static>, UnreadableBody> {
        let root = match self.root {
            Some(root) => root,
            // Reading stopped after good rows.
            None if !self.rows.is_empty() => {
                return Ok(RawRows {
                    rows: self.rows,
                    bad: self.bad,
                    ..RawRows::default()
                });
            }
            None => return Err(UnreadableBody::new("the XML has no readable row")),
        };
        let count = |name: &str| {
            let text = root.children.get(name)?.as_str()?;
            text.trim().parse().ok()
        };
        let (message_count, pending_message_count) =
            (count("messageCount"), count("pendingMessageCount"));
        let has_list = root.has_list || !self.rows.is_empty() || !self.bad.is_empty();
        if self.rows.is_empty() && !self.bad.is_empty() {
            return Err(UnreadableBody::new("the XML has no readable row"));
        }
        let bulk_id = root.children.get("bulkId");
        let bulk_id = bulk_id.and_then(|id| id.as_str()).unwrap_or_default();
        let bulk_id = bulk_id.trim().to_owned();
        let is_empty = root.children.is_empty() && root.text.trim().is_empty();
        let is_empty_answer = is_empty && !root.name.eq_ignore_ascii_case("html");
        let single = !has_list && !is_empty_answer;
        Ok(RawRows {
            rows: self.rows,
            bad: self.bad,
            bulk_id,
            message_count,
            pending_message_count,
            single: single.then(|| Cow::Owned(root.into_json().to_string())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Result<(Vec<String>, usize), UnreadableBody> {
        let split = split(text)?;
        assert!(split.single.is_none());
        let rows = split.rows.into_iter().map(Cow::into_owned).collect();
        Ok((rows, split.bad.len()))
    }

    #[test]
    fn rows_are_found_in_every_structure() {
        let row = "<messageId>a</messageId><status><id>5</id></status>";
        let json = r#"{"messageId":"a","status":{"id":"5"}}"#.to_owned();
        for text in [
            format!("<reportResponse><results><result>{row}</result></results></reportResponse>"),
            format!(
                "<SMSLogsResponse><results><results>{row}</results></results></SMSLogsResponse>"
            ),
            format!("<reportResponse><results>{row}</results></reportResponse>"),
            format!("<x><result>{row}</result></x>"),
            format!(
                "<?xml version=\"1.0\"?>\n<n:r xmlns:n=\"u\"><n:results>\n<n:result>{row}</n:result>\n</n:results></n:r>"
            ),
            format!("<results><result>{row}</result></results>"),
        ] {
            assert_eq!(rows(&text), Ok((vec![json.clone()], 0)), "{text}");
        }
        for text in [
            "<reportResponse><results/></reportResponse>",
            "<reportResponse/>",
            "<r><results></results></r>",
        ] {
            assert_eq!(rows(text), Ok((vec![], 0)), "{text}");
        }
    }

    #[test]
    fn text_is_unescaped_once() {
        let (found, _) = rows("<r><results><result><text>a &lt;b&gt; &amp;amp; &#233;&nbsp;<![CDATA[<&>]]></text></result></results></r>").unwrap();
        assert_eq!(found, [r#"{"text":"a <b> &amp; é&nbsp;<&>"}"#]);
    }

    #[test]
    fn spaces_around_the_text_of_a_message_are_kept() {
        let (found, _) = rows(
            "<r><results><result><messageId> 1\n</messageId><text> YES </text><cleanText> </cleanText></result></results></r>",
        )
        .unwrap();
        assert_eq!(
            found,
            [r#"{"cleanText":" ","messageId":"1","text":" YES "}"#]
        );
    }

    #[test]
    fn a_malformed_row_does_not_affect_its_neighbours() {
        for (row, bad) in [
            ("<result><messageId>2</messageId><to></result>", 1),
            ("<result><messageId>2</messageId>", 1),
            ("<result><messageId>2</wrong></result>", 1),
            ("<result><messageId 2</messageId></result>", 1),
            ("<result>2</result>", 1),
            ("<result><messageId>2</messageId></result", 1),
            ("result><messageId>2</messageId></result>", 1),
        ] {
            let good = "<result><messageId>1</messageId></result>";
            let text = format!("<r><results>{good}{row}{good}</results></r>");
            let (found, bad_count) = rows(&text).unwrap();
            assert_eq!((found.len(), bad_count), (2, bad), "{row}");
        }
        let (found, bad_count) =
            rows("<r><results><result><id>1</id></result><result><id>2").unwrap();
        assert_eq!((found.len(), bad_count), (1, 1));
    }

    #[test]
    fn an_error_outside_the_lists_does_not_end_the_reading() {
        let row = |id: u8| format!("<results><messageId>{id}</messageId></results>");
        for (between, bad) in [
            ("</x>", 0),
            ("</r>", 0),
            ("</r><r>", 1),
            ("<y><z></y>", 1),
            ("<y", 1),
        ] {
            let text = format!("<r>{}{between}{}{}</r>", row(1), row(2), row(3));
            let split = split(&text).unwrap();
            assert_eq!(split.rows.len(), 3, "{text}");
            assert_eq!(split.bad.len(), bad, "{text}: {:?}", split.bad);
        }
        // What follows the last row and cannot be read is kept.
        let text = format!("<r>{}</x><row>2</row></r>", row(1));
        let split = split(&text).unwrap();
        assert_eq!((split.rows.len(), split.bad.len()), (1, 1));
        assert_eq!(split.bad[0].payload, "</x><row>2</row></r>");
    }

    #[test]
    fn html_pages_and_oversized_documents_are_unreadable() {
        assert!(rows("<").is_err());
        assert!(
            rows("<html><head><meta charset=utf-8></head><body>Bad<br>gateway</body></html>")
                .is_err()
        );
        assert!(rows(&"<a>".repeat(100_000)).is_err());
        assert!(rows(&format!("<r>{}</r>", "<a/>".repeat(600_000))).is_err());
    }
}
