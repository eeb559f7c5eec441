//! A token bucket in virtual time, for the fault `rate_limit`.

/// The tokens of one fault. Rate and capacity are parameters of the fault.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenBucket {
    tokens: f64,
    refilled_at_ms: i64,
}

impl TokenBucket {
    pub(super) fn new(tokens: f64, now_ms: i64) -> Self {
        Self {
            tokens,
            refilled_at_ms: now_ms,
        }
    }

    /// Takes one token; false if the bucket is empty.
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since 1970 fit 53 bits"
    )]
    pub(super) fn try_take(&mut self, per_second: f64, burst: f64, now_ms: i64) -> bool {
        let passed_ms = now_ms.saturating_sub(self.refilled_at_ms).max(0);
        self.tokens = (self.tokens + passed_ms as f64 / 1000.0 * per_second).min(burst);
        self.refilled_at_ms = now_ms;
        let available = self.tokens >= 1.0;
        if available {
            self.tokens -= 1.0;
        }
        available
    }
}
