//! Proto JSON as protobuf specifies it: times end in `Z`.
//!
//! The generated code (pbjson) writes `+00:00`. Only fields of the type `google.protobuf.Timestamp` are changed: a text that
//! looks like a time is printed as it is.

use std::{collections::BTreeSet, io, sync::LazyLock};

use serde::Serialize;
use serde_json::ser::Formatter;

use crate::proto::contract;

/// Writes a message as one line of proto JSON, without the line break.
///
/// # Errors
/// If `out` cannot be written.
pub fn write<M: Serialize>(out: impl io::Write, message: &M) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(out, ProtoJson::default());
    Ok(message.serialize(&mut serializer)?)
}

/// Compact JSON with the change of the module's head.
#[derive(Default)]
struct ProtoJson {
    /// The name of the field that is being written.
    key: String,
    is_in_key: bool,
}

impl Formatter for ProtoJson {
    fn begin_object_key<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.key.clear();
        self.is_in_key = true;
        if first {
            Ok(())
        } else {
            writer.write_all(b",")
        }
    }

    fn end_object_key<W: io::Write + ?Sized>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.is_in_key = false;
        Ok(())
    }

    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if self.is_in_key {
            self.key.push_str(fragment);
        } else if let Some(time) = fragment.strip_suffix("+00:00")
            && TIMES.contains(&self.key)
        {
            writer.write_all(time.as_bytes())?;
            return writer.write_all(b"Z");
        }
        writer.write_all(fragment.as_bytes())
    }
}

/// The JSON names of the fields that are timestamps.
static TIMES: LazyLock<BTreeSet<String>> = LazyLock::new(|| fields(true));

/// The JSON names of the contract's fields that are timestamps, or of those that are not.
fn fields(timestamps: bool) -> BTreeSet<String> {
    let contract = contract();
    let ours = contract
        .file
        .iter()
        .filter(|file| file.package().starts_with("smsbridge."));
    ours.flat_map(|file| &file.message_type)
        .flat_map(|message| message.field.iter().chain(&message.extension))
        .filter(|field| (field.type_name() == ".google.protobuf.Timestamp") == timestamps)
        .map(|field| field.json_name().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::SmsLog;

    #[test]
    fn a_name_of_a_time_names_nothing_else() {
        assert!(TIMES.contains("sentAt") && TIMES.contains("time"));
        let both: Vec<_> = TIMES.intersection(&fields(false)).cloned().collect();
        assert!(both.is_empty(), "{both:?}");
    }

    #[test]
    fn times_end_in_z_and_texts_are_unchanged() {
        let log = SmsLog {
            text: "2026-11-22T14:00:00+00:00".into(),
            sent_at: Some(pbjson_types::Timestamp {
                seconds: 1_795_615_621,
                nanos: 250_000_000,
            }),
            ..SmsLog::default()
        };
        let mut out = Vec::new();
        write(&mut out, &log).unwrap();
        let written: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(written["sentAt"], "2026-11-25T14:07:01.250Z");
        assert_eq!(written["text"], "2026-11-22T14:00:00+00:00");
    }
}
