//! XML, turned into JSON where it comes in, so that every row is read once in one way.
//!
//! docs/INFOBIP_API.md#xml: the root's name is ignored, and rows are found whether `<results>` wraps `<result>`s, repeats itself
//! within itself (the 2015 documents), or is a row itself. A row that is broken costs itself only. Entities beyond XML's own
//! are not expanded; depth and number of elements are bounded.

use std::borrow::Cow;

use quick_xml::{
    Reader,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};
use serde_json::{Map, Value};

use super::wire::rows::{
    BadRow, MAX_BODY_ROWS, MAX_BROKEN_ROWS, Split, UnreadableBody, too_many_rows,
};

const MAX_DEPTH: usize = 32;
const MAX_ELEMENTS: usize = 500_000;

/// Splits an XML body into rows, each as JSON.
pub(super) fn split(text: &str) -> Result<Split<'static>, UnreadableBody> {
    let mut walk = Walk::new(text);
    walk.run()?;
    walk.finish()
}

/// A whole document without its root, as JSON; `None` where it is not well formed. For errors, which have no rows.
pub(super) fn document_to_json(text: &str) -> Option<String> {
    let mut walk = Walk::new(text);
    walk.run().ok()?;
    let root = walk.root.filter(|_| walk.bad.is_empty())?;
    Some(root.into_json().to_string())
}

/// An element that is open or, within its parent, closed.
#[derive(Debug)]
struct Element {
    name: String,
    /// Its name as it stands in the text, with its prefix.
    qualified_name: String,
    text: String,
    children: Map<String, Value>,
    /// Where it begins in the text.
    start: usize,
    /// Whether a list of rows was found in it.
    has_list: bool,
}

impl Element {
    /// `<result>` and `<results>` hold rows or are rows.
    fn is_list_or_row(&self) -> bool {
        self.name.eq_ignore_ascii_case("result") || self.name.eq_ignore_ascii_case("results")
    }

    /// Whether it is a row that is being read: one of those with fields, and no rows, in it.
    fn is_row(&self) -> bool {
        self.is_list_or_row() && !self.children.is_empty() && !self.has_list
    }

    fn into_json(self) -> Value {
        if self.children.is_empty() {
            Value::String(self.text.trim().to_owned())
        } else {
            Value::Object(self.children)
        }
    }

    /// Adds a child; a repeated one makes a list.
    fn add(&mut self, name: String, value: Value) {
        match self.children.get_mut(&name) {
            Some(Value::Array(values)) => values.push(value),
            Some(first) => {
                let first_value = first.take();
                *first = Value::Array(vec![first_value, value]);
            }
            None => {
                self.children.insert(name, value);
            }
        }
    }
}

/// A walk over the text with the elements that are open.
struct Walk<'a> {
    text: &'a str,
    open: Vec<Element>,
    root: Option<Element>,
    rows: Vec<Cow<'static, str>>,
    bad: Vec<BadRow>,
    elements: usize,
    /// Where the last row ended.
    row_end: usize,
}

/// Why reading stopped, and where.
struct Broken {
    at: usize,
    detail: &'static str,
}

impl<'a> Walk<'a> {
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

