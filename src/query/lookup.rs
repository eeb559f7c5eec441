//! Looks numbers up: splits them into requests, matches the API's rows to them, and tells what a failure means for each.
//!
//! Each number costs, each time. Invariants: no number is in a second request after one that may have been carried out; a request
//! in doubt leaves its numbers without an answer and says so. Neighbours: [`gate`] holds requests back after failures; `grpc` asks for
//! callers, who do not wait; `commands` asks for commands, which do.

mod gate;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::time::{Instant, timeout_at};

pub use self::gate::Turn;
use self::gate::{Gate, Setback};
use super::violation;
use crate::{
    infobip::{
        ApiError,
        account::Account,
        limits::MAX_LOOKUP_NUMBERS,
        wire::{LookupRow, Rows},
    },
    message::{address::normalize_number, reason::Reason},
    ops::metrics::{LookupOutcome, Metrics},
    proto::v1::{self, FieldViolation},
};

/// Limit of numbers in a call or a command.
const MAX_NUMBERS: usize = 10_000;

/// Valid numbers, at least one, as the API takes them.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers(Vec<String>);

/// How the API answers.
#[derive(Debug, Clone, Copy)]
pub enum Way<'a> {
    /// At once.
    Answer,
    /// Later, to this URL.
    Push { notify_url: &'a str },
}

/// Why no number was looked up.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the deadline passed while the request was in flight: it may have been carried out")]
    DeadlinePassed,
}

/// Asks the API about numbers, for all edges.
pub struct Lookups {
    account: Arc<Account>,
    gate: Gate,
    metrics: Metrics,
}

impl Numbers {
    /// Checks all numbers, and removes separators.
    ///
    /// # Errors
    /// Each mistake, with the path of its field.
    pub fn parse(to: &[String]) -> Result<Self, Vec<FieldViolation>> {
        if to.is_empty() {
            return Err(vec![violation("to", "is empty: give at least one number")]);
        }
        if to.len() > MAX_NUMBERS {
            let description = format!(
                "has {} numbers: at most {MAX_NUMBERS} in one request",
                to.len()
            );
            return Err(vec![violation("to", description)]);
        }
        let mut violations = Vec::new();
        let mut numbers = Vec::with_capacity(to.len());
        for (index, number) in to.iter().enumerate() {
            match normalize_number(number) {
                Ok(number) => numbers.push(number.into_owned()),
                Err(error) => violations.push(violation(&format!("to[{index}]"), error)),
            }
        }
        if violations.is_empty() {
            Ok(Self(numbers))
        } else {
            Err(violations)
        }
    }

    /// The numbers without repetitions, in their order.
    #[must_use]
    pub fn into_distinct(self) -> Vec<String> {
        let mut seen = std::collections::HashSet::with_capacity(self.0.len());
        let mut numbers = self.0;
        numbers.retain(|number| seen.insert(number.clone()));
        numbers
    }
}

impl LookupError {
    /// The refusal of a number whose request failed in this way. `retryable`: it was not looked up, so asking again costs once.
    #[must_use]
    pub fn refusal(&self) -> v1::Refusal {
        match self {
            Self::Api(error) => refusal(error),
            Self::DeadlinePassed => v1::Refusal {
                reason: Reason::DeadlineExceeded.into(),
                detail: self.to_string(),
                ..v1::Refusal::default()
            },
        }
    }
}

/// The refusal of a number whose request failed.
fn refusal(error: &ApiError) -> v1::Refusal {
    let (reason, violations) = match error {
        ApiError::NotSent { .. } => (Reason::ApiUnavailable, Vec::new()),
        ApiError::RateLimited { .. } => (Reason::ApiRateLimited, Vec::new()),
        ApiError::CredentialsRefused { .. } => (Reason::ApiCredentialsRefused, Vec::new()),
        ApiError::InDoubt { .. } => (Reason::ApiAnswerLost, Vec::new()),
        ApiError::Refused {
            http_status: 404, ..
        } => (Reason::ApiNotFound, Vec::new()),
        ApiError::Refused {
            validation_errors, ..
        } => {
            let violations = validation_errors.iter();
            let violations =
                violations.map(|(field, problems)| violation(field, problems.join("; ")));
            (Reason::ApiRefused, violations.collect())
        }
    };
    v1::Refusal {
        reason: reason.into(),
        detail: error.to_string(),
        retryable: matches!(
            error,
            ApiError::NotSent { .. } | ApiError::RateLimited { .. }
        ),
        violations,
    }
}

