//! List, show and discard; who may call.

use secrecy::SecretString;
use smsbridge::proto::v1::QuarantineSource;
use tonic::Code;

use super::*;
use crate::support::credentials::{refusal, refused, token_entry, with_token};

const UNKNOWN: &str = "0192f0c1-6e1f-7a53-a2a5-3c5be1d1a9f4";

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_listed_and_shown() {
    on_both_engines(async |engine| {
        let operated = Operated::start(engine, Vec::new()).await;
        assert_eq!(
            operated.push("reports", "<html>41793026727</html>").await,
            200
        );
        let clicks = r#"{"results":[{"messageId":"billing.a","url":"https://x.example"},7]}"#;
        assert_eq!(operated.push("clicks", clicks).await, 200);
        let path = "lookups?application=billing&request=r1";
        assert_eq!(operated.push(path, "{").await, 200);
        let get = operated.bridge.webhook("inbound") + "?from=41793026727&content=Hi";
        assert_eq!(reqwest::get(get).await.unwrap().status(), 200);

        let listed = operated.list().await;
        let shown: Vec<_> = listed
            .iter()
            .map(|one| {
                (
                    one.endpoint.as_str(),
                    one.source(),
                    one.is_row,
                    one.body_bytes,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("reports", QuarantineSource::Push, false, 24),
                ("clicks", QuarantineSource::Push, true, 1),
                ("lookups", QuarantineSource::Push, false, 1),
                ("inbound", QuarantineSource::Query, false, 27),
            ]
        );
        let now = jiff::Timestamp::now().as_second();
        for one in &listed {
            assert!(one.body.is_empty(), "{one:?}");
            assert!(
                !one.detail.is_empty() && !one.detail.contains("41793026727"),
                "{one:?}"
            );
            let at = one.time.as_ref().unwrap().seconds;
            assert!((now - 60..=now).contains(&at), "{one:?}");
        }
        assert_eq!(listed[2].application, "billing");
        assert_eq!(listed[3].content_type, "application/x-www-form-urlencoded");

        let bodies = [
            "<html>41793026727</html>",
            "7",
            "{",
            "from=41793026727&content=Hi",
        ];
        for (listed, expected) in listed.iter().zip(bodies) {
            let whole = operated.get(&listed.id).await;
            assert_eq!(whole.body, expected.as_bytes());
            let without = v1::QuarantinedBody {
                body: Vec::new().into(),
                ..whole
            };
            assert_eq!(without, *listed);
        }
        assert_eq!(operated.list().await, listed, "they stay");
        operated.bridge.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_listed_in_pages() {
    on_both_engines(async |engine| {
        let seeds = (0..7).map(|_| body(origin("reports", Source::Push), "?"));
        let seeds: Vec<_> = seeds.collect();
        let expected: Vec<_> = seeds.iter().map(|seed| seed.id.to_string()).collect();
        let operated = Operated::start(engine, seeds).await;
        let mut admin = operated.admin.clone();
        let mut request = v1::ListQuarantinedRequest {
            limit: 3,
            ..Default::default()
        };
        let mut found = Vec::new();
        loop {
            let page = admin
                .list_quarantined(request.clone())
                .await
                .unwrap()
                .into_inner();
            assert!(page.bodies.len() <= 3);
            found.extend(ids(&page.bodies));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(found, expected);

        for request in [
            v1::ListQuarantinedRequest {
                limit: -1,
                ..Default::default()
            },
            v1::ListQuarantinedRequest {
                limit: 1001,
                ..Default::default()
            },
            v1::ListQuarantinedRequest {
                page_token: "?".into(),
                ..Default::default()
            },
        ] {
            let refused_list = refusal(admin.list_quarantined(request).await);
            assert_eq!(
                refused_list,
                refused(Code::InvalidArgument, "INVALID_REQUEST")
            );
        }
        operated.bridge.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_discarded_by_ids_or_all() {
    on_both_engines(async |engine| {
        let seeds: Vec<_> = (0..5)
            .map(|n| body(origin("reports", Source::Push), &report(&format!("m{n}"))))
            .collect();
        let operated = Operated::start(engine, seeds).await;
        let listed = ids(&operated.list().await);
        let chosen = vec![
            listed[1].clone(),
            UNKNOWN.into(),
            "17".into(),
            listed[3].clone(),
        ];
        let discarded = operated.discard(chosen.clone(), false).await;
        assert_eq!(
            (discarded.count, discarded.not_found, discarded.incomplete),
            (2, vec![UNKNOWN.to_owned(), "17".to_owned()], false)
        );
        assert_eq!(discarded.incomplete_detail, "");
        let left = ids(&operated.list().await);
        assert_eq!(left, [0, 2, 4].map(|index: usize| listed[index].clone()));

        let mut admin = operated.admin.clone();
        for request in [
            v1::DiscardQuarantinedRequest::default(),
            v1::DiscardQuarantinedRequest {
                ids: left.clone(),
                all: true,
            },
            v1::DiscardQuarantinedRequest {
                ids: vec!["x".into(); 1001],
                all: false,
            },
        ] {
            let answer = refusal(admin.discard_quarantined(request).await);
            assert_eq!(answer, refused(Code::InvalidArgument, "INVALID_REQUEST"));
        }
        assert_eq!(operated.discard(Vec::new(), true).await.count, 3);
        assert!(operated.list().await.is_empty());
        for id in [&*listed[0], UNKNOWN, "17"] {
            let get = v1::GetQuarantinedRequest { id: id.into() };
            let answer = refusal(admin.get_quarantined(get).await);
            assert_eq!(answer, refused(Code::NotFound, "QUARANTINED_NOT_FOUND"));
        }
        let get = v1::GetQuarantinedRequest::default();
        let answer = refusal(admin.get_quarantined(get).await);
        assert_eq!(answer, refused(Code::InvalidArgument, "INVALID_REQUEST"));
        assert!(operated.bridge.all_events().await.is_empty());
        operated.bridge.stop().await;
    })
    .await;
}

/// A quarantined body belongs to no application.
#[tokio::test(flavor = "multi_thread")]
async fn only_who_sees_all_applications_sees_the_quarantine() {
    let folder = tempfile::tempdir().unwrap();
    let (operator, tenant) = ("operator-token-0001", "tenant-token-000002");
    let (operator, tenant) = (SecretString::from(operator), SecretString::from(tenant));
    let methods = "methods = [\"smsbridge.v1.AdminService/*\"]\n";
    let grant = format!("{methods}grants = [\"all-applications\"]");
    let tokens = [
        token_entry("operator", &operator, "ops", &grant),
        token_entry("tenant", &tenant, "billing", methods),
    ];
    let file = folder.path().join("tokens.toml");
    std::fs::write(&file, tokens.concat()).unwrap();
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.grpc.tokens_file = Some(file);
    })
    .await;
    let client = reqwest::Client::new();
    let pushing = client.post(bridge.webhook("reports")).body("?");
    pushing.send().await.unwrap();
    let mut admin = Admin::new(bridge.channel.clone());
    let list = v1::ListQuarantinedRequest::default;
    let listed = admin.list_quarantined(with_token(list(), &operator)).await;
    let id = listed.unwrap().into_inner().bodies.remove(0).id;

    let get = v1::GetQuarantinedRequest { id: id.clone() };
    let replay = v1::ReplayQuarantinedRequest::default();
    let discard = v1::DiscardQuarantinedRequest {
        ids: vec![id.clone()],
        all: false,
    };
    let answers = [
        refusal(admin.list_quarantined(with_token(list(), &tenant)).await),
        refusal(admin.get_quarantined(with_token(get, &tenant)).await),
        refusal(admin.replay_quarantined(with_token(replay, &tenant)).await),
        refusal(
            admin
                .discard_quarantined(with_token(discard, &tenant))
                .await,
        ),
    ];
    for answer in answers {
        assert_eq!(
            answer,
            refused(Code::PermissionDenied, "METHOD_NOT_ALLOWED")
        );
    }
    let listed = admin.list_quarantined(with_token(list(), &operator)).await;
    assert_eq!(ids(&listed.unwrap().into_inner().bodies), [id]);
    bridge.stop().await;
}
