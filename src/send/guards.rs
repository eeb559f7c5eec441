//! Guards: an operator's limits for an application, against mistakes and SMS pumping. They restrict senders, countries, and the
//! number of messages to one number. Off unless `[applications.NAME]` sets them.
//!
//! Invariants: pure, with no clock and no I/O; a number gets at most the cap in any 60 minutes, unless more than
//! [`MAX_TRACKED_NUMBERS`] numbers are in use, which bounds the memory for each application with a cap. What was counted and not sent
//! is given back: a message that is tried again counts once.
//! Neighbours: `core` checks each new destination once, before anything is sent, and answers a repeated request without a check;
//! `call` gives back what was not sent.

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasher,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{config::Application, message::reason::Reason};

/// Maximum count of tracked numbers for one application: about 6 MB. If there are more within an hour, the numbers with the fewest
/// messages are dropped, because SMS pumping shows in the numbers with many messages.
const MAX_TRACKED_NUMBERS: usize = 100_000;
/// The resolution of the hour.
const BUCKET: Duration = Duration::from_secs(600);
/// The buckets of an hour and the current one: together they cover any 60 minutes.
const BUCKETS: usize = 7;

/// Why a guard refuses a destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardRefusal {
    /// The sender is none of `allowed_senders`.
    #[error(
        "the application `{application}` may not use the sender `{sender}`: choose one of {allowed}, or add it to \
         applications.{application}.allowed_senders"
    )]
    SenderNotAllowed {
        application: String,
        /// The sender of the message. Empty: none.
        sender: String,
        /// The allowed senders, joined by commas.
        allowed: String,
    },
    /// The number begins with none of `allowed_country_prefixes`.
    #[error(
        "the application `{application}` may only send to numbers that begin with {allowed}: others must be added to \
         applications.{application}.allowed_country_prefixes"
    )]
    CountryNotAllowed {
        application: String,
        /// The allowed prefixes, joined by commas.
        allowed: String,
    },
    /// The number has received `max_messages_per_number_per_hour` messages.
    #[error(
        "this number has received {cap} messages of the application `{application}` within an hour \
         (applications.{application}.max_messages_per_number_per_hour)"
    )]
    NumberCapReached { application: String, cap: u32 },
}

impl GuardRefusal {
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::SenderNotAllowed { .. } => Reason::SenderNotAllowed,
            Self::CountryNotAllowed { .. } => Reason::CountryNotAllowed,
            Self::NumberCapReached { .. } => Reason::NumberCapReached,
        }
    }
}

/// One message that a guard counted.
#[derive(Debug)]
pub struct Counted {
    counts: Arc<Mutex<Counts>>,
    key: u64,
    bucket: u64,
}

impl Counted {
    /// The message was not sent.
    pub(super) fn give_back(self) {
        self.counts.lock().give_back(self.key, self.bucket);
    }
}

/// The guards of all applications, with the message counts of the last hour.
pub struct Guards {
    rules: HashMap<String, Rules>,
    begin: Instant,
}

struct Rules {
    default_sender: Option<String>,
    senders: Vec<String>,
    country_prefixes: Vec<String>,
    cap: u32,
    counts: Arc<Mutex<Counts>>,
}

impl Guards {
    /// The configured guards. `begin` is the current time; no check may be earlier.
    #[must_use]
    pub fn new(applications: &BTreeMap<String, Application>, begin: Instant) -> Self {
        let rules = applications.iter().map(|(name, application)| {
            let rules = Rules {
                default_sender: application.default_sender.clone(),
                senders: application.allowed_senders.clone(),
                country_prefixes: application.allowed_country_prefixes.clone(),
                cap: application.max_messages_per_number_per_hour,
                counts: Arc::new(Mutex::new(Counts::new(MAX_TRACKED_NUMBERS))),
            };
            (name.clone(), rules)
        });
        Self {
            rules: rules.collect(),
            begin,
        }
    }

    /// The sender for an application's messages without a sender.
    #[must_use]
    pub fn default_sender(&self, application: &str) -> Option<&str> {
        self.rules.get(application)?.default_sender.as_deref()
    }

