//! Commands that expire while they wait for a request.

use std::time::Duration;

use jiff::SignedDuration;
use lapin::BasicProperties;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::custody::{SEND_PATH, Setup};
use crate::support::{broker::TestBroker, eventually, relay::relay_with};

const EXPIRED: usize = 20;
const OLD: &str = "41793000003";
/// Each answer of the broker takes this long.
const DELAY: Duration = Duration::from_millis(250);

/// A relay that delays what the broker says. Returns its URL.
async fn delayed(broker: &TestBroker) -> String {
    relay_with(&broker.url, |client, server| async move {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let answers = async {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                tokio::time::sleep(DELAY).await;
                if to_client.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
            () = answers => {}
        }
    })
    .await
}

/// The results of the expired ones are stored beside the request, not before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_does_not_wait_for_the_results_of_expired_ones() {
    let broker = TestBroker::start().await;
    let url = delayed(&broker).await;
    let setup = Setup::start_on(broker, |config| {
        config.amqp.url = Some(url.into());
        config.infobip.request_timeout = Duration::from_secs(60);
        config.send.max_requests_in_flight = 1;
    })
    .await;
    setup
        .simulator
        .fault(json!({"kind": "latency", "ms": 4_000, "count": 1, "path": SEND_PATH}))
        .await;
    setup.publish_command(0).await;
    setup.sends_seen(1).await;
    let soon = (jiff::Timestamp::now() + SignedDuration::from_secs(3)).to_string();
    for n in 1..=EXPIRED {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(format!("r{n}").into());
        let command = json!({"message": {"from": "InfoSMS", "text": "Hello", "expiresAt": soon,
            "destinations": [{"to": format!("41793{n:06}")}]}});
        let commands = setup.broker.topology().commands();
        let body = command.to_string();
        setup
            .client
            .publish(&commands, "sms.send", properties, body.as_bytes())
            .await;
    }
    setup.publish_command(EXPIRED + 1).await;
    let sends = setup.sends_seen(2).await;
    let waited = sends[1].duration_since(sends[0]).unsigned_abs();
    // Four seconds for the first, whose result is stored then. Twenty results one after the other take five seconds more.
    assert!(
        waited < Duration::from_millis(4_000) + DELAY * 12,
        "{waited:?}"
    );
    eventually("all expired", async || {
        let rejected = setup.results("send.rejected").await;
        (rejected.len() == EXPIRED).then_some(())
    })
    .await;
    setup.accepted(2).await;
    setup.bridge.stop().await;
}

/// By `amqp.max_age`, from the time that its publisher tells. Without that setting only its own `expiration` or `expires_at` ends one.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_older_than_the_maximum_age_is_rejected() {
    for max_age in [Duration::ZERO, Duration::from_secs(3600)] {
        let setup = Setup::start(|config| config.amqp.max_age = max_age).await;
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap();
        let commands = setup.broker.topology().commands();
        let ages = [
            ("41793000001", Some(now)),
            ("41793000002", None),
            (OLD, Some(now - 7_200)),
        ];
        for (to, published) in ages {
            let mut properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_message_id(to.into());
            if let Some(at) = published {
                properties = properties.with_timestamp(at);
            }
            let command = json!({"message": {"from": "InfoSMS", "text": "Hello",
                "destinations": [{"to": to}]}});
            let body = command.to_string();
            setup
                .client
                .publish(&commands, "sms.send", properties, body.as_bytes())
                .await;
        }
        if max_age.is_zero() {
            setup.accepted(3).await;
        } else {
            assert!(!setup.accepted(2).await.contains_key(OLD));
            let rejected = eventually("the old one expired", async || {
                setup.results("send.rejected").await.remove(OLD)
            })
            .await;
            assert_eq!(rejected.refusal.unwrap().reason, "EXPIRED");
        }
        setup.bridge.stop().await;
    }
}
