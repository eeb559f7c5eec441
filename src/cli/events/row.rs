//! An event as a row of the table.

use crate::{
    cli::{codes, output::Column, time::show},
    events::filter::message_id,
    proto::v1::{Event, event::Payload},
};

pub(in crate::cli) const COLUMNS: &[Column] = &[
    Column::new("TIME").left_out(2),
    Column::new("TYPE").toned(),
    Column::new("APPLICATION").left_out(1),
    Column::new("MESSAGE ID"),
    Column::text("WHAT"),
];

pub(in crate::cli) fn row(event: &Event) -> Vec<String> {
    vec![
        show(event.time.as_ref()),
        event.r#type.clone(),
        event.application.clone(),
        message_id(event).unwrap_or("").to_owned(),
        summary(event),
    ]
}

/// The payload in one line.
fn summary(event: &Event) -> String {
    let joined = |parts: &[&str]| {
        parts
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join("  ")
    };
    match &event.payload {
        None => String::new(),
        Some(Payload::Result(result)) => joined(&[&result.to, &codes::reason(result)]),
        Some(Payload::Report(report)) => joined(&[
            &report.to,
            &codes::status(report.status.as_ref()),
            &codes::error(report.error.as_ref()),
        ]),
        Some(Payload::Received(message)) => joined(&[
            &format!("{} to {}", message.from, message.to),
            &codes::content(message),
        ]),
        Some(Payload::Click(click)) => joined(&[&click.recipient, &click.url]),
        Some(Payload::Lookup(lookup)) => joined(&[
            &lookup.to,
            &codes::status(lookup.status.as_ref()),
            &codes::network(lookup.original_network.as_ref()),
        ]),
        Some(Payload::InvalidCommand(invalid)) => {
            let detail = codes::with_violations(invalid.detail.clone(), &invalid.violations);
            joined(&[
                &event.request_id,
                &invalid.routing_key,
                &invalid.reason,
                &detail,
            ])
        }
    }
}
