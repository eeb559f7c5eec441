//! The bodies of a request and of its response, cut to what is worth showing.

use bytes::Bytes;
use serde::{Serialize, Serializer, ser::SerializeStruct};

/// Bytes kept of one body.
const MAX_KEPT_BYTES: usize = 32 << 10;
/// Bytes kept of a content type.
const MAX_CONTENT_TYPE_BYTES: usize = 200;

/// The bodies of a request and of its response; `None`: there is none, or it has credentials.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    pub(crate) request: Option<KeptBody>,
    pub(crate) answer: Option<KeptBody>,
}

impl Exchange {
    pub(super) fn bytes(&self) -> usize {
        let size = |body: &Option<KeptBody>| body.as_ref().map_or(0, |body| body.start.len() + 64);
        size(&self.request) + size(&self.answer)
    }
}

/// The beginning of a body.
#[derive(Debug)]
pub(crate) struct KeptBody {
    start: Box<[u8]>,
    /// Length of the whole body.
    bytes: usize,
    content_type: Option<Box<str>>,
}

impl KeptBody {
    /// Copies the beginning: a slice would keep the buffer of the connection.
    pub(crate) fn of(body: &Bytes, content_type: Option<&[u8]>) -> Self {
        let content_type = content_type.map(|value| {
            let value = &value[..value.len().min(MAX_CONTENT_TYPE_BYTES)];
            String::from_utf8_lossy(value).into()
        });
        Self {
            start: body[..body.len().min(MAX_KEPT_BYTES)].into(),
            bytes: body.len(),
            content_type,
        }
    }

    /// The whole body; `None` if it is cut.
    pub(crate) fn whole(&self) -> Option<&[u8]> {
        (self.start.len() == self.bytes).then_some(&*self.start)
    }

    /// The kept beginning, up to a whole character.
    fn text(&self) -> std::borrow::Cow<'_, str> {
        let is_cut = self.start.len() < self.bytes;
        match std::str::from_utf8(&self.start) {
            Err(error) if is_cut && error.error_len().is_none() => {
                String::from_utf8_lossy(&self.start[..error.valid_up_to()])
            }
            _ => String::from_utf8_lossy(&self.start),
        }
    }
}

impl Serialize for KeptBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut body = serializer.serialize_struct("KeptBody", 4)?;
        body.serialize_field("text", &self.text())?;
        body.serialize_field("bytes", &self.bytes)?;
        body.serialize_field("cut", &(self.start.len() < self.bytes))?;
        body.serialize_field("contentType", &self.content_type)?;
        body.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_is_cut_between_characters() {
        let body = KeptBody::of(&Bytes::from("я".repeat(MAX_KEPT_BYTES)), None);
        assert_eq!(body.whole(), None);
        assert!(body.text().chars().all(|character| character == 'я'));
        let odd = KeptBody::of(
            &Bytes::from(format!("a{}", "я".repeat(MAX_KEPT_BYTES))),
            None,
        );
        assert!(!odd.text().contains('\u{fffd}'));
        let broken = KeptBody::of(&Bytes::from_static(b"a\xffb"), Some(b"text/plain"));
        assert_eq!(broken.text(), "a\u{fffd}b");
    }
}
