//! XML as the API speaks it, by way of JSON values: the simulator thinks in JSON and puts it over at its edge.
//!
//! In: the root's name is ignored, and a list may come in each of the shapes seen in the reference: wrapped
//! (`<messages><message>`), nested (`<messages><messages>`, the 2015 documents) or bare and repeated. Leaves are
//! strings; what a field wants them to be is its reader's business. Depth, size and number of elements are bounded, a
//! document type is refused, so no entity of a caller's making is ever expanded.
//!
//! Out: lists are wrapped (WIRE.md "XML"); `<previews><previews>` is not a slip, the reference has it so.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use serde_json::{Map, Value};

/// The longest document read, in octets.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;
/// The deepest nesting read, the root included. The API's own documents go 6 deep.
pub const MAX_DEPTH: usize = 32;
/// The most elements read: a small document must not become a large tree.
pub const MAX_ELEMENTS: usize = 500_000;

/// Why a body is not a document that the API takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// More than [`MAX_BYTES`].
    #[error("the XML body has {0} octets, at most {MAX_BYTES} are read")]
    TooLarge(usize),
    /// Deeper than [`MAX_DEPTH`].
    #[error("the XML body nests elements more than {MAX_DEPTH} deep")]
    TooDeep,
    /// More than [`MAX_ELEMENTS`].
    #[error("the XML body has more than {MAX_ELEMENTS} elements")]
    TooManyElements,
    /// Not UTF-8, or declared to be something else.
    #[error("the XML body is not UTF-8")]
    Encoding,
    /// A document type declaration.
    #[error("the XML body has a document type declaration, which is refused")]
    DocumentType,
    /// An entity that XML itself does not define.
    #[error("the XML body refers to an entity that XML does not define")]
    Entity,
    /// A character that XML 1.0 forbids.
    #[error("the XML body has a character that XML 1.0 forbids")]
    Character,
    /// Nothing but blanks and comments.
    #[error("the XML body has no root element")]
    NoRoot,
    /// Not well-formed; at which octet.
    #[error("the XML body is not well-formed at octet {0}")]
    Malformed(u64),
}

/// An element's content.
enum Content {
    Text(String),
    Children(Vec<(String, Content)>),
}

/// An element that is still open.
struct Open {
    name: String,
    text: String,
    children: Vec<(String, Content)>,
}

impl Open {
    fn close(self) -> (String, Content) {
        let content = if self.children.is_empty() {
            Content::Text(self.text)
        } else {
            Content::Children(self.children)
        };
        (self.name, content)
    }
}

/// Reads a document into the JSON value that the same request would have as JSON, with strings for leaves.
///
/// The known lists (`messages`, `destinations`, `results`, `previews`, `days`, and `to` where it holds several) become
/// arrays. An empty root is an empty object.
///
/// ```text
/// <request><to><to>41793026727</to></to></request> → {"to": ["41793026727"]}
/// ```
pub fn to_json(body: &[u8]) -> Result<Value, XmlError> {
    Ok(match read(body)? {
        Content::Children(children) => Value::Object(object(children)),
        Content::Text(text) if text.trim().is_empty() => Value::Object(Map::new()),
        Content::Text(text) => Value::String(text),
    })
}

