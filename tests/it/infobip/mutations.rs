//! Mutates the bodies of pushes and pulls as a whole: fields missing, null, of another type, with unknown codes, reordered, and rows
//! nested otherwise. No row is lost, none is invented, nothing panics. `client.rs` mutates single bytes.

use proptest::prelude::*;
use serde_json::{Value, json};
use smsbridge::{
    events::NewEvent,
    infobip::wire::{self, Rows, UnreadableBody},
    message::{applications::Applications, id::ApplicationName},
};

/// A kind of body: the fields of its rows, and its reader.
#[derive(Debug, Clone, Copy)]
struct Kind {
    row: fn(usize) -> Value,
    /// Marks the row; the other fields that make a row readable without it.
    id: &'static str,
    instead: &'static [&'static str],
    read: fn(&[u8]) -> Result<Found, UnreadableBody>,
}

/// What a reader found: the id and the source of each row, and the rows for the quarantine.
struct Found {
    rows: Vec<(String, String)>,
    bad: Vec<String>,
}

/// Makes the event of each row, too.
fn found<T>(
    read: Result<Rows<T>, UnreadableBody>,
    of: impl Fn(T) -> (String, NewEvent),
) -> Result<Found, UnreadableBody> {
    let rows = read?;
    Ok(Found {
        rows: rows
            .rows
            .into_iter()
            .map(|row| {
                let (id, event) = of(row);
                assert!(!event.event.id.is_empty());
                (id, event.event.source_payload)
            })
            .collect(),
        bad: rows.bad.into_iter().map(|bad| bad.payload).collect(),
    })
}

fn applications() -> Applications {
    Applications::new(std::iter::empty())
}

