//! Commands that may have been sent: they are looked up before anything else is said of them, also by the process that gets them next
//! (docs/RELIABILITY.md#how-a-send-stays-single).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use smsbridge::config::Application;
use tonic_types::StatusExt as _;

use super::custody::{SEND_PATH, Setup};
use crate::support::{
    bridge::{LONG_AFTER, TestBridge, text_with_id},
    eventually,
    simulator::TestSimulator,
};

const TO: &str = "41793026727";
pub(super) const LOGS_PATH: &str = "/sms/1/logs";
pub(super) const IN_DOUBT: &str = "smsbridge-in-doubt";
const MAY_HAVE_TWIN: &str = "smsbridge-may-have-twin";

fn properties(request_id: &str) -> BasicProperties {
    let properties = BasicProperties::default().with_delivery_mode(2);
    if request_id.is_empty() {
        return properties;
    }
    properties.with_message_id(request_id.into())
}

/// A command with a header that the bridge sets on copies.
pub(super) fn marked(request_id: &str, header: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(header.into(), AMQPValue::Boolean(true));
    properties(request_id).with_headers(headers)
}

fn command(fields: Value) -> Value {
    let mut message = json!({"from": "InfoSMS", "text": "Hello", "destinations": [{"to": TO}]});
    for (name, value) in fields.as_object().unwrap() {
        message[name] = value.clone();
    }
    json!({ "message": message })
}

fn hours_ago(hours: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(hours)
}

fn has_header(delivery: &Delivery, name: &str) -> bool {
    let headers = delivery.properties.headers().as_ref();
    headers.is_some_and(|headers| headers.contains_key(name))
}

/// An earlier process sent the message with this id.
pub(super) async fn sent_before(api: &TestSimulator, message_id: &str) {
    let sent = json!({"from": "InfoSMS", "text": "Hello",
        "destinations": [{"to": TO, "messageId": format!("default.{message_id}")}]});
    api.send(sent).await;
}

impl Setup {
    async fn publish_to(
        &self,
        exchange: &str,
        key: &str,
        properties: BasicProperties,
        body: &Value,
    ) {
        let body = body.to_string();
        self.client
            .publish(exchange, key, properties, body.as_bytes())
            .await;
    }

    async fn publish_sms(&self, properties: BasicProperties, fields: Value) {
        let commands = self.broker.topology().commands();
        self.publish_to(&commands, "sms.send", properties, &command(fields))
            .await;
    }

    /// The API accepts the next message and does not answer, forgets its id, and its logs are down.
    async fn lose_the_next_response(&self) {
        for fault in [
            json!({"kind": "accept_then_drop", "count": 1, "path": SEND_PATH}),
            json!({"kind": "status", "status": 503, "path": LOGS_PATH}),
            json!({"kind": "forget_ids"}),
        ] {
            self.simulator.fault(fault).await;
        }
    }

    pub(super) async fn await_look_up(&self) {
        eventually("it is looked up", async || {
            let paths = self.simulator.paths().await;
            paths.iter().any(|path| path == LOGS_PATH).then_some(())
        })
        .await;
    }

    async fn sent_before(&self, message_id: &str) {
        sent_before(&self.simulator, message_id).await;
    }

    /// The reason of the rejection of the only result.
    async fn rejection(&self) -> String {
        let rejected = eventually("it is rejected", async || {
            let rejected = self.results("send.rejected").await;
            (!rejected.is_empty()).then_some(rejected)
        })
        .await;
        let refusal = rejected[TO].refusal.as_ref();
        refusal.unwrap().reason.clone()
    }

    /// The only command was accepted, and nothing else was said of it.
    async fn assert_accepted(&self) {
        self.accepted(1).await;
        for other in ["send.rejected", "send.unknown", "command.invalid"] {
            assert!(self.results(other).await.is_empty(), "{other}");
        }
        self.assert_delivered_once(1).await;
    }