    /// Checks one destination and counts it if it is allowed; `None` if the application has no cap. `sender` is the sender after defaults, or empty. `number_digits` is
    /// the result of [`crate::message::address::normalize_number`].
    ///
    /// A number with a leading `00` matches no country prefix, because only the API knows how it is interpreted.
    ///
    /// # Errors
    /// The first guard that refuses.
    pub fn check(
        &self,
        application: &str,
        sender: &str,
        number_digits: &str,
        now: impl FnOnce() -> Instant,
    ) -> Result<Option<Counted>, GuardRefusal> {
        self.check_rules(application, sender, number_digits)?;
        let Some(rules) = self.rules.get(application).filter(|rules| rules.cap > 0) else {
            return Ok(None);
        };
        let bucket = now().saturating_duration_since(self.begin).as_secs() / BUCKET.as_secs();
        let mut counts = rules.counts.lock();
        let key = counts.key(number_digits);
        if let Some(bucket) = counts.count(key, bucket, rules.cap) {
            let counts = Arc::clone(&rules.counts);
            Ok(Some(Counted {
                counts,
                key,
                bucket,
            }))
        } else {
            Err(GuardRefusal::NumberCapReached {
                application: application.to_owned(),
                cap: rules.cap,
            })
        }
    }

    /// Checks one destination without its number of messages.
    ///
    /// # Errors
    /// The first guard that refuses.
    pub fn check_rules(
        &self,
        application: &str,
        sender: &str,
        number_digits: &str,
    ) -> Result<(), GuardRefusal> {
        let Some(rules) = self.rules.get(application) else {
            return Ok(());
        };
        if !rules.allows_sender(sender) {
            return Err(GuardRefusal::SenderNotAllowed {
                application: application.to_owned(),
                sender: sender.to_owned(),
                allowed: rules.senders.join(", "),
            });
        }
        if !rules.allows_country(number_digits) {
            return Err(GuardRefusal::CountryNotAllowed {
                application: application.to_owned(),
                allowed: rules.country_prefixes.join(", "),
            });
        }
        Ok(())
    }
}

impl Rules {
    /// Case-sensitive: on a handset `BANK` and `Bank` are different senders.
    fn allows_sender(&self, sender: &str) -> bool {
        let digits = |sender: &'_ str| sender.strip_prefix('+').unwrap_or(sender).to_owned();
        self.senders.is_empty()
            || self
                .senders
                .iter()
                .any(|allowed| digits(allowed) == digits(sender))
    }

    fn allows_country(&self, number_digits: &str) -> bool {
        self.country_prefixes.is_empty()
            || self
                .country_prefixes
                .iter()
                .any(|prefix| number_digits.starts_with(prefix.as_str()))
    }
}

/// Number of messages to each number in the last hour.
#[derive(Debug)]
struct Counts {
    by_number: HashMap<u64, HourlyCounts>,
    max: usize,
}

/// Messages to one phone number in the last hour, counted per [`BUCKET`].
#[derive(Debug)]
struct HourlyCounts {
    /// The most recent bucket with a message.
    newest: u64,
    /// Counts of the buckets `newest - 6` to `newest`, each at its index modulo [`BUCKETS`].
    counts: [u32; BUCKETS],
}

impl HourlyCounts {
    fn advance_to(&mut self, bucket: u64) {
        for passed in (self.newest + 1..=bucket).take(BUCKETS) {
            self.counts[slot(passed)] = 0;
        }
        self.newest = self.newest.max(bucket);
    }

    fn total(&self) -> u64 {
        self.counts.iter().copied().map(u64::from).sum()
    }
}

fn slot(bucket: u64) -> usize {
    usize::try_from(bucket % BUCKETS as u64).expect("a remainder of a small number fits")
}

impl Counts {
    fn new(max: usize) -> Self {
        Self {
            by_number: HashMap::new(),
            max,
        }
    }

    /// Counts a message, unless the number has reached `cap`. Returns the bucket in which it is counted.
    fn count(&mut self, key: u64, bucket: u64, cap: u32) -> Option<u64> {
        if self.by_number.len() >= self.max && !self.by_number.contains_key(&key) {
            self.evict(bucket);
        }
        let hour = self.by_number.entry(key).or_insert(HourlyCounts {
            newest: bucket,
            counts: [0; BUCKETS],
        });
        hour.advance_to(bucket);
        let fits = hour.total() < u64::from(cap);
        if !fits {
            return None;
        }
        hour.counts[slot(hour.newest)] += 1;
        Some(hour.newest)
    }

