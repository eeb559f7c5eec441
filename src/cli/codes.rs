//! Formats codes and other fields of the API for tables. A code is its name and its id, as the API sent them.

use crate::proto::v1::{
    Error, FieldViolation, Network, Price, ReceivedMessage, SendResult, Status,
};

/// A status: `DELIVERED_TO_HANDSET (5)`. Empty if there is none.
#[must_use]
pub fn status(status: Option<&Status>) -> String {
    status.map_or_else(String::new, |status| code(&status.name, status.id))
}

/// An error: `EC_ABSENT_SUBSCRIBER (27)`. Empty if there is none or its id is 0 (no error).
#[must_use]
pub fn error(error: Option<&Error>) -> String {
    error
        .filter(|error| error.id != 0)
        .map_or_else(String::new, |error| {
            let permanent = if error.permanent { ", permanent" } else { "" };
            format!("{}{permanent}", code(&error.name, error.id))
        })
}

/// The reason of an outcome: the API's status, or the bridge's refusal.
#[must_use]
pub fn reason(result: &SendResult) -> String {
    let Some(refusal) = &result.refusal else {
        return status(result.status.as_ref());
    };
    let text = format!("{}: {}", refusal.reason, refusal.detail);
    with_violations(text, &refusal.violations)
}

/// A text, and the mistakes that it does not contain already.
#[must_use]
pub fn with_violations(mut text: String, violations: &[FieldViolation]) -> String {
    for violation in violations {
        let mistake = format!("{} {}", violation.field, violation.description);
        if !text.contains(&mistake) {
            text.push_str(&format!("; {mistake}"));
        }
    }
    text
}

/// The outcome of a result in lower case: `accepted`, `rejected`, `unknown`; `not sent` if the same call may succeed later.
#[must_use]
pub fn outcome(result: &SendResult) -> String {
    if result.has_retryable_refusal() {
        return "not sent".into();
    }
    lower_case(result.outcome().as_str_name(), "OUTCOME_")
}

/// A network: `VIP-NET, Croatia`. Empty if there is none.
#[must_use]
pub fn network(network: Option<&Network>) -> String {
    network.map_or_else(String::new, |network| {
        [network.network_name.as_str(), network.country_name.as_str()]
            .into_iter()
            .filter(|name| !name.is_empty())
            .collect::<Vec<_>>()
            .join(", ")
    })
}

/// The name of an enum's value without its prefix, in lower case.
#[must_use]
pub fn lower_case(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

fn code(name: &str, id: i32) -> String {
    if name.is_empty() {
        id.to_string()
    } else {
        format!("{name} ({id})")
    }
}

/// A count. Empty if the API sent none.
#[must_use]
pub fn count(count: Option<i32>) -> String {
    count.map_or_else(String::new, |count| count.to_string())
}

/// A price: `0.01 EUR`. Empty if there is none.
#[must_use]
pub fn price(price: Option<&Price>) -> String {
    price.map_or_else(String::new, |price| {
        format!("{} {}", price.price_per_message, price.currency)
    })
}

/// The content of a received message: its text, or its octets in hex.
#[must_use]
pub fn content(message: &ReceivedMessage) -> String {
    if message.text.is_empty() && !message.data.is_empty() {
        format!("0x{}", hex::encode(&message.data))
    } else {
        message.text.clone()
    }
}
