//! How long a fuzz goes on and what it draws: a few hundred cases by default, always the same ones; with
//! `SMSBRIDGE_FUZZ_SECONDS` (`make fuzz`) other ones each time, for so long.

use std::time::{Duration, Instant};

use proptest::{
    strategy::{Strategy, ValueTree as _},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// A fuzz under way: draws its cases and says when it is done.
pub struct Fuzz {
    /// Of a short run, which is the same everywhere.
    cases: u32,
    /// Of a run that was given a time.
    until: Option<Instant>,
    runner: TestRunner,
}

impl Fuzz {
    /// Starts a run of `cases` cases, or as long as `SMSBRIDGE_FUZZ_SECONDS` says.
    pub fn begin(cases: u32) -> Self {
        let seconds = std::env::var("SMSBRIDGE_FUZZ_SECONDS").ok();
        let until =
            seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.parse().unwrap()));
        // A run of minutes draws anew each time; a short one is the same everywhere.
        let rng = match until {
            Some(_) => {
                let seed = [
                    *uuid::Uuid::new_v4().as_bytes(),
                    *uuid::Uuid::new_v4().as_bytes(),
                ];
                TestRng::from_seed(RngAlgorithm::ChaCha, &seed.concat())
            }
            None => TestRng::deterministic_rng(RngAlgorithm::ChaCha),
        };
        Self {
            cases,
            until,
            runner: TestRunner::new_with_rng(Config::default(), rng),
        }
    }

    /// Whether to continue after `cases` cases.
    pub fn goes_on_after(&self, cases: u32) -> bool {
        self.until
            .map_or(cases < self.cases, |until| Instant::now() < until)
    }

    pub fn draw<S: Strategy>(&mut self, strategy: &S) -> S::Value {
        strategy.new_tree(&mut self.runner).unwrap().current()
    }
}
