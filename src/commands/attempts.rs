//! The limit of the attempts of a command (`amqp.max_attempts`).
//!
//! An attempt counts if the API refused a request that carried no other command, in a way that speaks of no message, just after it took
//! other messages: then something on the way refuses this command each time, such as a firewall its text. Invariant: an outage counts once
//! at most (`send::refusal_note`). Neighbours: `custody` keeps the count in a header of the copy; `handle` asks.

use super::invalid::Invalid;
use crate::{
    message::reason::Reason,
    send::{Sent, refusal_note::Refusal},
};

/// How many attempts are counted now. `None` if none was refused, together with others either.
pub(super) fn counted(before: Option<i64>, refusal: Option<Refusal>) -> Option<i64> {
    match refusal {
        None => before,
        Some(Refusal::WithOthers | Refusal::Alone) => Some(before.unwrap_or(0)),
        Some(Refusal::AloneAfterOthers) => Some(before.unwrap_or(0).saturating_add(1)),
    }
}

/// Why the command is given up after so many attempts; `None` if it is tried again. `last` is the last refusal.
pub(super) fn over_the_limit(
    attempts: Option<i64>,
    max_attempts: u32,
    last: &str,
) -> Option<Invalid> {
    let attempts = attempts.filter(|attempts| *attempts >= i64::from(max_attempts))?;
    let detail = format!(
        "nothing of what this dead letter has was sent (other destinations of the command may have results): the API refused \
         {attempts} requests with this command alone, just after it took other messages; the last time: {last}"
    );
    Some(Invalid::new(Reason::AttemptLimit, detail))
}

/// The detail of the first destination that is attempted again.
pub(super) fn last_refusal(sent: &Sent) -> String {
    let refusals = sent.results.iter().filter_map(|one| one.refusal.as_ref());
    let retried = refusals.into_iter().find(|refusal| refusal.retryable);
    retried.map_or_else(String::new, |refusal| refusal.detail.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_of_the_command_alone_after_others_count() {
        let (with_others, alone) = (Some(Refusal::WithOthers), Some(Refusal::AloneAfterOthers));
        let count = |refusals: &[Option<Refusal>]| {
            refusals
                .iter()
                .fold(None, |before, one| counted(before, *one))
        };
        assert_eq!(count(&[None, None]), None);
        assert_eq!(count(&[with_others, None, with_others]), Some(0));
        assert_eq!(count(&[Some(Refusal::Alone); 3]), Some(0));
        assert_eq!(count(&[with_others, alone, None, alone]), Some(2));
        assert_eq!(over_the_limit(None, 1, ""), None);
        assert_eq!(over_the_limit(Some(1), 2, ""), None);
        let given_up = over_the_limit(Some(2), 2, "HTTP 403").unwrap();
        assert_eq!(given_up.reason, Reason::AttemptLimit);
        assert!(given_up.detail.ends_with("HTTP 403"));
    }
}
