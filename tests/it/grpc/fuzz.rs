//! Random requests to every method: each gets a status of docs/ERRORS.md, and nothing panics.
//!
//! Requests are generated from the descriptor set, so new fields and methods are covered without a change here. `support::fuzz`
//! sets the duration.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tonic::Code;

use self::requests::{Fuzzed, calls};
use crate::support::{
    document::{quoted, read, rows},
    fuzz::Fuzz,
    process::BridgeProcess,
    raw_call::{RawCaller, framed},
    simulator::TestSimulator,
    wire::Contract,
};

mod requests;

/// A following stream is abandoned after this time.
const FOLLOWED: Duration = Duration::from_millis(100);
/// Number of concurrent calls.
const AT_ONCE: usize = 8;

/// The documented pairs of code and reason.
fn documented() -> BTreeSet<(String, String)> {
    let document = read("docs/ERRORS.md").unwrap();
    let table = document
        .split("\n## ")
        .find(|part| part.starts_with("Errors of a whole call"));
    rows(table.unwrap())
        .map(|cells| (cells[1].to_owned(), quoted(cells[0]).remove(0)))
        .collect()
}

/// The gRPC spelling of a code: `INVALID_ARGUMENT` for `InvalidArgument`.
fn written(code: Code) -> String {
    let mut name = String::new();
    for character in format!("{code:?}").chars() {
        if character.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(character.to_ascii_uppercase());
    }
    name
}

async fn check(
    caller: &RawCaller,
    documented: &BTreeSet<(String, String)>,
    call: &Fuzzed,
) -> Result<Code, String> {
    let body = call
        .messages
        .iter()
        .map(|message| framed(message))
        .collect::<Vec<_>>()
        .concat();
    let headers: Vec<_> = call
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let is_followed = call.method.path.ends_with("/StreamEvents");
    let patience = if is_followed {
        FOLLOWED
    } else {
        Duration::from_secs(20)
    };
    let Some(answer) = caller
        .call_within(&call.method.path, &headers, body, patience)
        .await
    else {
        return if is_followed {
            Ok(Code::Ok)
        } else {
            Err("no answer".to_owned())
        };
    };
    if answer.http_status != 200 {
        return Err(format!("HTTP {}", answer.http_status));
    }
    let Some(status) = &answer.status else {
        return if is_followed {
            Ok(Code::Ok)
        } else {
            Err("no status".to_owned())
        };
    };
    let (code, reason) = answer.reason();
    let is_documented = code == Code::Ok || documented.contains(&(written(code), reason));
    is_documented
        .then_some(code)
        .ok_or_else(|| format!("{status:?}"))
}

#[test]
fn any_request_gets_a_documented_status_on_every_method() {
    let mut fuzz = Fuzz::begin(800);
    let documented = documented();
    let contract = Arc::new(Contract::read());
    let strategy = calls(&contract);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let simulator = TestSimulator::with(|config| {
            config.logs_per_minute = 0;
            config.speed = 1000.0;
            config.bounds.messages = 2000;
        })
        .await;
        let bridge = BridgeProcess::start(&simulator, &[]).await;
        let caller = RawCaller::connect(bridge.address).await;
        let mut answered = BTreeSet::new();
        let mut cases = 0_u32;
        while fuzz.goes_on_after(cases) {
            let round: Vec<_> = (0..AT_ONCE).map(|_| fuzz.draw(&strategy)).collect();
            let checks = round.iter().map(|call| check(&caller, &documented, call));
            for (call, checked) in round
                .iter()
                .zip(futures_util::future::join_all(checks).await)
            {
                let code = checked
                    .unwrap_or_else(|wrong| panic!("after {cases} cases: {wrong}\n{call:?}"));
                answered.insert((call.method.path.clone(), code == Code::Ok));
                cases += 1;
            }
        }
        let peak_mb = bridge.peak_memory_mb();
        let (ended, said) = bridge.stop().await;
        assert!(ended.success() && !said.contains("panicked"), "{said}");
        for method in &contract.methods {
            assert!(
                answered.iter().any(|(path, _)| *path == method.path),
                "{} was not reached",
                method.path
            );
        }
        let worked: Vec<_> = answered.iter().filter(|(_, is_ok)| *is_ok).collect();
        assert!(worked.len() > 10, "only these ever worked: {worked:?}");
        assert!(peak_mb < 256, "the bridge took {peak_mb} MB");
        assert!(!simulator.messages().await.is_empty(), "nothing was sent");
    });
}
