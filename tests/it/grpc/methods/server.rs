//! Health, reflection, and methods that are not implemented.

use std::collections::BTreeSet;

use smsbridge::proto::v1::{self, admin_service_client::AdminServiceClient};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1 as reflection, v1alpha as reflection_alpha};

use super::{SERVICES, refusal};
use crate::support::{bridge::TestBridge, simulator::TestSimulator};

#[tokio::test]
async fn reconciliation_is_unimplemented() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut admin = AdminServiceClient::new(bridge.channel.clone());
    let answer = refusal(admin.reconcile(v1::ReconcileRequest::default()).await);
    assert_eq!(answer, (Code::Unimplemented, "NOT_BUILT_YET".into()));
    // The text names what works instead.
    let reconcile = v1::ReconcileRequest::default();
    let status = admin.reconcile(reconcile).await.unwrap_err();
    assert!(status.message().contains("ListSmsLogs"), "{status:?}");
}

#[tokio::test]
async fn there_are_no_dead_letters_without_a_broker() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut admin = AdminServiceClient::new(bridge.channel.clone());
    let list = v1::ListDeadLettersRequest::default();
    let get = v1::GetDeadLetterRequest::default();
    let replay = v1::ReplayDeadLettersRequest::default();
    let discard = v1::DiscardDeadLettersRequest::default();
    let answers = [
        refusal(admin.list_dead_letters(list).await),
        refusal(admin.get_dead_letter(get).await),
        refusal(admin.replay_dead_letters(replay).await),
        refusal(admin.discard_dead_letters(discard).await),
    ];
    for answer in answers {
        assert_eq!(answer, (Code::FailedPrecondition, "NOT_CONFIGURED".into()));
    }
}

#[tokio::test]
async fn every_service_is_healthy_and_found_by_reflection() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut health = HealthClient::new(bridge.channel.clone());
    // The admin service is implemented in part, and has no health.
    let built = SERVICES
        .iter()
        .copied()
        .filter(|one| !one.ends_with("AdminService"));
    for service in built.chain([""]) {
        let check = HealthCheckRequest {
            service: service.into(),
        };
        let said = health.check(check).await.unwrap().into_inner();
        assert_eq!(said.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = HealthCheckRequest {
        service: "smsbridge.v1.Nothing".into(),
    };
    assert_eq!(
        health.check(unknown).await.unwrap_err().code(),
        Code::NotFound
    );

    use reflection::server_reflection_request::MessageRequest;
    let ask = reflection::ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client =
        reflection::server_reflection_client::ServerReflectionClient::new(bridge.channel.clone());
    let mut answers = client
        .server_reflection_info(tokio_stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    use reflection::server_reflection_response::MessageResponse;
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let listed: BTreeSet<_> = list.service.into_iter().map(|one| one.name).collect();
    for service in SERVICES {
        assert!(listed.contains(service), "{service}: {listed:?}");
    }

    use reflection_alpha::server_reflection_request::MessageRequest as AlphaRequest;
    let ask = reflection_alpha::ServerReflectionRequest {
        message_request: Some(AlphaRequest::FileContainingSymbol(SERVICES[0].into())),
        ..Default::default()
    };
    let mut client = reflection_alpha::server_reflection_client::ServerReflectionClient::new(
        bridge.channel.clone(),
    );
    let mut answers = client
        .server_reflection_info(tokio_stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    use reflection_alpha::server_reflection_response::MessageResponse as AlphaResponse;
    let answer = answers.message().await.unwrap().unwrap();
    assert!(matches!(
        answer.message_response,
        Some(AlphaResponse::FileDescriptorResponse(_))
    ));
}