    /// Reads to the end; after a broken row goes on at the next one.
    fn run(&mut self) -> Result<(), UnreadableBody> {
        let mut from = 0;
        while let Err(broken) = self.read(from) {
            if self.elements > MAX_ELEMENTS || self.rows.len() > MAX_BODY_ROWS {
                return Err(too_many_rows());
            }
            let Some(innermost) = self.open.iter().rposition(Element::is_list_or_row) else {
                // Not among rows: nothing after it can be understood.
                if self.rows.is_empty() {
                    return Err(UnreadableBody::new(broken.detail));
                }
                return Ok(());
            };
            // A broken row is dropped as a whole; a list that breaks between its rows stays open for the next ones.
            let frame = &mut self.open[innermost];
            let is_list = frame.has_list
                || (frame.children.is_empty() && frame.name.eq_ignore_ascii_case("results"));
            let (start, search_from) = if is_list {
                // What a row without a beginning left in the list is part of what is broken.
                frame.children.clear();
                frame.text.clear();
                let start = self.row_end.max(frame.start);
                self.open.truncate(innermost + 1);
                (start, broken.at + 1)
            } else {
                let start = frame.start;
                self.open.truncate(innermost);
                (start, broken.at.max(start + 1))
            };
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
                    detail: broken.detail.to_owned(),
                });
            }
            match next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn read(&mut self, from: usize) -> Result<(), Broken> {
        let mut reader = Reader::from_str(self.text.get(from..).unwrap_or_default());
        let config = reader.config_mut();
        // Names are compared here, since reading may begin within the document.
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        config.allow_dangling_amp = true;
        loop {
            let at = from + usize::try_from(reader.buffer_position()).unwrap_or_default();
            let broken = |detail| Broken { at, detail };
            let event = reader.read_event();
            let after = from + usize::try_from(reader.buffer_position()).unwrap_or_default();
            // A tag that lost its end swallows the next one without a word.
            let is_tag = matches!(event, Ok(Event::Start(_) | Event::Empty(_) | Event::End(_)));
            if is_tag
                && self
                    .text
                    .get(at + 1..after)
                    .is_some_and(|tag| tag.contains('<'))
            {
                return Err(broken("the XML has a tag without an end"));
            }
            match event {
                Err(_) => return Err(broken("the XML is malformed")),
                Ok(Event::Eof) if self.open.is_empty() => return Ok(()),
                Ok(Event::Eof) => return Err(broken("the XML ends too early")),
                Ok(Event::Start(tag)) => self.start(&tag, at).map_err(broken)?,
                Ok(Event::Empty(tag)) => {
                    self.start(&tag, at).map_err(broken)?;
                    self.end(tag.name().into_inner(), after).map_err(broken)?;
                }
                Ok(Event::End(tag)) => self.end(tag.name().into_inner(), after).map_err(broken)?,
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
            return Err("the XML is nested too deep");
        }
        if self.elements > MAX_ELEMENTS {
            return Err("the XML has too many elements");
        }
        if self.open.is_empty() && self.root.is_some() {
            return Err("the XML has two roots");
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
            return Err("the row does not end before the next one");
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
            return Err("the XML's tags do not match");
        }
        let Some(element) = self.open.pop() else {
            return Err("the XML's tags do not match");
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

    fn finish(self) -> Result<Split<'static>, UnreadableBody> {
        let root = match self.root {
            Some(root) => root,
            // It was given up after rows that are good.
            None if !self.rows.is_empty() => {
                return Ok(Split {
                    rows: self.rows,
                    bad: self.bad,
                    ..Split::default()
                });
            }
            None => return Err(UnreadableBody::new("the XML has no row that can be read")),
        };
        let count = |name: &str| {
            let text = root.children.get(name)?.as_str()?;
            text.trim().parse().ok()
        };
        let (message_count, pending_message_count) =
            (count("messageCount"), count("pendingMessageCount"));
        let has_list = root.has_list || !self.rows.is_empty() || !self.bad.is_empty();
        if self.rows.is_empty() && !self.bad.is_empty() {
            return Err(UnreadableBody::new("the XML has no row that can be read"));
        }
        let is_empty = root.children.is_empty() && root.text.trim().is_empty();
        let is_empty_answer = is_empty && !root.name.eq_ignore_ascii_case("html");
        let single = !has_list && !is_empty_answer;
        Ok(Split {
            rows: self.rows,
            bad: self.bad,
            message_count,
            pending_message_count,
            single: single.then(|| Cow::Owned(root.into_json().to_string())),
        })
    }
}

/// Where the next `<result>` or `<results>` begins, whatever its prefix.
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
    fn rows_are_found_in_every_shape() {
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
    fn a_broken_row_costs_itself_only() {
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
            let (found, broken) = rows(&text).unwrap();
            assert_eq!((found.len(), broken), (2, bad), "{row}");
        }
        let (found, broken) = rows("<r><results><result><id>1</id></result><result><id>2").unwrap();
        assert_eq!((found.len(), broken), (1, 1));
    }

    #[test]
    fn pages_and_bombs_are_unreadable() {
        assert!(rows("<").is_err());
        assert!(
            rows("<html><head><meta charset=utf-8></head><body>Bad<br>gateway</body></html>")
                .is_err()
        );
        assert!(rows(&"<a>".repeat(100_000)).is_err());
        assert!(rows(&format!("<r>{}</r>", "<a/>".repeat(600_000))).is_err());
    }
}
