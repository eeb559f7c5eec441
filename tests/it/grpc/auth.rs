//! Authentication of gRPC callers by tokens and certificates, quotas, and callers without authentication.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{ExtendedKeyUsagePurpose, KeyPair};
use secrecy::SecretString;
use smsbridge::{
    config::{Application, tokens::new_token},
    grpc::auth::APPLICATION_METADATA,
    proto::v1::{
        Event, ListDeadLettersRequest, ListStatusesRequest, Outcome, StreamEventsRequest,
        StreamSmsRequest, admin_service_client::AdminServiceClient,
        event_service_client::EventServiceClient, reference_service_client::ReferenceServiceClient,
        sms_service_client::SmsServiceClient, stream_events_request::Start,
    },
};
use tempfile::TempDir;
use tonic::{
    Code, Request, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};
use tonic_types::StatusExt as _;

use crate::support::{
    authority::Authority,
    bridge::{TestBridge, text_with_id},
    credentials::{refusal, refused, token_entry, with_metadata, with_token},
    eventually,
    simulator::TestSimulator,
};

/// `ListStatuses`, the cheapest method.
async fn call(channel: &Channel, request: Request<ListStatusesRequest>) -> Result<(), Status> {
    ReferenceServiceClient::new(channel.clone())
        .list_statuses(request)
        .await
        .map(|_| ())
}

async fn call_with(channel: &Channel, token: &SecretString) -> Result<(), Status> {
    call(channel, with_token(ListStatusesRequest {}, token)).await
}

/// All events that the caller can see.
async fn events(
    channel: &Channel,
    request: impl FnOnce(StreamEventsRequest) -> Request<StreamEventsRequest>,
) -> Vec<Event> {
    let mut stream = EventServiceClient::new(channel.clone())
        .stream_events(request(StreamEventsRequest {
            start: Some(Start::Since(smsbridge::proto::Timestamp::default())),
            end_at_head: true,
            ..Default::default()
        }))
        .await
        .unwrap()
        .into_inner();
    let mut events = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        events.push(response.event.unwrap());
    }
    events
}

