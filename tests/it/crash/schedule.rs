//! What happens in a run, drawn from its seed: the commands of each cycle, the faults of the API, how the bridge ends, and when
//! the broker is away. The same seed draws the same run; the interleaving of the processes differs.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;
use smsbridge::ops::kill_point::KillPoint;

use super::{
    faults,
    producer::{Command, Commands},
};

/// Commands that are published in one cycle, unless a run has another number.
pub const COMMANDS_OF_CYCLE: usize = 340;
/// One restart of the broker in this many cycles.
const CYCLES_OF_OUTAGE: usize = 10;
const KILL_POINTS: [KillPoint; 3] = [
    KillPoint::RequestEnded,
    KillPoint::ResultsStored,
    KillPoint::CopyConfirmed,
];

pub struct Schedule {
    pub seed: u64,
    pub memory: ApiMemory,
    pub cycles: Vec<Cycle>,
}

/// What the API remembers during a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiMemory {
    /// It remembers message ids, and its logs lag.
    LogsLag,
    /// It forgets message ids, and its logs do not lag.
    ForgetsIds,
    /// Both at once, which is beyond P2 (docs/RELIABILITY.md): messages that were sent twice are counted.
    ForgetsIdsAndLogsLag,
}

impl ApiMemory {
    /// Of the runs within P2: an even seed has the first kind, an odd one the second.
    fn of(seed: u64) -> Self {
        match seed.is_multiple_of(2) {
            true => Self::LogsLag,
            false => Self::ForgetsIds,
        }
    }
}

/// From one start of the bridge to its end.
pub struct Cycle {
    pub commands: Vec<Command>,
    pub faults: Vec<Value>,
    pub end: End,
    pub outage: Option<Outage>,
}

/// How the bridge ends.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// SIGKILL after this time.
    Kill(Duration),
    /// At a point in the code, when it is reached for the nth time.
    At(KillPoint, u32),
}

/// The broker is killed `after` the start of the cycle, and started again when it was away for `lasts`.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    pub after: Duration,
    pub lasts: Duration,
}

impl Schedule {
    pub fn new(seed: u64, cycles: usize, commands_of_cycle: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut commands = Commands::default();
        let outages = (cycles / CYCLES_OF_OUTAGE).max(1);
        let cycles = (0..cycles)
            .map(|number| {
                // In the middle of each ten cycles.
                let in_ten = number % CYCLES_OF_OUTAGE;
                let is_outage = number / CYCLES_OF_OUTAGE < outages
                    && in_ten == CYCLES_OF_OUTAGE.min(cycles) / 2;
                let end = end(&mut random, number);
                Cycle {
                    commands: commands.draw(&mut random, commands_of_cycle),
                    faults: faults::draw(&mut random, end),
                    end,
                    outage: is_outage.then(|| Outage {
                        after: milliseconds(&mut random, 200, 1_500),
                        lasts: milliseconds(&mut random, 0, 3_000),
                    }),
                }
            })
            .collect();
        Self {
            seed,
            memory: ApiMemory::of(seed),
            cycles,
        }
    }

    /// The same run with an API that forgets ids while its logs lag.
    pub fn beyond_p2(self) -> Self {
        Self {
            memory: ApiMemory::ForgetsIdsAndLogsLag,
            ..self
        }
    }
}

/// With the feature `kill-points` every second cycle ends at a point, at each in turn.
fn end(random: &mut StdRng, number: usize) -> End {
    if cfg!(feature = "kill-points") && number % 2 == 1 {
        let point = KILL_POINTS[number / 2 % KILL_POINTS.len()];
        let most = match point {
            KillPoint::RequestEnded => 15,
            KillPoint::ResultsStored => 150,
            // The last four are not in `KILL_POINTS`: `amqp::dead_letters_for_operators`, `pulls`, `pushes` and `quarantine` have them.
            KillPoint::CopyConfirmed
            | KillPoint::ReplayConfirmed
            | KillPoint::RawStored
            | KillPoint::EventsStored
            | KillPoint::PartsStored => 10,
        };
        return End::At(point, random.random_range(1..=most));
    }
    // Some lives are long enough for redelivered commands to be resolved, and to be killed then.
    let most = if random.random_bool(0.5) {
        5_000
    } else {
        1_500
    };
    End::Kill(milliseconds(random, 50, most))
}

fn milliseconds(random: &mut StdRng, least: u64, most: u64) -> Duration {
    Duration::from_millis(random.random_range(least..=most))
}
