//! The contract as the descriptor set has it, and protobuf's wire format by hand: what no generated type would write.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};
use smsbridge::proto;

/// Every message and enum of the contract by its full name (`.package.Name`), and every method.
pub struct Contract {
    pub messages: BTreeMap<String, DescriptorProto>,
    pub enums: BTreeMap<String, EnumDescriptorProto>,
    pub methods: Vec<Method>,
}

#[derive(Debug, Clone)]
pub struct Method {
    /// `package.Service/Method`.
    pub path: String,
    /// The full name of its request.
    pub request: String,
    pub is_client_streaming: bool,
}

impl Contract {
    pub fn read() -> Self {
        let set = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
        let mut contract = Self {
            messages: BTreeMap::new(),
            enums: BTreeMap::new(),
            methods: Vec::new(),
        };
        for file in set.file {
            let package = file.package().to_owned();
            contract.add(&format!(".{package}"), file.message_type, file.enum_type);
            for service in file.service {
                for method in &service.method {
                    contract.methods.push(Method {
                        path: format!("{package}.{}/{}", service.name(), method.name()),
                        request: method.input_type().to_owned(),
                        is_client_streaming: method.client_streaming(),
                    });
                }
            }
        }
        assert!(
            contract.methods.len() > 20,
            "the descriptor set has the contract"
        );
        contract
    }

    fn add(
        &mut self,
        within: &str,
        messages: Vec<DescriptorProto>,
        enums: Vec<EnumDescriptorProto>,
    ) {
        for message in messages {
            let name = format!("{within}.{}", message.name());
            self.add(
                &name,
                message.nested_type.clone(),
                message.enum_type.clone(),
            );
            self.messages.insert(name, message);
        }
        for kind in enums {
            self.enums.insert(format!("{within}.{}", kind.name()), kind);
        }
    }
}

/// A number as protobuf writes it.
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A field's key.
pub fn key(number: i32, wire_type: u64) -> Vec<u8> {
    varint(u64::try_from(number).unwrap() << 3 | wire_type)
}

/// A field of bytes: a string, bytes or a message.
pub fn delimited(number: i32, content: &[u8]) -> Vec<u8> {
    let length = varint(u64::try_from(content.len()).unwrap());
    [key(number, 2), length, content.to_vec()].concat()
}