/// Parses a document and answers its root's content.
fn read(body: &[u8]) -> Result<Content, XmlError> {
    if body.len() > MAX_BYTES {
        return Err(XmlError::TooLarge(body.len()));
    }
    let text = std::str::from_utf8(body).map_err(|_| XmlError::Encoding)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.contains(forbidden) {
        return Err(XmlError::Character);
    }
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut root: Option<Content> = None;
    let mut elements = 0_usize;
    loop {
        let at = reader.buffer_position();
        let malformed = || XmlError::Malformed(at);
        let event = reader.read_event().map_err(|_| malformed())?;
        let closed = match event {
            Event::Start(start) => {
                admit(&mut elements, open.len(), root.is_some(), at)?;
                open.push(Open {
                    name: start.local_name().into_inner().to_owned(),
                    text: String::new(),
                    children: Vec::new(),
                });
                None
            }
            Event::Empty(start) => {
                admit(&mut elements, open.len(), root.is_some(), at)?;
                Some((
                    start.local_name().into_inner().to_owned(),
                    Content::Text(String::new()),
                ))
            }
            Event::End(_) => Some(open.pop().ok_or_else(malformed)?.close()),
            Event::Text(text) => {
                append(&mut open, &text.xml10_content(), at)?;
                None
            }
            Event::CData(text) => {
                append(&mut open, &text.xml10_content(), at)?;
                None
            }
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().map_err(|_| malformed())?;
                match character {
                    Some(character) if forbidden(character) => return Err(XmlError::Character),
                    Some(character) => {
                        append(&mut open, character.encode_utf8(&mut [0; 4]), at)?;
                    }
                    None => {
                        let text = resolve_predefined_entity(&reference).ok_or(XmlError::Entity)?;
                        append(&mut open, text, at)?;
                    }
                }
                None
            }
            Event::Decl(declaration) => {
                if let Some(encoding) = declaration.encoding() {
                    let encoding = encoding.map_err(|_| malformed())?;
                    let known = ["utf-8", "utf8", "us-ascii"];
                    if !known
                        .iter()
                        .any(|known| encoding.eq_ignore_ascii_case(known))
                    {
                        return Err(XmlError::Encoding);
                    }
                }
                None
            }
            Event::DocType(_) => return Err(XmlError::DocumentType),
            Event::Comment(_) | Event::PI(_) => None,
            Event::Eof if open.is_empty() => return root.ok_or(XmlError::NoRoot),
            Event::Eof => return Err(malformed()),
        };
        if let Some((name, content)) = closed {
            match open.last_mut() {
                Some(parent) => parent.children.push((name, content)),
                None => root = Some(content),
            }
        }
    }
}

/// Whether another element may begin here.
fn admit(elements: &mut usize, depth: usize, root_ended: bool, at: u64) -> Result<(), XmlError> {
    *elements += 1;
    if root_ended {
        Err(XmlError::Malformed(at))
    } else if depth >= MAX_DEPTH {
        Err(XmlError::TooDeep)
    } else if *elements > MAX_ELEMENTS {
        Err(XmlError::TooManyElements)
    } else {
        Ok(())
    }
}

/// Adds text to the innermost open element; outside the root only blanks may stand.
fn append(open: &mut [Open], text: &str, at: u64) -> Result<(), XmlError> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err(XmlError::Malformed(at)),
    }
    Ok(())
}

/// The name of a list's items, when they are wrapped, for the names that are lists in the manual.
fn item_name(list: &str) -> Option<&'static str> {
    match list {
        "messages" => Some("message"),
        "destinations" => Some("destination"),
        "results" => Some("result"),
        "previews" => Some("previews"),
        "days" => Some("days"),
        "to" => Some("to"),
        _ => None,
    }
}

/// An element's children as an object. Of a repeated element that is no list, the last one counts, as in JSON.
fn object(children: Vec<(String, Content)>) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, content) in children {
        let Some(item) = item_name(&name) else {
            fields.insert(name, value(content));
            continue;
        };
        let mut items = items(&name, item, content);
        // `to` is a number in a destination, a list in a request, an object in a time window.
        if name == "to" && !fields.contains_key("to") {
            let field = match items {
                Items::One(value) => value,
                Items::Several(values) => Value::Array(values),
            };
            fields.insert(name, field);
            continue;
        }
        match fields.get_mut(&name) {
            Some(Value::Array(all)) => items.move_into(all),
            Some(first) => {
                let mut all = vec![first.take()];
                items.move_into(&mut all);
                *first = Value::Array(all);
            }
            None => {
                let mut all = Vec::new();
                items.move_into(&mut all);
                fields.insert(name, Value::Array(all));
            }
        }
    }
    fields
}

/// What one element of a list's name stands for.
enum Items {
    /// An item itself: the list is bare.
    One(Value),
    /// The wrapper around items.
    Several(Vec<Value>),
}

