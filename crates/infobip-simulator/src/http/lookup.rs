//! `POST /number/1/query` and `/number/1/notify`: which network serves a number (manual "NUMBER LOOKUP").
//!
//! The result is derived from the seed and the number, so it is the same each time. The numbers that select an outcome
//! of a send select it here too: `99902…` an error, `99901…` a status.

use serde_json::{Map, Value, json};

use crate::{
    codes,
    config::SimulatorConfig,
    dice::Dice,
    envelope::ApiError,
    http::{Call, Reply},
    networks::{self, Network},
    outcome::{self, ByNumber},
    push::Payload,
    render::{Error, Status},
    request::LookupRequest,
    validate,
};

const MOST_NUMBERS: usize = 1000;
/// Numbers of foreign networks, used for roaming subscribers.
const ABROAD: [&str; 6] = ["46739", "491701", "4479", "33612", "38591", "3469"];

fn numbers(request: &mut LookupRequest) -> Result<Vec<String>, ApiError> {
    let numbers = request.to.take().map(|list| list.0).unwrap_or_default();
    if numbers.is_empty() {
        return Err(ApiError::invalid("to", "must not be empty"));
    }
    if numbers.len() > MOST_NUMBERS {
        return Err(ApiError::invalid(
            "to",
            "must not have more than 1000 numbers",
        ));
    }
    Ok(numbers.into_iter().map(|number| number.0).collect())
}

/// Looks up numbers and answers with the results.
pub fn query(call: &Call<'_>) -> Result<Reply, ApiError> {
    let mut request: LookupRequest = call.read()?;
    let numbers = numbers(&mut request)?;
    let results: Vec<_> = numbers
        .iter()
        .map(|to| look_up(to, &call.engine.config))
        .collect();
    Ok(call.answer("ncResponse", &json!({"results": results})))
}

/// Looks up numbers and pushes the results to the notify URL.
pub fn notify(call: &Call<'_>) -> Result<Reply, ApiError> {
    let mut request: LookupRequest = call.read()?;
    let numbers = numbers(&mut request)?;
    let notify = validate::lookup_notify(request.notify_url, request.notify_content_type.as_ref())?;
    let notify = notify.ok_or_else(|| ApiError::invalid("notifyUrl", "must be given"))?;
    let config = &call.engine.config;
    let mut state = call.engine.lock();
    let bulk_id = state.next_dice("bulk").uuid();
    let (mut waiting, mut results) = (Vec::new(), Vec::new());
    for to in numbers {
        let message_id = state.next_dice("lookup").uuid();
        let mut result = look_up(&to, config);
        result.insert("messageId".into(), message_id.as_str().into());
        results.push(Value::Object(result));
        waiting.push(json!({"to": to, "status": Status(3), "messageId": message_id}));
    }
    let latency_ms = Dice::of(config.seed, &bulk_id).between(
        config.delivery_latency_ms.0.into(),
        config.delivery_latency_ms.1.into(),
    );
    let due_ms = state
        .clock
        .now_ms()
        .saturating_add(i64::try_from(latency_ms).unwrap_or(0));
    let body = Box::new(json!({"results": results, "bulkId": bulk_id}));
    state.push_at(Payload::Lookups { notify, body }, due_ms);
    call.engine.release(state);
    Ok(call.answer(
        "ncResponseAsync",
        &json!({"results": waiting, "bulkId": bulk_id}),
    ))
}

fn look_up(to: &str, config: &SimulatorConfig) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("to".into(), to.into());
    let digits = validate::destination_digits(to).ok();
    let network = digits.as_deref().and_then(networks::of_number);
    let chosen = digits.as_deref().and_then(outcome::by_number);
    let (status, error) = match chosen {
        Some(ByNumber::Status(status)) => (status, 0),
        Some(ByNumber::Failed(error)) => {
            let permanent = codes::error(error).is_some_and(|row| row.permanent);
            (if permanent { 9 } else { 15 }, error)
        }
        Some(_) => (outcome::DELIVERED, 0),
        // Captured live: an invalid number has an empty network and neither mccMnc nor ported.
        None if network.is_none() => (52, 1),
        None => (outcome::DELIVERED, 0),
    };
    match network.zip(digits.as_deref()) {
        Some((network, digits)) if (status, error) == (outcome::DELIVERED, 0) => {
            describe(&mut row, digits, network, config);
        }
        _ => {
            row.insert(
                "originalNetwork".into(),
                network.map_or_else(|| json!({}), network_object),
            );
        }
    }
    row.insert("status".into(), json!(Status(status)));
    row.insert("error".into(), json!(Error(error)));
    row
}

fn describe(
    row: &mut Map<String, Value>,
    digits: &str,
    network: &'static Network,
    config: &SimulatorConfig,
) {
    let mut dice = Dice::of(config.seed, digits);
    let (ported, roaming) = (
        dice.unit() < config.lookup_ported,
        dice.unit() < config.lookup_roaming,
    );
    let subscriber = dice.between(1_000_000_000, 9_999_999_999).to_string();
    let new_home = if ported { other_network(network) } else { None };
    let home = new_home.unwrap_or(network);
    let abroad = ABROAD
        .iter()
        .filter_map(|number| networks::of_number(number));
    let abroad = abroad.filter(|other| other.country_iso != network.country_iso);
    let visited = if roaming {
        abroad.min_by_key(|_| dice.bits())
    } else {
        None
    };
    let mcc_mnc = home.mcc_mnc();
    let imsi_rest = subscriber
        .get(..15_usize.saturating_sub(mcc_mnc.len()).min(subscriber.len()))
        .unwrap_or_default();
    row.insert("imsi".into(), format!("{mcc_mnc}{imsi_rest}").into());
    row.insert("mccMnc".into(), mcc_mnc.into());
    row.insert("originalNetwork".into(), network_object(network));
    row.insert("ported".into(), new_home.is_some().into());
    if let Some(new_home) = new_home {
        row.insert("portedNetwork".into(), network_object(new_home));
    }
    row.insert("roaming".into(), visited.is_some().into());
    if let Some(visited) = visited {
        row.insert("roamingNetwork".into(), network_object(visited));
    }
    let serving = visited.unwrap_or(home);
    row.insert(
        "servingMSC".into(),
        format!("{}{:03}", serving.country_prefix, dice.between(1, 20)).into(),
    );
}

/// Another network of the same country, if the table has one.
fn other_network(network: &Network) -> Option<&'static Network> {
    (0..1000)
        .map(|prefix| format!("{}{prefix:03}", network.country_prefix))
        .filter_map(|number| networks::of_number(&number))
        .find(|other| {
            other.country_iso == network.country_iso && other.network_id != network.network_id
        })
}

fn network_object(network: &Network) -> Value {
    json!({
        "networkName": network.network_name,
        "networkPrefix": network.network_prefix,
        "countryName": network.country_name,
        "countryPrefix": network.country_prefix,
        "networkId": network.network_id,
    })
}