fn write(folder: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

#[tokio::test]
async fn a_token_determines_the_application_and_allowed_methods() {
    let simulator = TestSimulator::start().await;
    let folder = TempDir::new().unwrap();
    let [billing, other, reader, root, stranger] = std::array::from_fn(|_| new_token());
    let only = "methods = [\"smsbridge.v1.ReferenceService/ListStatuses\"]";
    let all = "methods = [\"*\"]\ngrants = [\"all-applications\"]";
    let tokens = token_entry("billing", &billing, "billing", "")
        + &token_entry("other", &other, "other", "")
        + &token_entry("reader", &reader, "billing", only)
        + &token_entry("root", &root, "ops", all);
    let path = write(&folder, "tokens.toml", &tokens);
    let bridge = TestBridge::with(&simulator, |config| config.grpc.tokens_file = Some(path)).await;
    let channel = &bridge.channel;
    let mut sms = SmsServiceClient::new(channel.clone());
    let message = || text_with_id("r-1", &["41793026727"]);

    assert_eq!(
        refusal(sms.send_sms(message()).await),
        refused(Code::Unauthenticated, "CREDENTIALS_MISSING")
    );
    let invalid = refused(Code::Unauthenticated, "CREDENTIALS_INVALID");
    let unknown = with_token(message(), &stranger);
    assert_eq!(refusal(sms.send_sms(unknown).await), invalid);
    let basic = with_metadata(message(), "authorization", "Basic dTpw");
    assert_eq!(refusal(sms.send_sms(basic).await), invalid);
    let not_allowed = refused(Code::PermissionDenied, "METHOD_NOT_ALLOWED");
    let not_its_method = with_token(message(), &reader);
    assert_eq!(refusal(sms.send_sms(not_its_method).await), not_allowed);
    assert!(simulator.messages().await.is_empty(), "nothing was sent");

    sms.send_sms(with_token(message(), &billing)).await.unwrap();
    call_with(channel, &reader).await.unwrap();

    // Which callers see the event of the send.
    for (token, sees_it) in [(&billing, true), (&other, false), (&root, true)] {
        let seen = events(channel, |request| with_token(request, token)).await;
        let seen = seen.iter().find(|event| event.request_id == "r-1");
        assert_eq!(seen.is_some(), sees_it);
        assert!(seen.is_none_or(|event| event.application == "billing"));
    }

    // The token has to name the methods of the admin service.
    let mut admin = AdminServiceClient::new(channel.clone());
    let list = ListDeadLettersRequest::default;
    let denied = admin.list_dead_letters(with_token(list(), &billing)).await;
    assert_eq!(refusal(denied), not_allowed);
    let let_through = admin.list_dead_letters(with_token(list(), &root)).await;
    let code = let_through.map_or_else(|status| status.code(), |_| Code::Ok);
    assert!(
        !matches!(code, Code::PermissionDenied | Code::Unauthenticated),
        "{code:?}"
    );
    bridge.stop().await;
}

#[tokio::test]
async fn health_needs_no_token_and_reflection_needs_any_token() {
    let simulator = TestSimulator::start().await;
    let folder = TempDir::new().unwrap();
    let token = new_token();
    let tokens = token_entry("a", &token, "billing", "methods = []");
    let path = write(&folder, "tokens.toml", &tokens);
    let bridge = TestBridge::with(&simulator, |config| config.grpc.tokens_file = Some(path)).await;
    let channel = &bridge.channel;
    HealthClient::new(channel.clone())
        .check(HealthCheckRequest::default())
        .await
        .unwrap();
    let ask = || {
        tokio_stream::iter([ServerReflectionRequest {
            message_request: Some(MessageRequest::ListServices(String::new())),
            ..Default::default()
        }])
    };
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let without = reflection.server_reflection_info(ask()).await;
    assert_eq!(
        refusal(without),
        refused(Code::Unauthenticated, "CREDENTIALS_MISSING")
    );
    let answers = reflection
        .server_reflection_info(with_token(ask(), &token))
        .await
        .unwrap();
    assert!(answers.into_inner().message().await.unwrap().is_some());
    bridge.stop().await;
}

#[tokio::test]
async fn a_changed_tokens_file_is_reloaded_and_a_broken_one_is_ignored() {
    let simulator = TestSimulator::start().await;
    let folder = TempDir::new().unwrap();
    let [old, new] = std::array::from_fn(|_| new_token());
    let path = write(
        &folder,
        "tokens.toml",
        &token_entry("old", &old, "billing", ""),
    );
    let tokens_file = path.clone();
    let bridge = TestBridge::with(&simulator, |config| {
        config.grpc.tokens_file = Some(tokens_file);
    })
    .await;
    let channel = &bridge.channel;
    call_with(channel, &old).await.unwrap();
    assert!(call_with(channel, &new).await.is_err());

    replace(&path, &token_entry("new", &new, "billing", ""));
    eventually("the new token is valid", || async {
        call_with(channel, &new).await.ok()
    })
    .await;
    assert_eq!(
        refusal(call_with(channel, &old).await),
        refused(Code::Unauthenticated, "CREDENTIALS_INVALID")
    );

    // A broken file changes nothing, and the next valid file is loaded.
    replace(&path, "[[token]]\nname = ");
    eventually("the broken file is read", async || {
        let series = r#"smsbridge_reload_failures_total{files="tokens"}"#;
        let failures = bridge.metric(series).await.expect(series);
        call_with(channel, &new).await.unwrap();
        (failures >= 1.0).then_some(())
    })
    .await;
    call_with(channel, &new).await.unwrap();
    replace(&path, &token_entry("old", &old, "billing", ""));
    eventually("the old token is valid again", || async {
        call_with(channel, &old).await.ok()
    })
    .await;
    bridge.stop().await;
}

/// Replaces the file by a rename, as deployments do: a reader never sees half of it.
fn replace(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, content).unwrap();
    fs::rename(beside, path).unwrap();
}

#[tokio::test]
async fn quotas_apply_to_each_token_and_each_application() {
    let simulator = TestSimulator::start().await;
    let folder = TempDir::new().unwrap();
    let [slow, one, two] = std::array::from_fn(|_| new_token());
    let tokens = token_entry("slow", &slow, "billing", "calls_per_second = 2")
        + &token_entry("one", &one, "capped", "")
        + &token_entry("two", &two, "capped", "");
    let path = write(&folder, "tokens.toml", &tokens);
    let bridge = TestBridge::with(&simulator, |config| {
        config.grpc.tokens_file = Some(path);
        let capped = Application {
            calls_per_second: 1,
            ..Application::default()
        };
        config.applications.insert("capped".to_owned(), capped);
    })
    .await;
    let channel = &bridge.channel;
    for (tokens, whose) in [
        ([&slow, &slow, &slow], "the token `slow`"),
        ([&one, &two, &one], "the application `capped`"),
    ] {
        let mut denied = None;
        // Up to 50 calls, so that more than the quota arrive within one second on a slow machine too.
        for token in tokens.into_iter().cycle().take(50) {
            if let Err(status) = call_with(channel, token).await {
                denied = Some(status);
                break;
            }
        }
        let status = denied.expect("a call too many");
        assert!(status.message().contains(whose), "{status:?}");
        let wait = status
            .get_details_retry_info()
            .unwrap()
            .retry_delay
            .unwrap();
        assert!(!wait.is_zero() && wait.as_secs() <= 1, "{wait:?}");
        assert_eq!(
            wait.subsec_nanos() % 1_000_000,
            0,
            "whole milliseconds: {wait:?}"
        );
        let text = "is used up: calls_per_second is ";
        assert!(status.message().contains(text), "{status:?}");
        assert_eq!(
            refusal::<()>(Err(status)),
            refused(Code::ResourceExhausted, "QUOTA_EXCEEDED")
        );
        // The next call after this delay is admitted.
        tokio::time::sleep(wait).await;
        call_with(channel, tokens[0]).await.unwrap();
    }
    bridge.stop().await;
}