/// The result of a number without an answer.
#[must_use]
pub fn without_answer(to: &str, refusal: &v1::Refusal) -> v1::NumberLookup {
    v1::NumberLookup {
        to: to.to_owned(),
        refusal: Some(Box::new(refusal.clone())),
        ..v1::NumberLookup::default()
    }
}

impl Lookups {
    pub(super) fn new(account: Arc<Account>, metrics: Metrics) -> Self {
        Self {
            account,
            gate: Gate::default(),
            metrics,
        }
    }

    /// Looks the numbers up for a caller, [`MAX_LOOKUP_NUMBERS`] in a request, until `latest`.
    ///
    /// If a request fails, its numbers and all that follow get a refusal, because the results of earlier requests were paid for.
    ///
    /// # Errors
    /// [`LookupError`] only if the first request fails.
    pub async fn look_up(
        &self,
        Numbers(numbers): &Numbers,
        way: Way<'_>,
        latest: Option<Instant>,
    ) -> Result<Vec<v1::NumberLookup>, LookupError> {
        let mut results = Vec::with_capacity(numbers.len());
        let mut requests = numbers.chunks(MAX_LOOKUP_NUMBERS);
        while let Some(numbers) = requests.next() {
            match self.request_now(numbers, way, latest).await {
                Ok(rows) => results.extend(rows.rows.into_iter().map(|row| row.lookup)),
                Err(failure) if results.is_empty() => return Err(failure),
                Err(failure) => {
                    let failed = failure.refusal();
                    results.extend(numbers.iter().map(|to| without_answer(to, &failed)));
                    let untried = v1::Refusal {
                        retryable: true,
                        ..failed
                    };
                    let rest = requests.by_ref().flatten();
                    results.extend(rest.map(|to| without_answer(to, &untried)));
                }
            }
        }
        Ok(results)
    }

    /// One request for a caller, who does not wait for the end of a pause.
    async fn request_now(
        &self,
        numbers: &[String],
        way: Way<'_>,
        latest: Option<Instant>,
    ) -> Result<Rows<LookupRow>, LookupError> {
        if let Some(pause) = self.gate.rate_limited_for() {
            let retry_after = Some(pause);
            return Err(ApiError::RateLimited { retry_after }.into());
        }
        let request = self.request(numbers, way);
        match latest {
            None => Ok(request.await?),
            Some(latest) => match timeout_at(latest, request).await {
                Ok(rows) => Ok(rows?),
                Err(_) => {
                    self.count(LookupOutcome::Unknown, numbers.len());
                    Err(LookupError::DeadlinePassed)
                }
            },
        }
    }

    /// Waits until a command may ask: while look-ups fail, one at a time does, after growing waits.
    ///
    /// After a failure that may have been paid for, the API is first asked for something that costs nothing, so that an outage does not
    /// take the numbers of each probe.
    pub async fn turn(&self) -> Turn<'_> {
        loop {
            let turn = self.gate.turn().await;
            if !turn.is_after_doubt() {
                return turn;
            }
            match self.account.client.balance().await {
                Err(error @ (ApiError::NotSent { .. } | ApiError::InDoubt { .. })) => {
                    self.gate.failed(Setback::of(&error), &error.to_string());
                }
                // Any answer will do: the credentials may not be allowed to read the balance.
                _ => return turn,
            }
        }
    }

    /// Asks about numbers, at most [`MAX_LOOKUP_NUMBERS`], for a command that waited for its turn. Returns one result for each number, in
    /// their order.
    ///
    /// # Errors
    /// [`ApiError`]. After [`ApiError::InDoubt`] the numbers may have been looked up, and paid for.
    pub async fn ask(
        &self,
        numbers: &[String],
        _turn: Turn<'_>,
    ) -> Result<Vec<v1::NumberLookup>, ApiError> {
        let rows = self.request(numbers, Way::Answer).await?;
        Ok(matched(numbers, rows))
    }

    /// Makes one request, and notes for the next ones how it ended.
    async fn request(&self, numbers: &[String], way: Way<'_>) -> Result<Rows<LookupRow>, ApiError> {
        let client = &self.account.client;
        let outcome = match way {
            Way::Answer => client.lookup(numbers).await,
            Way::Push { notify_url } => client.lookup_async(numbers, notify_url).await,
        };
        // Commands wait for the endpoint that answers: the other one may be refused to the account.
        let moves_gate = matches!(way, Way::Answer);
        match &outcome {
            Err(ApiError::RateLimited { retry_after }) => self.gate.rate_limited(*retry_after),
            Ok(_) if moves_gate => {
                self.gate.succeeded();
                self.count(LookupOutcome::Answered, numbers.len());
            }
            // The API works: it judged the request.
            Err(error) if moves_gate && error.is_about_the_request() => self.gate.succeeded(),
            Err(error) if moves_gate => self.gate.failed(Setback::of(error), &error.to_string()),
            _ => {}
        }
        if matches!(outcome, Err(ApiError::InDoubt { .. })) {
            self.count(LookupOutcome::Unknown, numbers.len());
        }
        outcome
    }

    /// Why look-ups fail now; `None` if they do not.
    #[must_use]
    pub fn outage(&self) -> Option<String> {
        self.gate.outage()
    }

    /// Counts numbers that got their result.
    pub fn count(&self, outcome: LookupOutcome, numbers: usize) {
        self.metrics.lookup_results(outcome, numbers as u64);
    }
}

