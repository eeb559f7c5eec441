//! Parses an XML document into the JSON value of the same request in JSON.

use quick_xml::{Reader, escape::resolve_predefined_entity, events::Event};
use serde_json::{Map, Value};

use super::{is_forbidden, item_name};

/// Maximum length of a document in octets.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Maximum nesting, the root included. The API's own documents have at most 6 levels.
pub const MAX_DEPTH: usize = 32;
/// Maximum number of elements: a small document must not become a large tree.
pub const MAX_ELEMENTS: usize = 500_000;

/// Why an XML body is refused.
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
    /// Not UTF-8, or declared to have another encoding.
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
    /// Only blanks and comments.
    #[error("the XML body has no root element")]
    NoRoot,
    /// Not well-formed at this octet.
    #[error("the XML body is not well-formed at octet {0}")]
    Malformed(u64),
}

enum ElementContent {
    Text(String),
    Children(Vec<(String, ElementContent)>),
}

struct OpenElement {
    name: String,
    text: String,
    children: Vec<(String, ElementContent)>,
}

impl OpenElement {
    fn into_content(self) -> (String, ElementContent) {
        let content = if self.children.is_empty() {
            ElementContent::Text(self.text)
        } else {
            ElementContent::Children(self.children)
        };
        (self.name, content)
    }
}

/// Reads a document into the JSON value that the same request would have as JSON, with strings for leaves.
///
/// The known lists (`messages`, `destinations`, `results`, `previews`, `days`, and `to` with several items) become
/// arrays. An empty root is an empty object.
///
/// ```text
/// <request><to><to>41793026727</to></to></request> → {"to": ["41793026727"]}
/// ```
pub fn to_json(body: &[u8]) -> Result<Value, XmlError> {
    Ok(match read(body)? {
        ElementContent::Children(children) => Value::Object(to_object(children)),
        ElementContent::Text(text) if text.trim().is_empty() => Value::Object(Map::new()),
        ElementContent::Text(text) => Value::String(text),
    })
}

/// Parses a document and returns the content of its root.
fn read(body: &[u8]) -> Result<ElementContent, XmlError> {
    if body.len() > MAX_BYTES {
        return Err(XmlError::TooLarge(body.len()));
    }
    let text = std::str::from_utf8(body).map_err(|_| XmlError::Encoding)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.contains(is_forbidden) {
        return Err(XmlError::Character);
    }
    let mut reader = Reader::from_str(text);
    let mut open: Vec<OpenElement> = Vec::new();
    let mut root: Option<ElementContent> = None;
    let mut elements = 0_usize;
    loop {
        let at = reader.buffer_position();
        let malformed = || XmlError::Malformed(at);
        let event = reader.read_event().map_err(|_| malformed())?;
        let closed = match event {
            Event::Start(start) => {
                count_element(&mut elements, open.len(), root.is_some(), at)?;
                open.push(OpenElement {
                    name: start.local_name().into_inner().to_owned(),
                    text: String::new(),
                    children: Vec::new(),
                });
                None
            }
            Event::Empty(start) => {
                count_element(&mut elements, open.len(), root.is_some(), at)?;
                Some((
                    start.local_name().into_inner().to_owned(),
                    ElementContent::Text(String::new()),
                ))
            }
            Event::End(_) => Some(open.pop().ok_or_else(malformed)?.into_content()),
            Event::Text(text) => {
                append_text(&mut open, &text.xml10_content(), at)?;
                None
            }
            Event::CData(text) => {
                append_text(&mut open, &text.xml10_content(), at)?;
                None
            }
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().map_err(|_| malformed())?;
                match character {
                    Some(character) if is_forbidden(character) => return Err(XmlError::Character),
                    Some(character) => {
                        append_text(&mut open, character.encode_utf8(&mut [0; 4]), at)?;
                    }
                    None => {
                        let text = resolve_predefined_entity(&reference).ok_or(XmlError::Entity)?;
                        append_text(&mut open, text, at)?;
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

/// Counts an element; refuses it beyond the limits or after the root.
fn count_element(
    elements: &mut usize,
    depth: usize,
    root_ended: bool,
    at: u64,
) -> Result<(), XmlError> {
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

/// Adds text to the innermost open element. Outside the root only blanks are allowed.
fn append_text(open: &mut [OpenElement], text: &str, at: u64) -> Result<(), XmlError> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err(XmlError::Malformed(at)),
    }
    Ok(())
}

/// The children of an element as an object. If an element that is not a list is repeated, its last value is used, as in
/// JSON.
fn to_object(children: Vec<(String, ElementContent)>) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, content) in children {
        let Some(item) = item_name(&name) else {
            fields.insert(name, to_value(content));
            continue;
        };
        let mut list_element = read_list_element(&name, item, content);
        // `to` is a number in a destination, a list in a request, an object in a time window.
        if name == "to" && !fields.contains_key("to") {
            let field = match list_element {
                ListElement::Item(value) => value,
                ListElement::Wrapper(values) => Value::Array(values),
            };
            fields.insert(name, field);
            continue;
        }
        match fields.get_mut(&name) {
            Some(Value::Array(all)) => list_element.append_to(all),
            Some(first) => {
                let mut all = vec![first.take()];
                list_element.append_to(&mut all);
                *first = Value::Array(all);
            }
            None => {
                let mut all = Vec::new();
                list_element.append_to(&mut all);
                fields.insert(name, Value::Array(all));
            }
        }
    }
    fields
}

/// An element with the name of a list.
enum ListElement {
    /// One item of a bare list.
    Item(Value),
    /// The items of a wrapped list.
    Wrapper(Vec<Value>),
}

impl ListElement {
    fn append_to(&mut self, all: &mut Vec<Value>) {
        match self {
            Self::Item(value) => all.push(value.take()),
            Self::Wrapper(values) => all.append(values),
        }
    }
}

fn read_list_element(list: &str, item: &str, content: ElementContent) -> ListElement {
    match content {
        ElementContent::Children(children)
            if children
                .iter()
                .all(|(name, _)| name == item || name == list) =>
        {
            ListElement::Wrapper(
                children
                    .into_iter()
                    .map(|(_, content)| to_value(content))
                    .collect(),
            )
        }
        ElementContent::Text(text) if text.trim().is_empty() && list != "to" => {
            ListElement::Wrapper(Vec::new())
        }
        content => ListElement::Item(to_value(content)),
    }
}

fn to_value(content: ElementContent) -> Value {
    match content {
        ElementContent::Text(text) => Value::String(text),
        ElementContent::Children(children) => Value::Object(to_object(children)),
    }
}
