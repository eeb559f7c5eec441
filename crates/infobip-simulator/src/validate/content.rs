//! Validates the sender and the content of a message: text with its language and transliteration, or octets.

use super::violations::Violations;
use crate::{
    envelope::ApiError,
    request::{BinaryRequest, LanguageRequest, LenientString},
    submission::MessageBody,
    text::{self, Language, TextOptions, Transliteration},
};

/// Whether a sender has an allowed length: alphanumeric 3–11 characters, numeric 3–14 digits (docs/INFOBIP_API.md#limits).
pub(super) fn sender_is_valid(from: &str) -> bool {
    let digits = from.strip_prefix('+').unwrap_or(from);
    let length = digits.chars().count();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        (3..=14).contains(&length)
    } else {
        (3..=11).contains(&from.chars().count()) && !from.chars().any(char::is_control)
    }
}

/// Whether the user data header fits into the content. With the UDHI bit of the ESM class set, the first octet is the
/// length of the header.
pub(super) fn header_is_valid(hex: &str, esm_class: u8) -> bool {
    if esm_class & 0x40 == 0 {
        return true;
    }
    let length = hex
        .get(..2)
        .and_then(|first| usize::from_str_radix(first, 16).ok());
    length.is_some_and(|length| length < hex.len() / 2)
}

pub(super) fn check_binary(
    request: Option<&BinaryRequest>,
    field_path: &dyn Fn(&str) -> String,
    violations: &mut Violations,
) -> (MessageBody, u32) {
    let hex = request
        .and_then(|binary| binary.hex.as_ref())
        .map(|hex| hex.0.as_str())
        .unwrap_or_default();
    let hex: String = hex
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if hex.is_empty()
        || !hex.len().is_multiple_of(2)
        || !hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        violations.add(
            field_path("binary.hex"),
            "must be octets in hexadecimal, like \"54 65 73 74\"",
        );
    }
    let mut octet = |value: Option<i64>, field: &str| {
        u8::try_from(value.unwrap_or(0)).unwrap_or_else(|_| {
            violations.add(field_path(field), "must be from 0 to 255");
            0
        })
    };
    let data_coding = octet(
        request.and_then(|binary| binary.data_coding).map(|n| n.0),
        "binary.dataCoding",
    );
    let esm_class = octet(
        request.and_then(|binary| binary.esm_class).map(|n| n.0),
        "binary.esmClass",
    );
    let parts = text::binary_parts(hex.len() / 2, data_coding);
    (
        MessageBody::Binary {
            hex,
            data_coding,
            esm_class,
        },
        parts,
    )
}

pub(super) fn check_text_options(
    language: Option<&LanguageRequest>,
    transliteration: Option<&LenientString>,
    field_path: &dyn Fn(&str) -> String,
    violations: &mut Violations,
) -> TextOptions {
    TextOptions {
        language: check_language(
            language.and_then(|language| language.language_code.as_ref()),
            &field_path("language.languageCode"),
            violations,
        ),
        single_shift: language
            .and_then(|language| language.single_shift)
            .is_some_and(|flag| flag.0),
        locking_shift: language
            .and_then(|language| language.locking_shift)
            .is_some_and(|flag| flag.0),
        transliteration: check_transliteration(
            transliteration,
            &field_path("transliteration"),
            violations,
        ),
    }
}

fn check_language(
    code: Option<&LenientString>,
    field: &str,
    violations: &mut Violations,
) -> Option<Language> {
    let code = code.filter(|code| !code.0.is_empty())?;
    let language = Language::parse(&code.0);
    if language.is_none() {
        violations.add(field.to_owned(), "must be TR, ES or PT");
    }
    language
}

fn check_transliteration(
    name: Option<&LenientString>,
    field: &str,
    violations: &mut Violations,
) -> Option<Transliteration> {
    let name = name.filter(|name| !name.0.is_empty())?;
    let transliteration = Transliteration::parse(&name.0);
    if transliteration.is_none() {
        violations.add(
            field.to_owned(),
            "must be TURKISH, GREEK, CYRILLIC, CENTRAL_EUROPEAN or NON_UNICODE",
        );
    }
    transliteration
}

/// Validates the language and the transliteration of a preview.
pub fn preview_options(
    language: Option<&LenientString>,
    transliteration: Option<&LenientString>,
) -> Result<(Option<Language>, Option<Transliteration>), ApiError> {
    let mut violations = Violations::default();
    let language = check_language(language, "languageCode", &mut violations);
    let transliteration =
        check_transliteration(transliteration, "transliteration", &mut violations);
    violations.0.map_or(Ok((language, transliteration)), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_have_the_manuals_lengths() {
        for good in [
            "abc",
            "CompanyName",
            "123",
            "12345678901234",
            "+41793026700",
        ] {
            assert!(sender_is_valid(good), "{good}");
        }
        for bad in ["ab", "CompanyNames", "12", "123456789012345", "a\nbc"] {
            assert!(!sender_is_valid(bad), "{bad}");
        }
    }
}
