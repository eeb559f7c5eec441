//! Amounts of money in response bodies.

use serde::{Serialize, Serializer};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Price<'a> {
    #[serde(serialize_with = "serialize_amount")]
    price_per_message: f64,
    currency: &'a str,
}

impl Price<'_> {
    /// The amount in units of the currency.
    pub(crate) fn amount(&self) -> f64 {
        self.price_per_message
    }
}

/// Writes a whole amount without a decimal point: every source shows a price of `0`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole, not negative, and far below 2^53"
)]
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
pub(crate) fn serialize_amount<S: Serializer>(
    amount: &f64,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if amount.fract() == 0.0 {
        serializer.serialize_u64(*amount as u64)
    } else {
        serializer.serialize_f64(*amount)
    }
}

/// A price from millionths of the currency.
#[expect(
    clippy::cast_precision_loss,
    reason = "prices and balances are far below 2^53 millionths"
)]
pub(crate) fn price(micros: u64, currency: &str) -> Price<'_> {
    Price {
        price_per_message: micros as f64 / 1_000_000.0,
        currency,
    }
}