    /// Replaces the bridge by another process.
    async fn replaced(self) -> Self {
        self.bridge.stop().await;
        self.simulator.heal().await;
        self.simulator.fault(json!({"kind": "forget_ids"})).await;
        let bridge = TestBridge::with(&self.simulator, |config| {
            config.amqp = self.broker.config();
            config.infobip.request_timeout = Duration::from_secs(1);
            config.infobip.log_requests_per_minute = 100_000;
        })
        .await;
        Self { bridge, ..self }
    }
}

/// The next process looks it up. Without a request id, by the message id that it was sent with.
async fn goes_back_at_a_shutdown(request_id: &str) {
    let setup = Setup::start(|config| config.shutdown.grace = LONG_AFTER).await;
    setup.lose_the_next_response().await;
    setup.publish_sms(properties(request_id), json!({})).await;
    setup.await_look_up().await;
    let setup = setup.replaced().await;
    setup.assert_accepted().await;
    setup.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_doubt_at_a_shutdown_is_looked_up_by_the_next_process() {
    goes_back_at_a_shutdown("r1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_doubt_without_a_request_id_is_looked_up_by_the_next_process() {
    goes_back_at_a_shutdown("").await;
}

/// "Not found" counts only after a request timeout. A shutdown before that says nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_command_goes_back_marked_at_a_shutdown() {
    let setup = Setup::start(|config| {
        config.infobip.request_timeout = LONG_AFTER;
        config.send.in_doubt_for = 2 * LONG_AFTER;
        config.shutdown.grace = LONG_AFTER;
    })
    .await;
    setup.publish_sms(marked("r1", IN_DOUBT), json!({})).await;
    setup.await_look_up().await;
    setup.bridge.stop().await;
    let queue = setup.broker.topology().send_normal();
    let back = setup.client.take(&queue).await;
    assert!(!back.redelivered);
    assert!(has_header(&back, IN_DOUBT));
}

/// A caller's look-up is under way for longer than the test; the request of a command ends with this fault after the shutdown began.
async fn goes_back_behind_a_callers_look_up(fault: Value) -> Delivery {
    let setup = Setup::start(|config| {
        config.infobip.request_timeout = LONG_AFTER;
        config.send.in_doubt_for = 2 * LONG_AFTER;
        config.shutdown.grace = LONG_AFTER;
    })
    .await;
    let a_long_time = u64::try_from(LONG_AFTER.as_millis()).unwrap();
    for fault in [
        json!({"kind": "latency", "ms": a_long_time, "path": LOGS_PATH}),
        json!({"kind": "reset", "count": 1, "path": SEND_PATH}),
    ] {
        setup.simulator.fault(fault).await;
    }
    let mut sms = setup.bridge.sms();
    let calling = tokio::spawn(async move { sms.send_sms(text_with_id("call", &[TO])).await });
    setup.await_look_up().await;
    for fault in [
        json!({"kind": "latency", "ms": 2_000, "count": 1, "path": SEND_PATH}),
        fault,
    ] {
        setup.simulator.fault(fault).await;
    }
    setup.publish_sms(properties("r1"), json!({})).await;
    setup.sends_seen(2).await;
    let stopping = tokio::spawn(setup.bridge.stop());
    let queue = setup.broker.topology().send_normal();
    let back = setup.client.take(&queue).await;
    assert!(!back.redelivered && !calling.is_finished() && !stopping.is_finished());
    back
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_comes_into_doubt_in_a_shutdown_does_not_wait_for_a_callers_look_up() {
    let reset = json!({"kind": "reset", "path": SEND_PATH});
    let back = goes_back_behind_a_callers_look_up(reset).await;
    assert!(has_header(&back, IN_DOUBT));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_refused_with_429_in_a_shutdown_does_not_wait_for_a_callers_look_up() {
    let refused = json!({"kind": "status", "status": 429, "path": SEND_PATH});
    let back = goes_back_behind_a_callers_look_up(refused).await;
    assert!(!has_header(&back, IN_DOUBT));
}

/// In a long outage of the logs the broker would close the channel and deliver it again; without a request id it would be `unknown`.
async fn is_handed_back_in_an_outage(request_id: &str) {
    let setup = Setup::start(|config| config.amqp.hold_for = Duration::from_secs(2)).await;
    setup.lose_the_next_response().await;
    setup.publish_sms(properties(request_id), json!({})).await;
    let retry = format!("{}.retry.60s", setup.broker.prefix);
    let copy = setup.client.take(&retry).await;
    assert!(has_header(&copy, IN_DOUBT));
    setup.simulator.heal().await;
    setup.simulator.fault(json!({"kind": "forget_ids"})).await;
    // The test does what the broker does after a minute.
    let queue = setup.broker.topology().send_normal();
    setup
        .client
        .publish("", &queue, copy.properties.clone(), &copy.data)
        .await;
    setup.assert_accepted().await;
    setup.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_doubt_is_handed_back_in_a_long_outage() {
    is_handed_back_in_an_outage("r1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_doubt_without_a_request_id_is_handed_back_in_a_long_outage() {
    is_handed_back_in_an_outage("").await;
}

/// Sends fail as well, so the message waits in its lane to be sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_waits_to_be_sent_again_is_handed_back_in_a_long_outage() {
    let setup = Setup::start(|config| {
        config.amqp.hold_for = Duration::from_secs(3);
        config.send.retry_for = Duration::from_secs(1);
    })
    .await;
    let down = json!({"kind": "status", "status": 503, "path": SEND_PATH});
    setup.simulator.fault(down).await;
    setup.publish_sms(properties("r1"), json!({})).await;
    let retry = format!("{}.retry.60s", setup.broker.prefix);
    let copy = setup.client.take(&retry).await;
    assert!(has_header(&copy, IN_DOUBT));
    assert!(setup.results("send.unknown").await.is_empty());
    setup.bridge.stop().await;
}

/// What the broker returned may have been tried before it came back to its queue and expired there: the broker does not tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_lapsed_command_that_was_sent_is_accepted() {
    let setup = Setup::start(|_| ()).await;
    setup.sent_before("r1").await;
    let returned = setup.broker.topology().returned();
    setup
        .publish_to("", &returned, properties("r1"), &command(json!({})))
        .await;
    setup.assert_accepted().await;
    setup.bridge.stop().await;
}

/// It is never sent, whoever had it before.
#[tokio::test(flavor = "multi_thread")]
async fn a_lapsed_command_that_was_not_sent_is_rejected_after_a_look_up() {
    let setup = Setup::start(|_| ()).await;
    let returned = setup.broker.topology().returned();
    setup
        .publish_to("", &returned, properties("r1"), &command(json!({})))
        .await;
    assert_eq!(setup.rejection().await, "EXPIRED");
    let paths = setup.simulator.paths().await;
    assert!(paths.iter().all(|path| path == LOGS_PATH), "{paths:?}");
    assert!(!paths.is_empty());
    setup.bridge.stop().await;
}

/// It can never be sent, so it does not wait for `send.in_doubt_for` (10 min).
#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_command_that_has_expired_ends_as_soon_as_it_was_looked_up() {
    let setup = Setup::start(|_| ()).await;
    let expired = json!({"expiresAt": hours_ago(1).to_string()});
    setup.publish_sms(marked("r1", IN_DOUBT), expired).await;
    assert_eq!(setup.rejection().await, "EXPIRED");
    setup.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_command_of_yesterday_is_never_sent_again() {
    let setup = Setup::start(|_| ()).await;
    let published = u64::try_from(hours_ago(25).as_second()).unwrap();
    let properties = marked("r1", IN_DOUBT).with_timestamp(published);
    setup.publish_sms(properties, json!({})).await;
    eventually("its outcome is unknown", async || {
        let unknown = setup.results("send.unknown").await;
        (unknown.len() == 1).then_some(())
    })
    .await;
    assert!(setup.simulator.messages().await.is_empty());
    setup.bridge.stop().await;
}

/// A bridge that sends one message to a number in an hour, and has sent it.
async fn capped() -> Setup {
    let setup = Setup::start(|config| {
        let capped = Application {
            max_messages_per_number_per_hour: 1,
            ..Application::default()
        };
        config.applications.insert("default".into(), capped);
    })
    .await;
    setup.publish_sms(properties("first"), json!({})).await;
    setup.accepted(1).await;
    setup
}

async fn await_events(setup: &Setup, outcome: &str, count: usize) {
    eventually(outcome, async || {
        let events = setup.bridge.all_events().await;
        let found = events.iter().filter(|event| event.r#type == outcome);
        (found.count() == count).then_some(())
    })
    .await;
}

/// A guard judges a message before it is sent. This one may have been sent, and counts already.
#[tokio::test(flavor = "multi_thread")]
async fn guards_do_not_judge_what_may_have_been_sent() {
    let setup = capped().await;
    setup.sent_before("r1").await;
    setup.publish_sms(marked("r1", IN_DOUBT), json!({})).await;
    await_events(&setup, "send.accepted", 2).await;
    setup.sent_before("r2").await;
    setup
        .publish_sms(marked("r2", MAY_HAVE_TWIN), json!({}))
        .await;
    await_events(&setup, "send.accepted", 3).await;
    assert!(setup.results("send.rejected").await.is_empty());
    // A copy of a command that nobody has sent is judged as a new one.
    setup
        .publish_sms(marked("r3", MAY_HAVE_TWIN), json!({}))
        .await;
    assert_eq!(setup.rejection().await, "NUMBER_CAP_REACHED");
    setup.bridge.stop().await;
}

/// It may have waited in its queue for longer than until its `sendAt`.
#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_command_that_waited_in_its_queue_is_sent() {
    let setup = Setup::start(|_| ()).await;
    let send_at = json!({"sendAt": hours_ago(1).to_string()});
    setup.publish_sms(properties("r1"), send_at.clone()).await;
    let published = u64::try_from(hours_ago(2).as_second()).unwrap();
    let properties = |id: &str, at| properties(id).with_timestamp(at);
    setup
        .publish_sms(properties("r2", published), send_at.clone())
        .await;
    await_events(&setup, "send.accepted", 2).await;
    // It had passed when it was published.
    let now = u64::try_from(Timestamp::now().as_second()).unwrap();
    setup.publish_sms(properties("r3", now), send_at).await;
    let letter = setup.client.take(&setup.broker.topology().dead()).await;
    let id = letter.properties.message_id().as_ref().unwrap();
    assert_eq!(id.as_str(), "r3");
    setup.bridge.stop().await;
}

/// It takes the whole queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_larger_than_the_queue_is_sent() {
    let setup = Setup::start(|config| config.send.queue_capacity = 5).await;
    let destinations: Vec<_> = (0..20)
        .map(|n| json!({"to": format!("41793{n:06}")}))
        .collect();
    setup
        .publish_sms(properties("r1"), json!({ "destinations": destinations }))
        .await;
    setup.accepted(20).await;
    setup.assert_delivered_once(20).await;
    setup.bridge.stop().await;
}

/// An earlier process may have recorded the rejection and not acknowledged the command. It must not end in another way then.
#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_command_that_a_guard_refuses_is_rejected_after_a_look_up() {
    let setup = Setup::start(|config| {
        let guarded = Application {
            allowed_senders: vec!["Other".into()],
            ..Application::default()
        };
        config.applications.insert("default".into(), guarded);
    })
    .await;
    setup.publish_sms(marked("r1", IN_DOUBT), json!({})).await;
    assert_eq!(setup.rejection().await, "SENDER_NOT_ALLOWED");
    let paths = setup.simulator.paths().await;
    assert!(paths.iter().all(|path| path == LOGS_PATH), "{paths:?}");
    setup.bridge.stop().await;
}

/// It cannot be told that nothing was sent, and no result is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_follows_a_command_hears_that_it_is_in_doubt() {
    let setup = Setup::start(|config| config.amqp.hold_for = Duration::from_secs(4)).await;
    setup.lose_the_next_response().await;
    setup.publish_sms(properties("r1"), json!({})).await;
    setup.await_look_up().await;
    let call = setup.bridge.sms().send_sms(text_with_id("r1", &[TO])).await;
    let status = call.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "OUTCOME_UNKNOWN");
    assert_eq!(info.metadata["in_doubt"], "true");
    setup.bridge.stop().await;
}
