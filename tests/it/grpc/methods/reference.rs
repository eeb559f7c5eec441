//! `ReferenceService` and `AccountService`.

use smsbridge::proto::v1::{
    self, ErrorGroup, StatusGroup, account_service_client::AccountServiceClient,
    reference_service_client::ReferenceServiceClient,
};

use crate::support::{bridge::TestBridge, simulator::TestSimulator};

#[tokio::test]
async fn the_code_tables_match_the_manual() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut reference = ReferenceServiceClient::new(bridge.channel.clone());
    let statuses = reference
        .list_statuses(v1::ListStatusesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((statuses.statuses.len(), statuses.groups.len()), (34, 6));
    let groups: Vec<_> = statuses
        .groups
        .iter()
        .map(|group| (group.id, group.name.as_str(), group.r#final))
        .collect();
    assert_eq!(
        groups,
        [
            (0, "ACCEPTED", false),
            (1, "PENDING", false),
            (2, "UNDELIVERABLE", true),
            (3, "DELIVERED", true),
            (4, "EXPIRED", true),
            (5, "REJECTED", true)
        ]
    );
    let group = &statuses.groups[3];
    assert_eq!(group.group(), StatusGroup::Delivered);
    assert!(!group.description.is_empty());
    let network = statuses.statuses.iter().find(|row| row.id == 6).unwrap();
    let expected = v1::Status {
        group_id: 5,
        group_name: "REJECTED".into(),
        id: 6,
        name: "REJECTED_NETWORK".into(),
        description: "Network is forbidden".into(),
        action: "Contact account manager".into(),
        group: StatusGroup::Rejected.into(),
    };
    assert_eq!(*network, expected);

    let errors = reference
        .list_errors(v1::ListErrorsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((errors.errors.len(), errors.groups.len()), (91, 4));
    let handset = &errors.groups[1];
    assert_eq!(
        (handset.id, handset.name.as_str(), handset.group()),
        (1, "HANDSET_ERRORS", ErrorGroup::Handset)
    );
    assert!(!handset.description.is_empty());
    let absent = errors.errors.iter().find(|row| row.id == 27).unwrap();
    let expected = v1::Error {
        group_id: 1,
        group_name: "HANDSET_ERRORS".into(),
        id: 27,
        name: "EC_ABSENT_SUBSCRIBER".into(),
        description: "Absent Subscriber".into(),
        action: String::new(),
        group: ErrorGroup::Handset.into(),
        permanent: false,
    };
    assert_eq!(*absent, expected);
}

#[tokio::test]
async fn the_balance_is_a_decimal_string() {
    let simulator = TestSimulator::with(|config| {
        config.balance_micros = 12_345_600;
        config.currency = "CHF".into();
    })
    .await;
    let bridge = TestBridge::start(&simulator).await;
    let balance = AccountServiceClient::new(bridge.channel.clone())
        .get_balance(v1::GetBalanceRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (balance.balance.as_str(), balance.currency.as_str()),
        ("12.3456", "CHF")
    );
}
