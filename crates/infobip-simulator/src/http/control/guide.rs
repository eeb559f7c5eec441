//! `GET /_sim/outcomes` and `GET /_sim/faults/kinds`: what can be chosen, for the controls of the page.
//!
//! Neighbours: `outcome` and `faults::kind` do what these tables say; tests compare them.

use serde::Serialize;
use serde_json::{Value, json};

use super::{CONTROL_SERIALIZES, json_response};
use crate::{
    codes,
    http::ApiResponse,
    render::{ErrorObject, StatusObject},
};

/// A kind of special numbers.
#[derive(Serialize)]
struct Outcome {
    prefix: &'static str,
    parameter: Option<&'static str>,
    digits: u8,
    title: &'static str,
    description: &'static str,
    example: &'static str,
    /// The table of this answer that has the values of the parameter.
    table: Option<&'static str>,
}

const OUTCOMES: [Outcome; 5] = [
    Outcome {
        prefix: "99901",
        parameter: Some("status"),
        digits: 3,
        title: "A status at once",
        description: "Answered at once with that status. With a status that rejects, nothing is sent.",
        example: "999010061234",
        table: Some("statuses"),
    },
    Outcome {
        prefix: "99902",
        parameter: Some("error"),
        digits: 4,
        title: "A final error",
        description: "The final report has that error: UNDELIVERABLE if it is permanent, else EXPIRED after a temporary error.",
        example: "9990200011234",
        table: Some("errors"),
    },
    Outcome {
        prefix: "99903",
        parameter: Some("error"),
        digits: 4,
        title: "A temporary error, then delivered",
        description: "Has that error first, with an intermediate report if the message asks for one, and is delivered then.",
        example: "9990300271234",
        table: Some("errors"),
    },
    Outcome {
        prefix: "99904",
        parameter: Some("minutes"),
        digits: 4,
        title: "Delivered late",
        description: "Delivered after that many virtual minutes.",
        example: "9990400901234",
        table: None,
    },
    Outcome {
        prefix: "99905",
        parameter: None,
        digits: 0,
        title: "Never final",
        description: "Expires at the end of its validity period, 48 hours unless it has another.",
        example: "999051234567",
        table: None,
    },
];

pub(super) fn outcomes() -> ApiResponse {
    let statuses: Vec<Value> = codes::STATUSES
        .iter()
        .map(|row| {
            let mut status = serde_json::to_value(StatusObject(row.id)).expect(CONTROL_SERIALIZES);
            status["rejects"] = Value::Bool(!matches!(row.group_id, 0 | 1));
            status
        })
        .collect();
    let errors: Vec<_> = codes::ERRORS
        .iter()
        .map(|row| ErrorObject(row.id))
        .collect();
    json_response(&json!({"outcomes": OUTCOMES, "statuses": statuses, "errors": errors}))
}

/// A parameter of a fault.
#[derive(Serialize)]
struct Parameter {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    required: bool,
    default: Value,
    min: Option<f64>,
    max: Option<f64>,
    description: &'static str,
}

impl Parameter {
    fn required(mut self) -> Self {
        self.required = true;
        self
    }

    fn or(mut self, default: impl Into<Value>) -> Self {
        self.default = default.into();
        self
    }

    fn within(mut self, min: f64, max: f64) -> Self {
        (self.min, self.max) = (Some(min), Some(max));
        self
    }
}

fn parameter(name: &'static str, kind: &'static str, description: &'static str) -> Parameter {
    Parameter {
        name,
        kind,
        required: false,
        default: Value::Null,
        min: (kind == "integer" || kind == "number").then_some(0.0),
        max: None,
        description,
    }
}

const ALL: &str = "all requests";
const SENDS: &str = "sends";
const READS: &str = "reads of reports and of the inbox";
const PUSHES: &str = "pushes";

pub(super) fn fault_kinds() -> ApiResponse {
    let processed = || {
        let about = "The request is carried out nevertheless.";
        parameter("processed", "boolean", about).or(false)
    };
    let kind = |kind: &str, applies_to: &str, about: &str, parameters: Vec<Parameter>| json!({"kind": kind, "description": about, "appliesTo": applies_to, "parameters": parameters});
    let kinds = vec![
        kind(
            "latency",
            ALL,
            "The response is delayed, in real time.",
            vec![
                parameter("ms", "integer", "Milliseconds.").required(),
                parameter("maxMs", "integer", "Drawn between ms and this."),
                parameter(
                    "before",
                    "boolean",
                    "Delays before the request is carried out.",
                )
                .or(false),
            ],
        ),
        kind(
            "status",
            ALL,
            "Another status is answered.",
            vec![
                parameter("status", "integer", "The HTTP status.")
                    .required()
                    .within(200.0, 599.0),
                parameter(
                    "body",
                    "json",
                    "A string is sent as it is, anything else as JSON; without it the API's error.",
                ),
                parameter("contentType", "string", "The content type of the body."),
                processed(),
            ],
        ),
        kind(
            "rate_limit",
            ALL,
            "429 when a token bucket in virtual time is empty.",
            vec![
                parameter("perSecond", "number", "Requests per virtual second.").required(),
                parameter(
                    "burst",
                    "number",
                    "Size of the bucket; without it the requests of a second.",
                ),
            ],
        ),
        kind(
            "reset",
            ALL,
            "The connection is reset, and nothing is carried out. With a path that the URL of a push has, the push gets no answer.",
            vec![],
        ),
        kind(
            "accept_then_drop",
            SENDS,
            "A send is accepted, then the connection closes without an answer.",
            vec![parameter("hold", "boolean", "The connection stays open instead.").or(false)],
        ),
        kind(
            "truncate",
            ALL,
            "The response is cut.",
            vec![parameter(
                "bytes",
                "integer",
                "Bytes that are sent; without it half of them.",
            )],
        ),
        kind(
            "html",
            ALL,
            "A proxy's HTML page is answered.",
            vec![
                parameter("status", "integer", "The HTTP status.")
                    .or(502)
                    .within(200.0, 599.0),
                processed(),
            ],
        ),
        kind(
            "read_then_reset",
            READS,
            "What is read once is taken, then the connection is reset.",
            vec![],
        ),
        kind(
            "duplicate_push",
            PUSHES,
            "An accepted push is repeated.",
            vec![],
        ),
        kind(
            "early_push",
            SENDS,
            "Messages end, and their reports are pushed, before the send is answered.",
            vec![],
        ),
        kind(
            "log_lag",
            SENDS,
            "Messages are in the logs later.",
            vec![parameter("ms", "integer", "Virtual milliseconds.").required()],
        ),
        kind(
            "forget_ids",
            SENDS,
            "Message ids that were used before are accepted again.",
            vec![],
        ),
    ];
    let every = [
        parameter("probability", "number", "Probability that it applies.")
            .or(1.0)
            .within(0.0, 1.0),
        parameter(
            "count",
            "integer",
            "How often it applies; without it, without end.",
        ),
        parameter("path", "string", "A prefix of the paths that it is for."),
    ];
    json_response(&json!({"kinds": kinds, "parameters": every}))
}