/// A stream cannot bypass a quota: messages above it wait, and none is refused.
#[tokio::test]
async fn messages_on_a_stream_count_against_the_call_quota() {
    const RATE: u32 = 10;
    const MESSAGES: u32 = 30;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        let capped = Application {
            calls_per_second: RATE,
            ..Application::default()
        };
        config.applications.insert("capped".to_owned(), capped);
    })
    .await;
    let messages = (0..MESSAGES).map(|n| StreamSmsRequest {
        correlation: n.to_string(),
        request: Some(text_with_id(&format!("r{n}"), &["41793026727"])),
    });
    let messages = tokio_stream::iter(messages);
    let begun = std::time::Instant::now();
    let mut answers = SmsServiceClient::new(bridge.channel.clone())
        .stream_sms(with_metadata(messages, APPLICATION_METADATA, "capped"))
        .await
        .unwrap()
        .into_inner();
    let mut accepted = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!(answer.results[0].outcome(), Outcome::Accepted, "{answer:?}");
        accepted += 1;
    }
    assert_eq!(accepted, MESSAGES);
    // The call itself and the messages of one second pass at once, the rest at the rate.
    let least = Duration::from_secs(1) * (MESSAGES - RATE) / RATE;
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
    bridge.stop().await;
}

#[tokio::test]
async fn without_authentication_callers_choose_their_application() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let channel = &bridge.channel;
    let mut sms = SmsServiceClient::new(channel.clone());
    for (id, application) in [("r-1", "billing"), ("r-2", "shop")] {
        let message = text_with_id(id, &["41793026727"]);
        let request = with_metadata(message, APPLICATION_METADATA, application);
        sms.send_sms(request).await.unwrap();
    }
    let mut applications: Vec<_> = events(channel, Request::new)
        .await
        .into_iter()
        .filter(|event| event.r#type == "send.accepted")
        .map(|event| event.application)
        .collect();
    applications.sort();
    assert_eq!(applications, ["billing", "shop"], "who names none sees all");
    let own = events(channel, |request| {
        with_metadata(request, APPLICATION_METADATA, "shop")
    })
    .await;
    assert!(!own.is_empty() && own.iter().all(|event| event.application == "shop"));
    let wrong = with_metadata(ListStatusesRequest {}, APPLICATION_METADATA, "Shop!");
    assert_eq!(
        refusal(call(channel, wrong).await),
        refused(Code::InvalidArgument, "INVALID_APPLICATION")
    );
    bridge.stop().await;
}

/// A TLS connection to the bridge.
fn tls_channel(
    bridge: &TestBridge,
    authority: &Authority,
    identity: Option<(String, String)>,
) -> Channel {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&authority.pem))
        .domain_name("localhost");
    if let Some((certificate, key)) = identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    Channel::from_shared(format!("https://{}", bridge.addresses.grpc))
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .connect_lazy()
}

/// The TLS files of a server: its certificate and its key, issued by the authority, and the authority for client certificates.
fn tls_files(folder: &TempDir, authority: &Authority) -> [PathBuf; 3] {
    let (certificate, key) = authority.issue("bridge", ExtendedKeyUsagePurpose::ServerAuth);
    [
        write(folder, "tls.crt", &certificate),
        write(folder, "tls.key", &key),
        write(folder, "ca.crt", &authority.pem),
    ]
}

/// A bridge that serves TLS and trusts the client certificates of the authority.
async fn tls_bridge(
    simulator: &TestSimulator,
    folder: &TempDir,
    authority: &Authority,
    tokens: Option<&str>,
) -> TestBridge {
    let [cert_file, key_file, ca_file] = tls_files(folder, authority);
    let tokens_file = tokens.map(|tokens| write(folder, "tokens.toml", tokens));
    TestBridge::with(simulator, |config| {
        config.grpc.tls_cert_file = Some(cert_file);
        config.grpc.tls_key_file = Some(key_file);
        config.grpc.tls_client_ca_file = Some(ca_file);
        config.grpc.tokens_file = tokens_file;
    })
    .await
}

