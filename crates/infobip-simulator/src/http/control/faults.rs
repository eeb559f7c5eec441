//! `/_sim/faults`: lists, adds and removes faults.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{json_response, parse};
use crate::{
    engine::Engine,
    envelope::ApiError,
    http::{ApiResponse, Query},
};

pub(super) fn list(engine: &Arc<Engine>) -> ApiResponse {
    json_response(&json!({"faults": engine.faults.list()}))
}

/// Adds one fault, a list of them, or `{"faults": […]}`: all of them or none.
pub(super) fn add(engine: &Arc<Engine>, body: &Bytes) -> Result<ApiResponse, ApiError> {
    let value: Value = parse(body)?;
    let faults = match value {
        Value::Array(faults) => faults,
        Value::Object(mut object) => match object.remove("faults") {
            Some(Value::Array(faults)) if object.is_empty() => faults,
            Some(other) => {
                object.insert("faults".into(), other);
                vec![Value::Object(object)]
            }
            None => vec![Value::Object(object)],
        },
        other => vec![other],
    };
    let now_ms = engine.now_ms();
    let mut ids = Vec::new();
    for (index, fault) in faults.iter().enumerate() {
        match engine.faults.add(fault, now_ms) {
            Ok(id) => ids.push(id),
            Err(reason) => {
                for id in ids {
                    engine.faults.remove(Some(id));
                }
                return Err(ApiError::invalid(format!("faults[{index}]"), reason));
            }
        }
    }
    Ok(json_response(&json!({"ids": ids})))
}

/// Removes one fault by `?id=`, or all.
pub(super) fn remove(engine: &Arc<Engine>, query: &Query) -> Result<ApiResponse, ApiError> {
    let id = query
        .number("id")?
        .map(|id| u64::try_from(id).unwrap_or(u64::MAX));
    Ok(json_response(&json!({"lifted": engine.faults.remove(id)})))
}
