//! What reflection says about errors and packages: the details of a status, and the options for generated code.

use std::{collections::BTreeMap, path::Path};

use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use serde_json::json;
use smsbridge::proto;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::support::{
    bridge::TestBridge,
    external_programs::{GRPC_TOOLS, Python, end},
    simulator::TestSimulator,
};

#[tokio::test]
async fn reflection_knows_the_details_of_a_status() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let details = ["ErrorInfo", "BadRequest", "RetryInfo", "Status"];
    let requests = details.map(|name| ServerReflectionRequest {
        message_request: Some(MessageRequest::FileContainingSymbol(format!(
            "google.rpc.{name}"
        ))),
        ..Default::default()
    });
    let mut client = ServerReflectionClient::new(bridge.channel.clone());
    let requests = tokio_stream::iter(requests);
    let answers = client.server_reflection_info(requests).await.unwrap();
    let mut answers = answers.into_inner();
    for name in details {
        let answer = answers.message().await.unwrap().unwrap();
        let Some(MessageResponse::FileDescriptorResponse(files)) = answer.message_response else {
            panic!("{name}: {answer:?}")
        };
        let file = &files.file_descriptor_proto[0];
        let file = FileDescriptorProto::decode(file.as_slice()).unwrap();
        assert_eq!(file.package(), "google.rpc", "{name}");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn grpcurl_prints_the_details_of_a_status() {
    let requirements =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python/requirements.txt");
    let python = Python::with(&requirements, GRPC_TOOLS).await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let address = bridge.addresses.grpc.to_string();
    let send = async |body: serde_json::Value| {
        let mut command = python.program("grpcurl");
        command.args(["-plaintext", "-d", &body.to_string(), &address]);
        command.arg("smsbridge.v1.SmsService/SendSms");
        let ended = end(command).await;
        assert_ne!(ended.status, Some(0), "{ended:?}");
        ended.stdout + &ended.stderr
    };
    let printed = send(json!({"message": {"text": "Hello"}})).await;
    for expected in [
        "message.destinations is empty: give at least one destination",
        "INVALID_REQUEST",
        "fieldViolations",
    ] {
        assert!(printed.contains(expected), "{expected}: {printed}");
    }
    assert!(!printed.contains("@value"), "{printed}");

    // RetryInfo, too.
    let unavailable = json!({"kind": "status", "status": 404, "path": "/sms/1/text/advanced"});
    simulator.fault(unavailable).await;
    let hello = json!({"message": {"text": "Hello", "destinations": [{"to": "41793026727"}]}});
    let printed = send(hello).await;
    assert!(printed.contains("retryDelay"), "{printed}");
    assert!(!printed.contains("@value"), "{printed}");
    bridge.stop().await;
}

/// As buf's managed mode would set them.
#[test]
fn every_file_has_the_options_for_generated_code() {
    let set = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let files = set.file.iter();
    let files: Vec<_> = files
        .filter(|file| file.package() == "smsbridge.v1")
        .collect();
    assert_eq!(files.len(), 10);
    for file in files {
        let name = file.name().rsplit('/').next().unwrap();
        let options = file.options.clone().unwrap_or_default();
        let words = name.trim_end_matches(".proto").split('_');
        let class: String = words
            .map(|word| word[..1].to_uppercase() + &word[1..])
            .collect();
        assert_eq!(options.java_outer_classname(), format!("{class}Proto"));
        assert!(options.java_multiple_files(), "{name}");
        assert_eq!(
            [
                options.go_package(),
                options.java_package(),
                options.csharp_namespace(),
                options.objc_class_prefix(),
                options.php_namespace(),
                options.php_metadata_namespace(),
                options.ruby_package(),
            ],
            [
                "smsbridge/v1;smsbridgev1",
                "com.smsbridge.v1",
                "Smsbridge.V1",
                "SXX",
                "Smsbridge\\V1",
                "Smsbridge\\V1\\GPBMetadata",
                "Smsbridge::V1",
            ],
            "{name}"
        );
    }
}

/// The comment of each method, by `Service.Method`, with that of its service.
fn comments() -> BTreeMap<String, String> {
    const SERVICE: i32 = 6;
    const METHOD: i32 = 2;
    let set = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let mut comments = BTreeMap::new();
    for file in &set.file {
        let comment = |path: &[i32]| {
            let locations = file.source_code_info.iter().flat_map(|info| &info.location);
            let mut of_path = locations.filter(|location| location.path == path);
            of_path.next().map_or("", |one| one.leading_comments())
        };
        for (service_index, service) in (0..).zip(&file.service) {
            for (index, method) in (0..).zip(&service.method) {
                let of_service = comment(&[SERVICE, service_index]);
                let of_method = comment(&[SERVICE, service_index, METHOD, index]);
                let name = format!("{}.{}", service.name(), method.name());
                comments.insert(name, format!("{of_service}{of_method}"));
            }
        }
    }
    comments
}

/// Reflection is all that a remote caller has.
#[test]
fn methods_that_are_not_built_are_marked_in_the_contract() {
    let comments = comments();
    let unbuilt = comments.iter().filter(|(method, _)| {
        let is_built = method.contains("DeadLetter") || method.contains("Quarantined");
        method.starts_with("AdminService.") && !is_built
    });
    assert_eq!(unbuilt.clone().count(), 1);
    for (method, comment) in unbuilt {
        let marked = ["NOT_BUILT_YET", "Not built yet:"];
        assert!(
            marked.iter().all(|mark| comment.contains(mark)),
            "{method}: {comment}"
        );
    }
    let subscribe = &comments["EventService.Subscribe"];
    assert!(subscribe.contains("broker engine"), "{subscribe}");
    assert!(subscribe.contains("NOT_BUILT_YET"), "{subscribe}");
}
