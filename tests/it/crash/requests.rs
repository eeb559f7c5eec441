//! The requests that the API received, in their order: what was sent again, and whether it was looked up before.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

const LOGS_PATH: &str = "/sms/1/logs";
const SEND_PATHS: &str = "/sms/1/text/";

/// The ids that were looked up with an answer.
pub fn looked_up(requests: &[Value]) -> HashSet<String> {
    requests
        .iter()
        .filter(|request| is_answered_look_up(request))
        .flat_map(asked_ids)
        .collect()
}

/// The ids that were sent again although no look-up was answered after the last request that may have been accepted.
pub fn resent_without_look_up(requests: &[Value]) -> HashSet<String> {
    let mut asked_since_sent: HashMap<String, bool> = HashMap::new();
    let mut resent = HashSet::new();
    for request in requests {
        if is_answered_look_up(request) {
            for id in asked_ids(request) {
                asked_since_sent.entry(id).and_modify(|asked| *asked = true);
            }
        } else if may_have_been_accepted(request) {
            for id in sent_ids(request) {
                if asked_since_sent.insert(id.to_owned(), false) == Some(false) {
                    resent.insert(id.to_owned());
                }
            }
        }
    }
    resent
}

/// The ids that a request sends.
pub fn sent_ids(request: &Value) -> impl Iterator<Item = &str> {
    let ids = request["messageIds"].as_array().into_iter().flatten();
    ids.filter_map(Value::as_str)
}

/// The ids that a query of the logs asks for.
pub fn asked_ids(request: &Value) -> Vec<String> {
    let query = request["query"].as_str().unwrap_or_default();
    let ids = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("messageId="));
    let ids = percent_encoding::percent_decode_str(ids.unwrap_or_default()).decode_utf8_lossy();
    ids.split(',').map(str::to_owned).collect()
}

fn is_answered_look_up(request: &Value) -> bool {
    request["path"] == LOGS_PATH && request["status"] == 200
}

/// A request to send that was not refused with a status below 500.
fn may_have_been_accepted(request: &Value) -> bool {
    let is_send = request["path"]
        .as_str()
        .is_some_and(|path| path.starts_with(SEND_PATHS));
    let is_refused = request["status"]
        .as_u64()
        .is_some_and(|status| (400..500).contains(&status));
    is_send && !is_refused
}
