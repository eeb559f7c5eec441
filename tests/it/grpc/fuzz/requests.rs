//! Calls of any method with any request, valid or not, generated from the descriptor set.

use std::sync::Arc;

use proptest::{
    prelude::*,
    sample::{Index, select},
    strategy::Union,
};
use prost_types::{
    FieldDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

use crate::support::wire::{Contract, Method, delimited, key, varint};

/// Maximum depth of a message.
const LEVELS: usize = 4;
/// Fields without which a call fails in its first check: they are present in most requests, other fields in few.
const NEEDED: &[&str] = &[
    "bulk_id",
    "destinations",
    "message",
    "message_id",
    "messages",
    "name",
    "numbers",
    "request",
    "start",
    "text",
    "to",
];

#[derive(Clone)]
pub struct Fuzzed {
    pub method: Method,
    pub headers: Vec<(&'static str, String)>,
    pub messages: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Fuzzed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let messages: Vec<_> = self.messages.iter().map(hex::encode).collect();
        write!(f, "{} {:?} {messages:?}", self.method.path, self.headers)
    }
}

/// Text that mostly passes the first checks, so that the code behind them is reached.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let sensible = select(
        &[
            "41793026727",
            "+41 79 302 67 27",
            "99901006123",
            "385911234567",
            "InfoSMS",
            "billing",
            "order-1",
            "order-1~0",
            "a.b",
            "send.accepted",
            "*.#",
            "URL",
            "en",
            "TR",
            "0",
            "-1",
            "2026-11-22T10:00:00Z",
            "00000000-0",
            "deadbeef-1",
            "http://127.0.0.1:9/x",
            "00DF",
            "0605040B8423F0",
            "../..",
            "a b",
            "\0",
            "ünïcode 😀 Ω",
        ][..],
    );
    prop_oneof![
        12 => sensible.prop_map(|text| text.as_bytes().to_vec()),
        2 => Just(Vec::new()),
        2 => any::<String>().prop_map(String::into_bytes),
        1 => (select(&["x", "1", "€"][..]), 1..3_000_usize).prop_map(|(text, times)| text.repeat(times).into_bytes()),
    ]
}

fn number() -> impl Strategy<Value = u64> {
    let of_a_field = select(
        &[
            0_i64,
            1,
            2,
            7,
            50,
            100,
            1_000,
            -1,
            1_790_000_000,
            999_999_999,
        ][..],
    );
    const EXTREMES: &[i64] = &[
        i64::MIN,
        i64::MAX,
        i32::MIN as i64,
        i32::MAX as i64,
        // Just outside the range of protobuf timestamps.
        -62_135_596_801,
        253_402_300_800,
    ];
    prop_oneof![
        6 => of_a_field.prop_map(i64::cast_unsigned),
        1 => select(EXTREMES).prop_map(i64::cast_unsigned),
        1 => any::<u64>(),
    ]
}

fn value(
    contract: &Arc<Contract>,
    field: &FieldDescriptorProto,
    levels: usize,
) -> BoxedStrategy<Vec<u8>> {
    let id = field.number();
    match field.r#type() {
        Type::String => text().prop_map(move |text| delimited(id, &text)).boxed(),
        Type::Bytes => prop::collection::vec(any::<u8>(), 0..200)
            .prop_map(move |bytes| delimited(id, &bytes))
            .boxed(),
        Type::Message | Type::Group => message(contract, field.type_name(), levels)
            .prop_map(move |inner| delimited(id, &inner))
            .boxed(),
        Type::Fixed32 | Type::Sfixed32 | Type::Float => any::<[u8; 4]>()
            .prop_map(move |bytes| [key(id, 5), bytes.to_vec()].concat())
            .boxed(),
        Type::Fixed64 | Type::Sfixed64 | Type::Double => any::<[u8; 8]>()
            .prop_map(move |bytes| [key(id, 1), bytes.to_vec()].concat())
            .boxed(),
        Type::Enum => {
            let named: Vec<_> = contract.enums[field.type_name()]
                .value
                .iter()
                .map(|value| i64::from(value.number()).cast_unsigned())
                .collect();
            let number = prop_oneof![5 => select(named), 1 => number()];
            number
                .prop_map(move |number| [key(id, 0), varint(number)].concat())
                .boxed()
        }
        Type::Bool => (0..2_u64)
            .prop_map(move |number| [key(id, 0), varint(number)].concat())
            .boxed(),
        Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 | Type::Sint32 | Type::Sint64 => {
            number()
                .prop_map(move |number| [key(id, 0), varint(number)].concat())
                .boxed()
        }
    }
}

/// A well-formed message of a type.
fn message(contract: &Arc<Contract>, name: &str, levels: usize) -> BoxedStrategy<Vec<u8>> {
    let fields = contract.messages[name].field.iter();
    let fields: Vec<_> = fields
        .filter(|field| levels > 0 || field.r#type() != Type::Message)
        .map(|field| {
            let mut value = value(contract, field, levels.saturating_sub(1));
            if matches!(field.name(), "to" | "numbers") {
                let number = delimited(field.number(), b"41793026727");
                value = prop_oneof![3 => Just(number), 1 => value].boxed();
            }
            let times = if field.label() == Label::Repeated {
                4
            } else {
                2
            };
            let is_there = if NEEDED.contains(&field.name()) {
                0.9
            } else {
                0.15
            };
            let values = prop::collection::vec(value, 1..times);
            prop::option::weighted(is_there, values).prop_map(Option::unwrap_or_default)
        })
        .collect();
    fields.prop_map(|fields| fields.concat().concat()).boxed()
}

/// In two cases of ten truncates the message, changes or inserts a byte, or replaces it by random bytes.
fn damaged(message: BoxedStrategy<Vec<u8>>) -> BoxedStrategy<Vec<u8>> {
    let damage = (message.clone(), any::<Index>(), any::<u8>(), 0..3).prop_map(
        |(mut bytes, at, byte, how)| {
            if bytes.is_empty() {
                return vec![byte];
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes.truncate(at),
                1 => bytes[at] = byte,
                _ => bytes.insert(at, byte),
            }
            bytes
        },
    );
    prop_oneof![
        8 => message,
        1 => damage,
        1 => prop::collection::vec(any::<u8>(), 0..100),
    ]
    .boxed()
}

pub fn calls(contract: &Arc<Contract>) -> impl Strategy<Value = Fuzzed> + use<> {
    let methods = contract.methods.iter().map(|method| {
        let method = method.clone();
        let most = if method.is_client_streaming { 6 } else { 2 };
        let request = damaged(message(contract, &method.request, LEVELS));
        let messages = prop::collection::vec(request, 1..most);
        let timeout = prop_oneof![6 => Just("15S"), 1 => select(&["0n", "1m", "30m", "99999999H", "-1S", "x"][..])];
        let application = prop_oneof![4 => Just("default"), 1 => select(&["billing", "", "No!"][..])];
        (messages, timeout, application).prop_map(move |(messages, timeout, application)| Fuzzed {
            method: method.clone(),
            headers: vec![("grpc-timeout", timeout.to_owned()), ("x-smsbridge-application", application.to_owned())],
            messages,
        })
    });
    Union::new(methods.map(Strategy::boxed))
}
