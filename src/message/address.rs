//! Checks and normalizes phone numbers and senders.
//!
//! Only text that cannot be a phone number at all is refused; everything else is passed on, because only Infobip knows
//! every numbering plan.

use std::borrow::Cow;

/// Maximum length of a destination, in characters.
pub const MAX_DESTINATION_CHARACTERS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("has no digits: give the number in international format, such as 41793026727")]
    NoDigits,
    #[error(
        "has characters that are not part of a phone number: give digits only, in international format, such as 41793026727"
    )]
    NotANumber,
    #[error("is longer than {MAX_DESTINATION_CHARACTERS} characters")]
    TooLong,
    #[error("must be 3 to 11 characters, or 3 to 14 digits")]
    SenderLength,
    #[error("has control characters")]
    SenderCharacters,
}

/// Converts a number to the API's format, digits only: removes a leading `+` and the usual separators (spaces, `-`, `.`,
/// parentheses). A leading `00` is kept, because its meaning depends on the country.
///
/// # Errors
/// [`AddressError`] if the text cannot be a phone number.
pub fn normalize_number(number: &str) -> Result<Cow<'_, str>, AddressError> {
    if number.len() > MAX_DESTINATION_CHARACTERS {
        return Err(AddressError::TooLong);
    }
    let number = number.trim();
    let number = number.strip_prefix('+').unwrap_or(number);
    let mut digits = 0;
    for character in number.chars() {
        match character {
            '0'..='9' => digits += 1,
            ' ' | '-' | '.' | '(' | ')' => {}
            _ => return Err(AddressError::NotANumber),
        }
    }
    match digits {
        0 => Err(AddressError::NoDigits),
        _ if digits == number.len() => Ok(Cow::Borrowed(number)),
        _ => Ok(number.chars().filter(char::is_ascii_digit).collect()),
    }
}

/// Checks a sender: 3 to 14 digits, or 3 to 11 characters if there are others (docs/INFOBIP_API.md#limits).
///
/// # Errors
/// [`AddressError`] if its length or its characters are wrong.
pub fn check_sender(sender: &str) -> Result<(), AddressError> {
    if sender.chars().any(char::is_control) {
        return Err(AddressError::SenderCharacters);
    }
    let digits = sender.strip_prefix('+').unwrap_or(sender);
    let longest = if digits.bytes().all(|b| b.is_ascii_digit()) {
        14
    } else {
        11
    };
    if (3..=longest).contains(&digits.chars().count()) {
        Ok(())
    } else {
        Err(AddressError::SenderLength)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lose_their_separators() {
        assert_eq!(
            normalize_number("+41 (79) 302-67.27").as_deref(),
            Ok("41793026727")
        );
        assert_eq!(
            normalize_number("0041793026727").as_deref(),
            Ok("0041793026727")
        );
    }

    #[test]
    fn text_that_is_not_a_number_is_refused() {
        assert_eq!(normalize_number(""), Err(AddressError::NoDigits));
        assert_eq!(normalize_number("+"), Err(AddressError::NoDigits));
        assert_eq!(
            normalize_number("41-CALL-ME"),
            Err(AddressError::NotANumber)
        );
        assert_eq!(
            normalize_number(&"1".repeat(65)),
            Err(AddressError::TooLong)
        );
    }

    #[test]
    fn senders_have_3_to_11_characters_or_3_to_14_digits() {
        for sender in [
            "InfoSMS",
            "abc",
            "12345678901234",
            "+4179302672",
            "Wine Shop",
        ] {
            assert!(check_sender(sender).is_ok(), "{sender}");
        }
        for sender in ["ab", "TwelveLetter", "123456789012345", "12", "new\nline"] {
            assert!(check_sender(sender).is_err(), "{sender}");
        }
    }
}