const KINDS: [Kind; 4] = [
    Kind {
        row: |n| {
            json!({"bulkId": "shop.b", "messageId": format!("shop.row-{n}-"), "to": "41791234567", "from": "Shop",
                "sentAt": "2016-03-09T08:15:30.250+0000", "doneAt": "2016-03-09T08:15:34.900+0100", "smsCount": 1,
                "mccMnc": "22802", "price": {"pricePerMessage": 0.02, "currency": "CHF"},
                "status": {"groupId": 3, "groupName": "DELIVERED", "id": 5, "name": "DELIVERED_TO_HANDSET"},
                "error": {"groupId": 0, "groupName": "OK", "id": 0, "name": "NO_ERROR", "permanent": false},
                "callbackData": "spring"})
        },
        id: "messageId",
        instead: &[],
        read: |body| {
            found(wire::read_reports(body), |row| {
                let id = row.wire_id;
                let event = NewEvent::report(&applications(), &id, row.report, row.source_payload);
                assert!(event.event.r#type.starts_with("report."));
                (id, event)
            })
        },
    },
    Kind {
        row: |n| {
            json!({"messageId": format!("row-{n}-"), "from": "41791234567", "to": "41790000000", "text": "JOIN now",
                "cleanText": "now", "keyword": "JOIN", "receivedAt": "2020-02-29T23:59:59.999+0000", "smsCount": 1,
                "price": {"pricePerMessage": 0, "currency": "EUR"}, "callbackData": {"a": [1]}})
        },
        id: "messageId",
        instead: &["from", "to", "text"],
        read: |body| {
            found(wire::read_inbox(body), |row| {
                let owner = ApplicationName::default_application();
                let id = row.received.message_id.clone();
                let event = NewEvent::received(&owner, row.received, row.source_payload);
                (id, event)
            })
        },
    },
    Kind {
        row: |n| {
            json!({"notificationType": "CLICKED", "recipient": "41791234567", "url": "https://example.com/?a=1&b=2",
                "sendDateTime": 1_583_020_800_123_i64, "messageId": format!("shop.row-{n}-"), "bulkId": "shop.b",
                "recipientInfo": {"deviceType": "Phone", "os": "iOS"}, "geoLocationInfo": {"city": "Chur"}})
        },
        id: "messageId",
        instead: &["recipient", "url"],
        read: |body| {
            found(wire::read_clicks(body), |row| {
                let id = row.wire_id;
                let event = NewEvent::click(&applications(), &id, row.click, row.source_payload);
                (id, event)
            })
        },
    },
    Kind {
        row: |n| {
            json!({"to": format!("row-{n}-"), "mccMnc": "22802", "imsi": "228021234567890", "ported": false,
                "originalNetwork": {"networkName": "Sunrise", "networkId": 11}, "roaming": true, "servingMSC": "41760",
                "status": {"groupId": 3, "id": 5}, "error": {"groupId": 0, "id": 0, "permanent": false}})
        },
        id: "to",
        instead: &[],
        read: |body| {
            found(wire::read_lookups(body), |row| {
                let id = row.lookup.to.clone();
                let event = NewEvent::lookup("shop", "request", row.lookup, row.source_payload);
                (id, event)
            })
        },
    },
];

#[derive(Debug, Clone)]
enum Mutation {
    Missing(prop::sample::Index),
    Replaced(prop::sample::Index, Value),
    UnknownCodes(i64),
    Rotated(prop::sample::Index),
    /// The row is the value of a field of another object.
    Wrapped,
    /// The row is a list of its values, without names.
    OnlyValues,
    /// The row is the only item of a list.
    WithinList,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let value = prop::sample::select(vec![
        Value::Null,
        json!(true),
        json!(-1),
        json!(1e300),
        json!(""),
        json!("x"),
        json!(" \u{fffd}\u{0}\u{1f600}"),
        json!([1, [2, {}], "results"]),
        json!({}),
        json!({"id": [], "groupId": {}, "name": null, "pricePerMessage": [], "networkName": {"x": 1}}),
        json!("18446744073709551616"),
        json!("0001-13-99T25:61:61.000+9900"),
    ]);
    let at = any::<prop::sample::Index>;
    prop_oneof![
        3 => at().prop_map(Mutation::Missing),
        5 => (at(), value).prop_map(|(at, value)| Mutation::Replaced(at, value)),
        1 => any::<i64>().prop_map(Mutation::UnknownCodes),
        2 => at().prop_map(Mutation::Rotated),
        1 => Just(Mutation::Wrapped),
        1 => Just(Mutation::OnlyValues),
        1 => Just(Mutation::WithinList),
    ]
}

/// A mutated row.
struct Row {
    fields: Vec<(String, Value)>,
    /// Around the fields.
    nesting: Vec<Mutation>,
}

impl Row {
    /// `marker` is a field that no reader knows and no mutation changes.
    fn new(kind: Kind, n: usize, mutations: &[Mutation]) -> Self {
        let Value::Object(fields) = (kind.row)(n) else {
            panic!("a row is an object")
        };
        let mut row = Self {
            fields: fields.into_iter().collect(),
            nesting: Vec::new(),
        };
        for mutation in mutations {
            let count = row.fields.len();
            match mutation {
                _ if count == 0 => {}
                Mutation::Missing(at) => drop(row.fields.remove(at.index(count))),
                Mutation::Replaced(at, value) => row.fields[at.index(count)].1 = value.clone(),
                Mutation::UnknownCodes(id) => {
                    for (name, value) in &mut row.fields {
                        if name == "status" || name == "error" {
                            *value = json!({"groupId": id, "groupName": "NEW", "id": id, "name": "NEW_CODE"});
                        }
                    }
                }
                Mutation::Rotated(at) => row.fields.rotate_left(at.index(count)),
                nesting => row.nesting.push(nesting.clone()),
            }
        }
        row.fields
            .push(("marker".to_owned(), format!("<{n}>").into()));
        row
    }

    fn field(&self, name: &str) -> Option<&Value> {
        let mut fields = self.fields.iter();
        fields.find(|field| field.0 == name).map(|field| &field.1)
    }

    /// Whether the row has to be an event: it is an object, and its own id is there.
    fn has_its_id(&self, kind: Kind) -> bool {
        let id = self.field(kind.id).and_then(Value::as_str);
        self.nesting.is_empty() && id.is_some_and(|id| id.contains("row-"))
    }

    /// Whether the row may be an event.
    fn may_be_read(&self, kind: Kind) -> bool {
        let is_scalar = |name: &&str| {
            let value = self.field(name);
            value.is_some_and(|value| !value.is_null() && !value.is_object() && !value.is_array())
        };
        self.nesting.is_empty() && (is_scalar(&kind.id) || kind.instead.iter().any(is_scalar))
    }

    fn json(&self) -> String {
        let fields = self.fields.iter();
        let fields = fields.map(|(name, value)| format!("{}:{value}", json!(name)));
        let mut text = format!("{{{}}}", fields.collect::<Vec<_>>().join(","));
        for nesting in &self.nesting {
            text = match nesting {
                Mutation::Wrapped => format!("{{\"report\":{text}}}"),
                Mutation::OnlyValues => {
                    let values = self.fields.iter().map(|(_, value)| value.to_string());
                    format!("[{}]", values.collect::<Vec<_>>().join(","))
                }
                _ => format!("[{text}]"),
            };
        }
        text
    }

    /// Its fields as elements.
    fn xml(&self) -> String {
        let fields = self.fields.iter();
        fields.map(|(name, value)| element(name, value)).collect()
    }
}

fn element(name: &str, value: &Value) -> String {
    let content = match value {
        Value::Null => return format!("<{name}/>"),
        Value::Array(items) => return items.iter().map(|item| element(name, item)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| element(name, value))
            .collect(),
        // XML has no NUL.
        Value::String(text) => text
            .replace('\0', "")
            .replace('&', "&amp;")
            .replace('<', "&lt;"),
        other => other.to_string(),
    };
    format!("<{name}>{content}</{name}>")
}

/// Each row is found once: as a row with its own id, or in what goes to the quarantine.
fn assert_complete(kind: Kind, rows: &[Row], body: &str, marker: impl Fn(usize) -> String) {
    let found = match (kind.read)(body.as_bytes()) {
        Ok(found) => found,
        // The whole body goes to the quarantine.
        Err(_) => {
            let lost = rows.iter().any(|row| row.has_its_id(kind));
            assert!(!lost, "{body}");
            return;
        }
    };
    let ids_in_order: Vec<_> = found.rows.iter().map(|(_, source)| source).collect();
    let mut last = None;
    for (n, row) in rows.iter().enumerate() {
        let marker = marker(n);
        let as_row: Vec<_> = (0..ids_in_order.len())
            .filter(|at| ids_in_order[*at].contains(&marker))
            .collect();
        let as_bad = found.bad.iter().filter(|bad| bad.contains(&marker)).count();
        assert_eq!(as_row.len() + as_bad, 1, "row {n} of {body}");
        if row.has_its_id(kind) {
            let id = row.field(kind.id).and_then(Value::as_str).unwrap();
            assert_eq!(as_row.len(), 1, "row {n} of {body}");
            assert_eq!(found.rows[as_row[0]].0, id, "{body}");
        }
        if let Some(at) = as_row.first() {
            assert!(row.may_be_read(kind), "row {n} of {body}");
            assert!(last < Some(*at), "the rows of {body} are in another order");
            last = Some(*at);
        }
    }
    assert_eq!(found.rows.len() + found.bad.len(), rows.len(), "{body}");
}

fn rows() -> impl Strategy<Value = (Kind, Vec<Row>)> {
    let mutations = prop::collection::vec(mutation(), 0..4);
    let rows = prop::collection::vec(mutations, 1..6);
    (prop::sample::select(KINDS.to_vec()), rows).prop_map(|(kind, mutations)| {
        let rows = mutations.iter().enumerate();
        let rows = rows.map(|(n, mutations)| Row::new(kind, n, mutations));
        (kind, rows.collect())
    })
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.json())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_row_of_mutated_json_is_lost_or_invented((kind, rows) in rows(), layout in 0_usize..6) {
        let texts: Vec<_> = rows.iter().map(Row::json).collect();
        let list = texts.join(" ,\n");
        let body = match layout {
            0 => format!("{{\"results\":[{list}],\"messageCount\":{}}}", rows.len()),
            1 => format!("{{\"pendingMessageCount\":null,\"unknown\":[[{{}}]],\"results\":[{list}]}}"),
            2 => format!("[{list}]"),
            3 => format!("{{\"results\":{{\"result\":[{list}]}}}}"),
            4 => format!("{{\"results\":{{\"results\":[{list}]}}}}"),
            // Truncated after the last row.
            _ => format!("\u{feff}{{\"results\":[{list}"),
        };
        assert_complete(kind, &rows, &body, |n| format!("<{n}>"));
    }

    #[test]
    fn no_row_of_mutated_xml_is_lost_or_invented((kind, rows) in rows(), layout in 0_usize..4) {
        let rows: Vec<_> = rows.into_iter().map(|row| Row { nesting: Vec::new(), ..row }).collect();
        let each = |tag: &str| -> String {
            rows.iter().map(|row| format!("<{tag}>{}</{tag}>\n", row.xml())).collect()
        };
        let body = match layout {
            0 => format!("<?xml version=\"1.0\"?><reportResponse><results>{}</results></reportResponse>", each("result")),
            1 => format!("<x><results>{}</results></x>", each("results")),
            2 => format!("<reportResponse>{}</reportResponse>", each("results")),
            _ => format!("<reportResponse>{}</reportResponse>", each("result")),
        };
        assert_complete(kind, &rows, &body, |n| format!("<{n}>"));
    }
}