/// One result for each number. A number without a readable row was paid for, and has no answer.
fn matched(numbers: &[String], rows: Rows<LookupRow>) -> Vec<v1::NumberLookup> {
    // The API may answer a number without the zeros that it was asked with.
    let significant = |number: &str| number.trim_start_matches('0').to_owned();
    let mut by_number: HashMap<String, VecDeque<v1::NumberLookup>> =
        HashMap::with_capacity(numbers.len());
    for row in rows.rows {
        let digits = normalize_number(&row.lookup.to);
        let digits = digits.map_or_else(|_| significant(&row.lookup.to), |to| significant(&to));
        by_number.entry(digits).or_default().push_back(row.lookup);
    }
    let unreadable = v1::Refusal {
        reason: Reason::ApiAnswerUnreadable.into(),
        detail: "the API answered the request, but its answer has no readable row of this number: it was looked up and paid for"
            .into(),
        ..v1::Refusal::default()
    };
    let mut row_of = |number: &str| by_number.get_mut(&significant(number))?.pop_front();
    let results = numbers.iter().map(|number| match row_of(number) {
        Some(row) => v1::NumberLookup {
            to: number.clone(),
            ..row
        },
        None => without_answer(number, &unreadable),
    });
    results.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(to: &str) -> LookupRow {
        LookupRow {
            lookup_id: String::new(),
            lookup: v1::NumberLookup {
                to: to.into(),
                mcc_mnc: "22801".into(),
                ..Default::default()
            },
            source_payload: String::new(),
        }
    }

    #[test]
    fn each_number_has_one_result_in_its_place() {
        let numbers = ["411", "412", "413"].map(str::to_owned);
        let rows = Rows {
            rows: vec![row("+413"), row("411"), row("999")],
            bad: Vec::new(),
            bulk_id: String::new(),
            message_count: None,
            pending_message_count: None,
        };
        let results = matched(&numbers, rows);
        let shown: Vec<_> = results
            .iter()
            .map(|one| (one.to.as_str(), one.mcc_mnc.as_str()))
            .collect();
        assert_eq!(shown, [("411", "22801"), ("412", ""), ("413", "22801")]);
        let refusal = results[1].refusal.as_ref().unwrap();
        assert_eq!(refusal.reason, "API_ANSWER_UNREADABLE");
        assert!(!refusal.retryable);
    }

    #[test]
    fn a_number_that_is_answered_without_its_zeros_has_its_row() {
        let numbers = ["00411", "411", "0412"].map(str::to_owned);
        let rows = Rows {
            rows: vec![row("411"), row("411"), row("412")],
            bad: Vec::new(),
            bulk_id: String::new(),
            message_count: None,
            pending_message_count: None,
        };
        for (number, result) in numbers.iter().zip(matched(&numbers, rows)) {
            assert_eq!(result.refusal, None, "{number}");
            assert_eq!(&result.to, number);
        }
    }

    #[test]
    fn repeated_numbers_are_looked_up_once() {
        let numbers = ["+41 79", "4179", "4178"].map(str::to_owned);
        let numbers = Numbers::parse(&numbers).unwrap().into_distinct();
        assert_eq!(numbers, ["4179", "4178"]);
    }
}
