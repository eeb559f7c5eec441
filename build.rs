//! Compiles `proto/` with protox (no protoc on the machine) into prost messages, tonic services, proto JSON and the
//! descriptor set that reflection serves.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

/// Every file of the contract, below `proto/`.
const FILES: [&str; 10] = [
    "smsbridge/v1/account_service.proto",
    "smsbridge/v1/admin_service.proto",
    "smsbridge/v1/code.proto",
    "smsbridge/v1/event_service.proto",
    "smsbridge/v1/inbox_service.proto",
    "smsbridge/v1/lookup_service.proto",
    "smsbridge/v1/message.proto",
    "smsbridge/v1/reference_service.proto",
    "smsbridge/v1/report_service.proto",
    "smsbridge/v1/sms_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(FILES)?;
    let descriptors = compiler.file_descriptor_set();
    let encoded = descriptors.encode_to_vec();
    fs::write(out.join("smsbridge_descriptors.bin"), &encoded)?;

    tonic_prost_build::configure()
        .compile_well_known_types(true)
        .extern_path(".google.protobuf", "::pbjson_types")
        .extern_path(".google.protobuf.Timestamp", "crate::proto::Timestamp")
        .bytes(".")
        .codec_path("crate::proto::codec::LeanCodec")
        // An event has the size of its own fields, not of the largest thing that can be in it.
        .boxed(".smsbridge.v1.Event.payload")
        // Nor have messages and results that of what few of them have.
        .boxed(".smsbridge.v1.OutboundMessage.language")
        .boxed(".smsbridge.v1.OutboundMessage.delivery_time_window")
        .boxed(".smsbridge.v1.OutboundMessage.regional")
        .boxed(".smsbridge.v1.SendSmsRequest.tracking")
        .boxed(".smsbridge.v1.SendSmsBulkRequest.tracking")
        .boxed(".smsbridge.v1.SendResult.refusal")
        .boxed(".smsbridge.v1.NumberLookup.refusal")
        .compile_fds(descriptors)?;

    pbjson_build::Builder::new()
        .register_descriptors(&encoded)?
        .build(&[".smsbridge.v1"])?;
    Ok(())
}
