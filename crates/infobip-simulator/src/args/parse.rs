//! Parsers of argument values. An error is the rest of a sentence that begins with the argument.

use crate::Keyword;

pub(super) fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|n: &f64| *n > 0.0 && *n <= 1e9)
        .ok_or_else(|| "must be above 0 and at most 1000000000".into())
}

pub(super) fn chance(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|p| (0.0..=1.0).contains(p))
        .ok_or_else(|| "must be from 0 to 1".into())
}

pub(super) fn range(text: &str) -> Result<(u32, u32), String> {
    let (min, max) = text.split_once('-').unwrap_or((text, text));
    match (min.trim().parse(), max.trim().parse()) {
        (Ok(min), Ok(max)) if min <= max => Ok((min, max)),
        _ => Err("must be milliseconds like 200-600".into()),
    }
}

pub(super) fn digits(text: &str) -> Result<String, String> {
    let digits = text.trim_start_matches('+');
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("must be the first digits of a number".into());
    }
    Ok(digits.to_owned())
}

pub(super) fn keyword(text: &str) -> Result<Keyword, String> {
    match text.split_once('=') {
        Some((to, word)) if !to.is_empty() && !word.is_empty() => Ok(Keyword {
            to: to.trim_start_matches('+').to_owned(),
            word: word.to_owned(),
        }),
        _ => Err("must be NUMBER=WORD".into()),
    }
}

pub(super) fn host_name(text: &str) -> Result<String, String> {
    let is_name = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if text.is_empty() || !text.chars().all(is_name) {
        return Err("must be a host name without scheme and port, like sim.example.com".into());
    }
    Ok(text.to_owned())
}