impl Items {
    fn move_into(&mut self, all: &mut Vec<Value>) {
        match self {
            Self::One(value) => all.push(value.take()),
            Self::Several(values) => all.append(values),
        }
    }
}

fn items(list: &str, item: &str, content: Content) -> Items {
    match content {
        Content::Children(children)
            if children
                .iter()
                .all(|(name, _)| name == item || name == list) =>
        {
            Items::Several(
                children
                    .into_iter()
                    .map(|(_, content)| value(content))
                    .collect(),
            )
        }
        Content::Text(text) if text.trim().is_empty() && list != "to" => Items::Several(Vec::new()),
        content => Items::One(value(content)),
    }
}

fn value(content: Content) -> Value {
    match content {
        Content::Text(text) => Value::String(text),
        Content::Children(children) => Value::Object(object(children)),
    }
}

/// Writes a JSON value as a document with the given root.
///
/// An array becomes its field's element around one element an item: `message` in `messages`, `result` in `results`,
/// `destination` in `destinations`, the field's own name in any other (`to`, `days`, `previews`). `null` is left out.
/// Characters that XML 1.0 forbids are dropped, since there is no way to write them.
pub fn from_json(root: &str, value: &Value) -> String {
    let mut out = String::with_capacity(1024);
    out.push_str(r#"<?xml version="1.0" encoding="UTF-8"?>"#);
    write_element(&mut out, root, value);
    out
}

fn write_element(out: &mut String, name: &str, value: &Value) {
    if value.is_null() {
        return;
    }
    out.push('<');
    push_name(out, name);
    let content = out.len();
    out.push('>');
    let empty = out.len();
    match value {
        Value::Null => {}
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => push_text(out, text),
        Value::Array(items) => {
            let item = item_name(name).unwrap_or(name);
            for value in items {
                write_element(out, item, value);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                write_element(out, name, value);
            }
        }
    }
    if out.len() == empty {
        out.truncate(content);
        out.push_str("/>");
    } else {
        out.push_str("</");
        push_name(out, name);
        out.push('>');
    }
}

/// An element's name. Only a caller's own `callbackData` object can have a key that is none: it is made one.
fn push_name(out: &mut String, name: &str) {
    let starts_well = |c: char| c.is_ascii_alphabetic() || c == '_';
    let continues_well = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.starts_with(starts_well) {
        out.push('_');
    }
    out.extend(
        name.chars()
            .map(|c| if continues_well(c) { c } else { '_' }),
    );
}

fn push_text(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // A reader turns a bare carriage return into a line feed.
            '\r' => out.push_str("&#13;"),
            character if forbidden(character) => {}
            character => out.push(character),
        }
    }
}