    /// Takes a message back that was counted in this bucket, unless its hour has passed.
    fn give_back(&mut self, key: u64, bucket: u64) {
        if let Some(hour) = self.by_number.get_mut(&key)
            && bucket + BUCKETS as u64 > hour.newest
        {
            let count = &mut hour.counts[slot(bucket)];
            *count = count.saturating_sub(1);
        }
    }

    /// The number without leading zeros, because `0041…` and `41…` reach the same handset.
    fn key(&self, number_digits: &str) -> u64 {
        let digits = number_digits.trim_start_matches('0');
        // Real numbers have at most 15 digits. Longer ones, which do not fit into 64 bits, are hashed.
        digits
            .parse()
            .unwrap_or_else(|_| self.by_number.hasher().hash_one(digits))
    }

    /// Makes room: drops the numbers whose hour has passed and, if that is not enough, half of the others.
    fn evict(&mut self, bucket: u64) {
        self.by_number
            .retain(|_, hour| hour.newest + (BUCKETS as u64) > bucket);
        let half = self.max / 2;
        if self.by_number.len() <= half {
            return;
        }
        let mut totals: Vec<u64> = self.by_number.values().map(HourlyCounts::total).collect();
        let surplus = totals.len() - half;
        let (below, limit, _) = totals.select_nth_unstable(surplus - 1);
        let limit = *limit;
        // Of the numbers at the limit, only as many as needed are dropped.
        let mut at_limit = surplus - below.iter().filter(|total| **total < limit).count();
        self.by_number.retain(|_, hour| {
            let total = hour.total();
            if total == limit && at_limit > 0 {
                at_limit -= 1;
                return false;
            }
            total >= limit
        });
        tracing::warn!(
            tracked = self.by_number.len(),
            "more numbers within an hour than can be tracked; those with the fewest messages were dropped"
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn guards(application: Application) -> (Guards, Instant) {
        let begin = Instant::now();
        let applications = BTreeMap::from([("billing".to_owned(), application)]);
        (Guards::new(&applications, begin), begin)
    }

    fn reason<T>(result: Result<T, GuardRefusal>) -> Option<&'static str> {
        result.err().map(|refusal| refusal.reason().as_str())
    }

    #[test]
    fn nothing_is_forbidden_by_default() {
        let (guards, now) = guards(Application::default());
        for application in ["billing", "unheard-of"] {
            for _ in 0..100 {
                let checked = guards.check(application, "", "41793026727", || now);
                assert!(matches!(checked, Ok(None)));
            }
            assert_eq!(guards.default_sender(application), None);
        }
    }

    #[test]
    fn only_allowed_senders_are_used() {
        let (guards, now) = guards(Application {
            default_sender: Some("Billing".to_owned()),
            allowed_senders: vec!["Billing".to_owned(), "41790000000".to_owned()],
            ..Application::default()
        });
        assert_eq!(guards.default_sender("billing"), Some("Billing"));
        let check = |sender: &str| reason(guards.check("billing", sender, "41793026727", || now));
        for sender in ["Billing", "41790000000", "+41790000000"] {
            assert_eq!(check(sender), None, "{sender}");
        }
        for sender in ["BILLING", "Bank", "4179000000", ""] {
            assert_eq!(check(sender), Some("SENDER_NOT_ALLOWED"), "{sender}");
        }
        let refusal = guards
            .check("billing", "Bank", "41793026727", || now)
            .unwrap_err();
        let message = refusal.to_string();
        assert!(
            message.contains("applications.billing.allowed_senders"),
            "{message}"
        );
    }

    #[test]
    fn only_allowed_countries_are_reached() {
        let (guards, now) = guards(Application {
            allowed_country_prefixes: vec!["41".to_owned(), "385".to_owned()],
            ..Application::default()
        });
        let check = |number: &str| reason(guards.check("billing", "Shop", number, || now));
        for number in ["41793026727", "385911234567"] {
            assert_eq!(check(number), None, "{number}");
        }
        for number in ["4", "0041793026727", "387911234567", "79302672741"] {
            assert_eq!(check(number), Some("COUNTRY_NOT_ALLOWED"), "{number}");
        }
        let refusal = guards
            .check("billing", "Shop", "44123", || now)
            .unwrap_err();
        assert!(
            !refusal.to_string().contains("44123"),
            "numbers are not repeated"
        );
    }

    #[test]
    fn a_number_gets_no_more_than_the_cap_in_an_hour() {
        let (guards, begin) = guards(Application {
            max_messages_per_number_per_hour: 2,
            ..Application::default()
        });
        let check = |number: &str, minutes: u32| {
            reason(guards.check("billing", "Shop", number, || begin + MINUTE * minutes))
        };
        assert_eq!(check("41793026727", 0), None);
        assert_eq!(check("0041793026727", 9), None);
        assert_eq!(check("41793026727", 9), Some("NUMBER_CAP_REACHED"));
        assert_eq!(
            check("41793026728", 9),
            None,
            "another number has its own count"
        );
        assert_eq!(check("41793026727", 59), Some("NUMBER_CAP_REACHED"));
        assert_eq!(check("41793026727", 70), None);
        assert_eq!(check("41793026727", 600), None);
    }

    #[test]
    fn refused_messages_are_not_counted() {
        let (guards, begin) = guards(Application {
            max_messages_per_number_per_hour: 1,
            ..Application::default()
        });
        let check = |minutes: u32| {
            guards
                .check("billing", "", "41", || begin + MINUTE * minutes)
                .is_ok()
        };
        assert!(check(0));
        assert!((1..70).all(|minute| !check(minute)));
        assert!(check(70));
    }

    #[test]
    fn messages_that_were_not_sent_are_given_back() {
        let (guards, begin) = guards(Application {
            max_messages_per_number_per_hour: 1,
            ..Application::default()
        });
        let check = |minutes: u32| guards.check("billing", "", "41", || begin + MINUTE * minutes);
        for _ in 0..3 {
            check(0).unwrap().unwrap().give_back();
        }
        let early = check(0).unwrap().unwrap();
        check(30).unwrap_err();
        let late = check(70).unwrap().unwrap();
        // Its hour has passed: it was not counted any more.
        early.give_back();
        check(75).unwrap_err();
        late.give_back();
        check(76).unwrap();
    }

    #[test]
    fn memory_is_bounded_and_numbers_near_the_cap_are_kept() {
        let mut counts = Counts::new(100);
        let cap = 3;
        let count = |counts: &mut Counts, number: &str, bucket| {
            let key = counts.key(number);
            counts.count(key, bucket, cap).is_some()
        };
        for _ in 0..cap {
            assert!(count(&mut counts, "41000000000", 0));
        }
        for n in 0..10_000 {
            assert!(count(&mut counts, &format!("4179{n:06}"), 1));
            assert!(counts.by_number.len() <= 100);
        }
        let fits = count(&mut counts, "41000000000", 1);
        assert!(!fits, "it is still tracked");
        // Numbers whose hour has passed are dropped.
        for n in 0..100 {
            assert!(count(&mut counts, &format!("4180{n:06}"), 20));
        }
        assert!(counts.by_number.values().all(|hour| hour.newest == 20));
    }

    proptest! {
        /// Compared with a list of all sends: never more than the cap in 60 minutes, and a send is refused only if 70 minutes
        /// contain as many as the cap.
        #[test]
        fn the_cap_holds_for_every_hour(mut seconds in prop::collection::vec(0u64..20_000, 1..200), cap in 1u32..6) {
            seconds.sort_unstable();
            let (guards, begin) = guards(Application {
                max_messages_per_number_per_hour: cap,
                ..Application::default()
            });
            let mut sent: Vec<u64> = Vec::new();
            for second in seconds {
                let now = begin + Duration::from_secs(second);
                let within = |window: u64| sent.iter().filter(|earlier| **earlier + window > second).count();
                let fits = guards.check("billing", "", "41793026727", || now).is_ok();
                if fits {
                    prop_assert!(within(3600) < cap as usize);
                    sent.push(second);
                } else {
                    prop_assert!(within(4200) >= cap as usize);
                }
            }
        }
    }
}
