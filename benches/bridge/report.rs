//! The table that the bench prints.

use std::{fmt, time::Duration};

use super::{load::Measured, process::Bridge};

struct Row {
    what: String,
    ceiling: String,
    ours: String,
    ratio: String,
    goal: String,
}

/// Rows in the order in which they were measured.
#[derive(Default)]
pub struct Report(Vec<Row>);

impl Report {
    /// Latencies and the difference between them, of which a bare confirm is the broker's part.
    pub fn latency(
        &mut self,
        what: &str,
        ceiling: &Measured,
        ours: &Measured,
        confirm: Option<&Measured>,
    ) {
        let ms = |measured: &Measured| measured.median.as_secs_f64() * 1e3;
        let confirm_ms = confirm.map_or(0.0, ms);
        self.0.push(Row {
            what: what.to_owned(),
            ceiling: format!("{:.3} ms", ms(ceiling)),
            ours: format!("{:.3} ms", ms(ours)),
            ratio: format!("{:+.3} ms", ms(ours) - ms(ceiling)),
            goal: match confirm {
                None => "at most +0.5 ms".to_owned(),
                Some(_) => format!(
                    "at most +{:.3} ms (0.5 and one bare confirm)",
                    0.5 + confirm_ms
                ),
            },
        });
    }

    /// Rates and their ratio.
    pub fn rate(&mut self, what: &str, ceiling: &Measured, ours: &Measured) {
        self.0.push(Row {
            what: what.to_owned(),
            ceiling: format!("{:.0}/s", ceiling.rate()),
            ours: format!("{:.0}/s", ours.rate()),
            ratio: format!("{:.2}", ours.rate() / ceiling.rate()),
            goal: "at least 0.50".to_owned(),
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
            goal: "under 0.040 s".to_owned(),
        });
        self.0.push(Row {
            what: format!("{what}: the bridge's peak memory"),
            ceiling: String::new(),
            ours: format!("{:.1} MB", bridge.peak_bytes() as f64 / 1e6),
            ratio: String::new(),
            goal: "under 40 MB".to_owned(),
        });
    }

    /// The command queue beside something else.
    pub fn queue_rate(&mut self, what: &str, other: &Measured, ours: &Measured, goal: &str) {
        self.0.push(Row {
            what: what.to_owned(),
            ceiling: format!("{:.0}/s", other.rate()),
            ours: format!("{:.0}/s", ours.rate()),
            ratio: format!("{:.2}", ours.rate() / other.rate()),
            goal: goal.to_owned(),
        });
    }

    /// Processor time and peak memory of the bridge and of the process that it is measured beside.
    pub fn queue_usage(&mut self, what: &str, other: &Measured, ours: &Measured) {
        let cpu = |measured: &Measured| measured.cpu.as_secs_f64() * 1e3 / measured.messages as f64;
        self.0.push(Row {
            what: format!("{what}: CPU per 1,000"),
            ceiling: format!("{:.3} s", cpu(other)),
            ours: format!("{:.3} s", cpu(ours)),
            ratio: format!("{:+.3} s", cpu(ours) - cpu(other)),
            goal: "at most +0.015 s of the relay".to_owned(),
        });
        let mb = |measured: &Measured| format!("{:.1} MB", measured.peak_bytes as f64 / 1e6);
        self.0.push(Row {
            what: format!("{what}: peak memory"),
            ceiling: mb(other),
            ours: mb(ours),
            ratio: String::new(),
            goal: "at most 40 MB".to_owned(),
        });
    }

    /// A row in words.
    pub fn row(&mut self, what: &str, ceiling: &str, ours: &str, ratio: &str, goal: &str) {
        self.0.push(Row {
            what: what.to_owned(),
            ceiling: ceiling.to_owned(),
            ours: ours.to_owned(),
            ratio: ratio.to_owned(),
            goal: goal.to_owned(),
        });
    }

    /// Events beside a bare peer that does the same with the same engine: rate, processor time, and the memory of ours.
    pub fn events(&mut self, what: &str, bare: &Measured, ours: &Measured, goal: &str) {
        let rate = |measured: &Measured| format!("{:.0} events/s", measured.rate());
        let ratio = format!("{:.2}", ours.rate() / bare.rate());
        self.row(what, &rate(bare), &rate(ours), &ratio, goal);
        let cpu = |measured: &Measured| {
            let seconds = measured.cpu.as_secs_f64() * 1e3 / measured.messages as f64;
            format!("{seconds:.4} s")
        };
        let what_cpu = format!("{what}: CPU per 1,000");
        self.row(&what_cpu, &cpu(bare), &cpu(ours), "", "");
        let mb = format!("{:.1} MB", ours.peak_bytes as f64 / 1e6);
        let what_memory = format!("{what}: peak memory");
        self.row(&what_memory, "", &mb, "", "");
    }

    /// The peak memory of ours alone.
    pub fn memory(&mut self, what: &str, ours: &Measured, most_mb: u64) {
        self.0.push(Row {
            what: format!("{what}: peak memory; rate"),
            ceiling: String::new(),
            ours: format!(
                "{:.1} MB; {:.0}/s",
                ours.peak_bytes as f64 / 1e6,
                ours.rate()
            ),
            ratio: String::new(),
            goal: format!("at most {most_mb} MB"),
        });
    }

    /// How long urgent commands took to their REST requests.
    pub fn urgent(&mut self, what: &str, mut took: Vec<Duration>, goal: Duration) {
        took.sort_unstable();
        let ms = |part: usize| took[(took.len() - 1) * part / 100].as_millis();
        self.0.push(Row {
            what: format!("{what}: p50; p99"),
            ceiling: String::new(),
            ours: format!("{}; {} ms", ms(50), ms(99)),
            ratio: String::new(),
            goal: format!("p99 under {} ms", goal.as_millis()),
        });
    }

    /// How well sends are put together.
    pub fn requests(&mut self, what: &str, ours: &Measured) {
        self.0.push(Row {
            what: format!("{what}: REST requests per 1,000"),
            ceiling: String::new(),
            ours: format!("{:.1}", ours.requests as f64 * 1e3 / ours.messages as f64),
            ratio: String::new(),
            goal: "at most 20 at full load".to_owned(),
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | ceiling | bridge | ratio | goal |")?;
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
