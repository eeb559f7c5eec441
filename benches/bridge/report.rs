//! The table that the bench prints.

use std::{fmt, time::Duration};

use super::{load::Measured, process::Bridge};

struct Row {
    what: String,
    ceiling: String,
    ours: String,
    ratio: String,
    goal: &'static str,
}

/// Rows in the order in which they were measured.
#[derive(Default)]
pub struct Report(Vec<Row>);

impl Report {
    /// Latencies and the difference between them.
    pub fn latency(&mut self, what: &str, ceiling: Duration, ours: Duration) {
        self.0.push(Row {
            what: what.to_owned(),
            ceiling: format!("{:.3} ms", ceiling.as_secs_f64() * 1e3),
            ours: format!("{:.3} ms", ours.as_secs_f64() * 1e3),
            ratio: format!(
                "{:+.3} ms",
                (ours.as_secs_f64() - ceiling.as_secs_f64()) * 1e3
            ),
            goal: "at most +0.5 ms (broker: and one bare confirm)",
        });
    }

    /// Rates and their ratio.
    pub fn rate(&mut self, what: &str, ceiling: &Measured, ours: &Measured) {
        self.0.push(Row {
            what: what.to_owned(),
            ceiling: format!("{:.0}/s", ceiling.rate()),
            ours: format!("{:.0}/s", ours.rate()),
            ratio: format!("{:.2}", ours.rate() / ceiling.rate()),
            goal: "at least 0.50",
        });
    }

    /// What the bridge used.
    pub fn usage(&mut self, what: &str, bridge: &Bridge, ours: &Measured) {
        let cpu = ours.cpu.as_secs_f64() * 1e3 / ours.messages as f64;
        self.0.push(Row {
            what: format!("{what}: the bridge's CPU per 1,000"),
            ceiling: String::new(),
            ours: format!("{cpu:.3} s"),
            ratio: String::new(),
            goal: "under 0.040 s",
        });
        self.0.push(Row {
            what: format!("{what}: the bridge's peak memory"),
            ceiling: String::new(),
            ours: format!("{:.1} MB", bridge.peak_bytes() as f64 / 1e6),
            ratio: String::new(),
            goal: "under 40 MB",
        });
    }

    /// How well sends are put together.
    pub fn requests(&mut self, what: &str, ours: &Measured) {
        self.0.push(Row {
            what: format!("{what}: REST requests per 1,000"),
            ceiling: String::new(),
            ours: format!("{:.1}", ours.requests as f64 * 1e3 / ours.messages as f64),
            ratio: String::new(),
            goal: "at most 20",
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | ceiling, plain HTTP | bridge | ratio | goal |")?;
        writeln!(f, "| --- | --- | --- | --- | --- |")?;
        for Row {
            what,
            ceiling,
            ours,
            ratio,
            goal,
        } in &self.0
        {
            writeln!(f, "| {what} | {ceiling} | {ours} | {ratio} | {goal} |")?;
        }
        Ok(())
    }
}
