//! Length and seed of a fuzz run: by default a few hundred cases, always the same; with `SMSBRIDGE_FUZZ_SECONDS` (`make fuzz`)
//! random cases for that time.

use std::time::{Duration, Instant};

use proptest::{
    strategy::{Strategy, ValueTree as _},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// A fuzz run: generates its cases and decides when it is done.
pub struct Fuzz {
    /// Number of cases, if the run has no time limit.
    cases: u32,
    /// When the run ends. `None`: it ends after `cases` cases.
    until: Option<Instant>,
    runner: TestRunner,
}

impl Fuzz {
    /// Starts a run of `cases` cases, or of the time in `SMSBRIDGE_FUZZ_SECONDS`.
    pub fn begin(cases: u32) -> Self {
        let seconds = std::env::var("SMSBRIDGE_FUZZ_SECONDS").ok();
        let until =
            seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.parse().unwrap()));
        // A run with a time has a random seed, a short one a fixed seed.
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

    /// Whether the run continues after `cases` cases.
    pub fn goes_on_after(&self, cases: u32) -> bool {
        self.until
            .map_or(cases < self.cases, |until| Instant::now() < until)
    }

    pub fn draw<S: Strategy>(&mut self, strategy: &S) -> S::Value {
        strategy.new_tree(&mut self.runner).unwrap().current()
    }
}