#[tokio::test]
async fn a_client_certificate_determines_the_application() {
    let simulator = TestSimulator::start().await;
    let folder = TempDir::new().unwrap();
    let (authority, foreign) = (Authority::new(), Authority::new());
    let client = |authority: &Authority, name: &str| {
        Some(authority.issue(name, ExtendedKeyUsagePurpose::ClientAuth))
    };
    let bridge = tls_bridge(&simulator, &folder, &authority, None).await;
    let billing = tls_channel(&bridge, &authority, client(&authority, "billing"));
    SmsServiceClient::new(billing.clone())
        .send_sms(text_with_id("r-1", &["41793026727"]))
        .await
        .unwrap();
    let seen = events(&billing, Request::new).await;
    assert!(seen.iter().any(|event| event.request_id == "r-1"));
    assert!(seen.iter().all(|event| event.application == "billing"));
    let denied = AdminServiceClient::new(billing)
        .list_dead_letters(ListDeadLettersRequest::default())
        .await;
    assert_eq!(
        refusal(denied),
        refused(Code::PermissionDenied, "METHOD_NOT_ALLOWED")
    );
    let shop = tls_channel(&bridge, &authority, client(&authority, "shop"));
    assert!(events(&shop, Request::new).await.is_empty());

    let unnamed = tls_channel(
        &bridge,
        &authority,
        client(&authority, "Not An Application"),
    );
    assert_eq!(
        refusal(call(&unnamed, Request::new(ListStatusesRequest {})).await),
        refused(Code::Unauthenticated, "CREDENTIALS_INVALID")
    );
    let reserved = tls_channel(&bridge, &authority, client(&authority, "foreign"));
    assert_eq!(
        refusal(call(&reserved, Request::new(ListStatusesRequest {})).await),
        refused(Code::Unauthenticated, "CREDENTIALS_INVALID")
    );
    // The handshake fails without a client certificate of the authority.
    for identity in [None, client(&foreign, "billing")] {
        let stranger = tls_channel(&bridge, &authority, identity);
        let answer = call(&stranger, Request::new(ListStatusesRequest {})).await;
        let status = answer.unwrap_err();
        assert!(
            status.get_details_error_info().is_none(),
            "no answer of the bridge: {status:?}"
        );
        assert!(
            matches!(status.code(), Code::Unavailable | Code::Unknown),
            "{status:?}"
        );
    }
    bridge.stop().await;
}

#[tokio::test]
async fn renewed_certificates_are_served_without_a_restart() {
    let simulator = TestSimulator::start().await;
    let folder = TempDir::new().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    let client = |authority: &Authority| {
        Some(authority.issue("billing", ExtendedKeyUsagePurpose::ClientAuth))
    };
    let statuses = || Request::new(ListStatusesRequest {});
    let bridge = tls_bridge(&simulator, &folder, &old, None).await;
    let before = tls_channel(&bridge, &old, client(&old));
    call(&before, statuses()).await.unwrap();

    // The key does not belong to the certificate: the earlier files stay in use.
    write(
        &folder,
        "tls.key",
        &KeyPair::generate().unwrap().serialize_pem(),
    );
    tls_files(&folder, &new);
    eventually("the new files are used", async || {
        let after = tls_channel(&bridge, &new, client(&new));
        call(&after, statuses()).await.ok()
    })
    .await;
    call(&before, statuses())
        .await
        .expect("what is connected stays so");
    let late = tls_channel(&bridge, &old, client(&old));
    assert!(call(&late, statuses()).await.is_err());
    bridge.stop().await;
}

#[tokio::test]
async fn client_certificates_are_optional_if_tokens_are_configured() {
    let simulator = TestSimulator::start().await;
    let folder = TempDir::new().unwrap();
    let authority = Authority::new();
    let token = new_token();
    let tokens = token_entry("a", &token, "billing", "");
    let bridge = tls_bridge(&simulator, &folder, &authority, Some(&tokens)).await;
    let bare = tls_channel(&bridge, &authority, None);
    call_with(&bare, &token).await.unwrap();
    let without = call(&bare, Request::new(ListStatusesRequest {})).await;
    assert_eq!(
        refusal(without),
        refused(Code::Unauthenticated, "CREDENTIALS_MISSING")
    );
    let certified = |application: &str| {
        let identity = authority.issue(application, ExtendedKeyUsagePurpose::ClientAuth);
        tls_channel(&bridge, &authority, Some(identity))
    };
    let unknown = call(&certified("shop"), Request::new(ListStatusesRequest {})).await;
    assert_eq!(
        refusal(unknown),
        refused(Code::Unauthenticated, "CREDENTIALS_INVALID"),
        "a certificate makes no application exist beside those of tokens"
    );
    let certified = certified("billing");
    call(&certified, Request::new(ListStatusesRequest {}))
        .await
        .unwrap();
    assert!(
        call_with(&certified, &new_token()).await.is_err(),
        "a wrong token is not healed by a certificate"
    );
    bridge.stop().await;
}
