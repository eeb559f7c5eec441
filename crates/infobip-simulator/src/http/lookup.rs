//! `POST /number/1/query` and `/number/1/notify`: which network serves a number (manual "NUMBER LOOKUP").
//!
//! The result is derived from the seed and the number, so it is the same each time. The special numbers of sends are
//! special here too: `99902…` selects an error, `99901…` a status.

use serde_json::{Map, Value, json};

use crate::{
    codes::{
        self,
        id::{
            DELIVERED_TO_HANDSET, EC_UNKNOWN_SUBSCRIBER, EXPIRED_EXPIRED, INVALID_DESTINATION,
            NO_ERROR, PENDING_WAITING_DELIVERY, UNDELIVERABLE_NOT_DELIVERED,
        },
    },
    config::SimulatorConfig,
    envelope::ApiError,
    http::{ApiRequest, ApiResponse},
    networks::{self, Network},
    outcome::{self, SpecialNumber},
    push::PushContent,
    random::SeededRandom,
    render::{ErrorObject, StatusObject},
    request::LookupRequest,
    validate,
};

const MAX_NUMBERS: usize = 1000;
/// Numbers of foreign networks, used for roaming subscribers.
const FOREIGN_NUMBERS: [&str; 6] = ["46739", "491701", "4479", "33612", "38591", "3469"];

/// Takes the numbers out of a request.
fn take_numbers(body: &mut LookupRequest) -> Result<Vec<String>, ApiError> {
    let numbers = body.to.take().map(|list| list.0).unwrap_or_default();
    if numbers.is_empty() {
        return Err(ApiError::invalid("to", "must not be empty"));
    }
    if numbers.len() > MAX_NUMBERS {
        return Err(ApiError::invalid(
            "to",
            "must not have more than 1000 numbers",
        ));
    }
    Ok(numbers.into_iter().map(|number| number.0).collect())
}

/// Looks up numbers and returns the results.
pub fn query(request: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let mut body: LookupRequest = request.parse_body()?;
    let numbers = take_numbers(&mut body)?;
    request.engine.lock().account.count_lookups(&numbers);
    let results: Vec<_> = numbers
        .iter()
        .map(|to| look_up(to, &request.engine.config))
        .collect();
    Ok(request.respond("ncResponse", &json!({"results": results})))
}

/// Looks up numbers and pushes the results to the notify URL.
pub fn notify(request: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let mut body: LookupRequest = request.parse_body()?;
    let numbers = take_numbers(&mut body)?;
    let notify = validate::lookup_notify(body.notify_url, body.notify_content_type.as_ref())?;
    let notify = notify.ok_or_else(|| ApiError::invalid("notifyUrl", "must be given"))?;
    let config = &request.engine.config;
    let mut state = request.engine.lock();
    state.account.count_lookups(&numbers);
    let bulk_id = state.next_random("bulk").uuid();
    let (mut pending, mut results) = (Vec::new(), Vec::new());
    for to in numbers {
        let message_id = state.next_random("lookup").uuid();
        // By the schema, a pushed row has no `messageId`.
        results.push(Value::Object(look_up(&to, config)));
        pending.push(json!({"to": to, "status": StatusObject(PENDING_WAITING_DELIVERY), "messageId": message_id}));
    }
    let latency_ms = SeededRandom::for_key(config.seed, &bulk_id).in_range(
        config.delivery_latency_ms.0.into(),
        config.delivery_latency_ms.1.into(),
    );
    let due_ms = state.clock.now_ms().saturating_add(
        i64::try_from(latency_ms).expect("a latency between two u32 fits in an i64"),
    );
    // A request for one number has no bulk id.
    let has_bulk_id = results.len() > 1;
    let with_bulk_id = |results: Vec<Value>| {
        let mut body = json!({ "results": results });
        if has_bulk_id {
            body["bulkId"] = bulk_id.as_str().into();
        }
        body
    };
    let body = Box::new(with_bulk_id(results));
    state.schedule_push(PushContent::Lookups { notify, body }, due_ms);
    request.engine.release(state);
    Ok(request.respond("ncResponseAsync", &with_bulk_id(pending)))
}

/// The result of one number.
fn look_up(to: &str, config: &SimulatorConfig) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("to".into(), to.into());
    let digits = validate::destination_digits(to).ok();
    let network = digits.as_deref().and_then(networks::of_number);
    let special = digits.as_deref().and_then(outcome::special_number);
    let (status, error) = match special {
        Some(SpecialNumber::Status(status)) => (status, NO_ERROR),
        Some(SpecialNumber::FinalError(error)) => {
            let permanent = codes::error(error).is_some_and(|row| row.permanent);
            let status = if permanent {
                UNDELIVERABLE_NOT_DELIVERED
            } else {
                EXPIRED_EXPIRED
            };
            (status, error)
        }
        Some(_) => (DELIVERED_TO_HANDSET, NO_ERROR),
        // As captured live: an invalid number has an empty network and neither mccMnc nor ported.
        None if network.is_none() => (INVALID_DESTINATION, EC_UNKNOWN_SUBSCRIBER),
        None => (DELIVERED_TO_HANDSET, NO_ERROR),
    };
    match network.zip(digits.as_deref()) {
        Some((network, digits)) if (status, error) == (DELIVERED_TO_HANDSET, NO_ERROR) => {
            insert_network_fields(&mut row, digits, network, config);
        }
        _ => {
            row.insert(
                "originalNetwork".into(),
                network.map_or_else(|| json!({}), network_object),
            );
        }
    }
    row.insert("status".into(), json!(StatusObject(status)));
    row.insert("error".into(), json!(ErrorObject(error)));
    row
}

/// Adds the fields of a number that is reached: IMSI, home network, porting, roaming.
fn insert_network_fields(
    row: &mut Map<String, Value>,
    digits: &str,
    network: &'static Network,
    config: &SimulatorConfig,
) {
    let mut random = SeededRandom::for_key(config.seed, digits);
    let (ported, roaming) = (
        random.unit_interval() < config.lookup_ported,
        random.unit_interval() < config.lookup_roaming,
    );
    let subscriber = random.in_range(1_000_000_000, 9_999_999_999).to_string();
    let new_home = if ported { other_network(network) } else { None };
    let home = new_home.unwrap_or(network);
    let foreign = FOREIGN_NUMBERS
        .iter()
        .filter_map(|number| networks::of_number(number));
    let foreign = foreign.filter(|other| other.country_iso != network.country_iso);
    let visited = if roaming {
        foreign.min_by_key(|_| random.next_u64())
    } else {
        None
    };
    let mcc_mnc = home.mcc_mnc();
    // At most 15 digits: MCC and MNC are 5 or 6, and the subscriber number has 10.
    let msin = &subscriber[..15 - mcc_mnc.len()];
    row.insert("imsi".into(), format!("{mcc_mnc}{msin}").into());
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
        format!("{}{:03}", serving.country_prefix, random.in_range(1, 20)).into(),
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
