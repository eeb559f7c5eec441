//! Addresses: the numbers of recipients and the senders.
//!
//! A doubtful number is sent: Infobip decides (DESIGN, "gRPC"). Refused is only what cannot be a number at all.

use std::borrow::Cow;

/// The longest destination, in characters (WIRE.md, "Limits").
pub const MAX_DESTINATION_CHARACTERS: usize = 64;

/// Why an address was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing, or no digit in it.
    #[error("has no digits: give the number in international format, such as 41793026727")]
    NoDigits,
    /// Something that no number has.
    #[error(
        "has characters that no number has: give digits only, in international format, such as 41793026727"
    )]
    NotANumber,
    /// More than 64 characters.
    #[error("is longer than 64 characters")]
    TooLong,
    /// A sender of letters that is not 3 to 11 characters, or of digits that is not 3 to 14.
    #[error("a sender has 3 to 11 characters with letters, or 3 to 14 digits")]
    SenderLength,
    /// A control character in a sender.
    #[error("has control characters")]
    SenderCharacters,
}

/// A number as the API wants it: digits only. A leading `+` and the usual separators (spaces, `-`, `.`, brackets) are
/// removed; a leading `00` stays, as only the API knows what it means.
///
/// # Errors
/// [`AddressError`] where it cannot be a number at all.
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

/// Checks a sender: 3 to 14 digits, or 3 to 11 characters where it has others (manual, "Fully featured textual message").
///
/// # Errors
/// [`AddressError`] where its length or its characters are wrong.
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
    fn what_cannot_be_a_number_is_refused() {
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
    fn senders_have_the_manuals_lengths() {
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