/// What XML 1.0 cannot hold ("Char"), not even as a reference.
fn forbidden(character: char) -> bool {
    matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(body: &str) -> Value {
        to_json(body.as_bytes()).expect(body)
    }

    #[test]
    fn wrapped_nested_and_bare_lists_read_the_same() {
        let expected = json!({"bulkId": "B", "messages": [
            {"from": "InfoSMS", "destinations": [{"to": "41793026727", "messageId": "M"}, {"to": "41793026731"}], "text": "a"},
            {"from": "41793026700", "destinations": [{"to": "41793026785"}], "text": "b"},
        ]});
        let wrapped = "<SMSAdvancedTextualRequest><bulkId>B</bulkId><messages>
            <message><from>InfoSMS</from><destinations><destination><to>41793026727</to><messageId>M</messageId></destination>
              <destination><to>41793026731</to></destination></destinations><text>a</text></message>
            <message><from>41793026700</from><destinations><destination><to>41793026785</to></destination></destinations>
              <text>b</text></message></messages></SMSAdvancedTextualRequest>";
        let nested = "<request><bulkId>B</bulkId><messages>
            <messages><from>InfoSMS</from><destinations><destinations><to>41793026727</to><messageId>M</messageId></destinations>
              <destinations><to>41793026731</to></destinations></destinations><text>a</text></messages>
            <messages><from>41793026700</from><destinations><destinations><to>41793026785</to></destinations></destinations>
              <text>b</text></messages></messages></request>";
        let bare = "<request><bulkId>B</bulkId>
            <messages><from>InfoSMS</from><destinations><to>41793026727</to><messageId>M</messageId></destinations>
              <destinations><to>41793026731</to></destinations><text>a</text></messages>
            <messages><from>41793026700</from><destinations><to>41793026785</to></destinations>
              <text>b</text></messages></request>";
        for body in [wrapped, nested, bare] {
            assert_eq!(parsed(body), expected);
        }
    }

    #[test]
    fn to_is_a_number_a_list_or_a_time() {
        assert_eq!(parsed("<r><to>1</to></r>"), json!({"to": "1"}));
        assert_eq!(parsed("<r><to><to>1</to></to></r>"), json!({"to": ["1"]}));
        assert_eq!(
            parsed("<r><to><to>1</to><to>2</to></to></r>"),
            json!({"to": ["1", "2"]})
        );
        assert_eq!(
            parsed("<r><to>1</to><to>2</to><to>3</to></r>"),
            json!({"to": ["1", "2", "3"]})
        );
        let window = "<r><deliveryTimeWindow><days><days>MONDAY</days><days>SUNDAY</days></days>\
                      <from><hour>6</hour><minute>0</minute></from><to><hour>15</hour><minute>30</minute></to>\
                      </deliveryTimeWindow></r>";
        let expected = json!({"deliveryTimeWindow": {"days": ["MONDAY", "SUNDAY"],
            "from": {"hour": "6", "minute": "0"}, "to": {"hour": "15", "minute": "30"}}});
        assert_eq!(parsed(window), expected);
        assert_eq!(
            parsed("<r><days>MONDAY</days></r>"),
            json!({"days": ["MONDAY"]})
        );
    }

    #[test]
    fn text_comes_through_with_references_sections_and_blanks() {
        let body = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><!-- c --><x:r xmlns:x='u'>\
                    <text xml:space='preserve'> a &amp; &lt;b&gt; &#65;&#x1F600;<![CDATA[<c>]]>\r\nd </text><flash/></x:r>";
        assert_eq!(
            parsed(body),
            json!({"text": " a & <b> A😀<c>\nd ", "flash": ""})
        );
        assert_eq!(parsed("<r/>"), json!({}));
        assert_eq!(parsed("<r><messages/></r>"), json!({"messages": []}));
        assert_eq!(parsed("<r><a>1</a><a>2</a></r>"), json!({"a": "2"}));
    }

    #[test]
    fn what_is_no_plain_document_is_refused() {
        let refused = |body: &[u8]| to_json(body).expect_err("refused");
        let bomb = b"<!DOCTYPE r [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><r>&b;</r>";
        assert_eq!(refused(bomb), XmlError::DocumentType);
        assert_eq!(refused(b"<r>&nbsp;</r>"), XmlError::Entity);
        assert_eq!(refused(b"<r>&#1;</r>"), XmlError::Character);
        assert_eq!(refused(b"<r>\x01</r>"), XmlError::Character);
        assert_eq!(refused(b"<r>\xff</r>"), XmlError::Encoding);
        assert_eq!(
            refused(b"<?xml version='1.0' encoding='ISO-8859-1'?><r/>"),
            XmlError::Encoding
        );
        assert_eq!(refused(b" <!-- nothing --> "), XmlError::NoRoot);
        for body in [
            "<r>",
            "<r><a></r>",
            "<r/><r/>",
            "<r/>x",
            "x",
            "</r>",
            "<r>&#xD800;</r>",
            "<r",
            "{}",
        ] {
            assert!(
                matches!(refused(body.as_bytes()), XmlError::Malformed(_)),
                "{body}"
            );
        }
        assert_eq!(
            refused("<a>".repeat(MAX_DEPTH + 1).as_bytes()),
            XmlError::TooDeep
        );
        let many = format!("<r>{}</r>", "<a/>".repeat(MAX_ELEMENTS));
        assert_eq!(refused(many.as_bytes()), XmlError::TooManyElements);
        assert_eq!(
            refused(&vec![b' '; MAX_BYTES + 1]),
            XmlError::TooLarge(MAX_BYTES + 1)
        );
    }

    #[test]
    fn responses_are_wrapped_as_the_reference_wraps_them() {
        let status =
            json!({"groupId": 0, "groupName": "ACCEPTED", "id": 0, "name": "MESSAGE_ACCEPTED"});
        let response = json!({"bulkId": "B", "messages": [{"to": "41793026727", "status": status, "smsCount": 1}]});
        let head = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
        // Fields come in the map's order.
        let xml = from_json("smsResponse", &response);
        for expected in [
            head,
            "<smsResponse><bulkId>B</bulkId><messages><message>",
            "<groupName>ACCEPTED</groupName>",
            "<smsCount>1</smsCount>",
            "</message></messages></smsResponse>",
        ] {
            assert!(xml.contains(expected), "{expected} in {xml}");
        }
        let previews = json!({"previews": [{"messageCount": 1, "configuration": {}}]});
        let previews = from_json("PreviewResponse", &previews);
        assert!(
            previews.contains("<previews><previews>") && previews.contains("<configuration/>"),
            "{previews}"
        );
        let lookup =
            json!({"results": [{"to": "1", "ported": false, "imsi": null}], "to": ["1", "2"]});
        let lookup = from_json("ncResponse", &lookup);
        assert!(
            lookup.contains("<results><result>") && lookup.contains("<ported>false</ported>"),
            "{lookup}"
        );
        assert!(
            lookup.contains("<to><to>1</to><to>2</to></to>") && !lookup.contains("imsi"),
            "{lookup}"
        );
        assert_eq!(
            from_json("reportResponse", &json!({"results": []})),
            format!("{head}<reportResponse><results/></reportResponse>")
        );
        let error = json!({"requestError": {"serviceException": {"messageId": "BAD_REQUEST"}}});
        assert_eq!(
            from_json("ApiException", &error),
            format!(
                "{head}<ApiException><requestError><serviceException>\
            <messageId>BAD_REQUEST</messageId></serviceException></requestError></ApiException>"
            )
        );
    }

    #[test]
    fn any_text_and_any_key_comes_out_well_formed() {
        let value = json!({"text": "a<b>&\"'\r\n\u{1}\u{b}\u{ffff}ž😀]]>", "callbackData": {"1 <key>": {"": [true, 0.0001]}}});
        let xml = from_json("r", &value);
        assert_eq!(
            to_json(xml.as_bytes()).expect(&xml)["text"],
            "a<b>&\"'\r\nž😀]]>"
        );
        assert!(
            xml.contains("<_1__key_><_><_>true</_><_>0.0001</_></_></_1__key_>"),
            "{xml}"
        );
    }

    #[test]
    fn lists_come_back_as_they_went() {
        let value = json!({"messageCount": "1", "results": [{"to": "1", "price": {"currency": "EUR"}}, {"to": "2"}]});
        assert_eq!(parsed(&from_json("reportResponse", &value)), value);
    }

    proptest::proptest! {
        #[test]
        fn no_input_makes_the_reader_panic(body in "[<>/&;a-c!\\[\\]CDAT \"'?#x1-9=-]{0,64}") {
            // Whatever can be read can be written and read again.
            if let Ok(value) = to_json(body.as_bytes()) {
                proptest::prop_assert!(to_json(from_json("r", &value).as_bytes()).is_ok());
            }
        }

        #[test]
        fn whatever_is_written_can_be_read(key in ".{0,8}", text in ".{0,32}") {
            let xml = from_json("r", &json!({ key: { "messages": [{ "text": text }] } }));
            proptest::prop_assert!(to_json(xml.as_bytes()).is_ok(), "{}", xml);
        }
    }
}
