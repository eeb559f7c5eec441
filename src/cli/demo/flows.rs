//! The flows over gRPC and HTTP. Each calls the bridge or the simulator and prints what it received.

use std::time::Duration;

use tonic::transport::Channel;

use super::{super::CliError, Endpoints, story::Story};
use crate::{
    message::event_type::EventType,
    proto::v1::{
        self, account_service_client::AccountServiceClient,
        event_service_client::EventServiceClient, lookup_service_client::LookupServiceClient,
        outbound_message::Content, sms_service_client::SmsServiceClient,
    },
};

/// Timeout of one event.
const EVENT_TIMEOUT: Duration = Duration::from_secs(10);

type Flow = Result<(), String>;

/// Runs all flows, one after the other.
pub(super) async fn all(story: &mut Story, endpoints: &Endpoints<'_>) -> Result<(), CliError> {
    let address = format!("http://{}", endpoints.bridge.grpc);
    let channel = Channel::from_shared(address)
        .map_err(|error| CliError::Failed(error.to_string()))?
        .connect_lazy();

    story.chapter("Send a text to two numbers", "SmsService.SendSms")?;
    let mut events = EventReader::follow(&channel)
        .await
        .map_err(CliError::Failed)?;
    let outcome = send_and_report(
        story,
        &channel,
        &mut events,
        &["41793026727", "385911234567"],
        EventType::ReportDelivered,
    )
    .await;
    story.ended("send", outcome)?;

    story.chapter(
        "Send to a number that is out of service",
        "SmsService.SendSms to 99902 0001 … (simulated: EC_UNKNOWN_SUBSCRIBER)",
    )?;
    let outcome = send_and_report(
        story,
        &channel,
        &mut events,
        &["9990200015550"],
        EventType::ReportUndeliverable,
    )
    .await;
    story.ended("undeliverable", outcome)?;

    story.chapter(
        "Send to a network that the account may not use",
        "SmsService.SendSms to 99901 006 … (simulated: REJECTED_NETWORK)",
    )?;
    let outcome = rejected(story, &channel).await;
    story.ended("rejected", outcome)?;

    story.chapter(
        "A phone sends a message",
        "POST /_sim/inbound, which simulates a message from a phone",
    )?;
    let outcome = inbound(story, endpoints, &mut events).await;
    story.ended("inbound", outcome)?;

    story.chapter("Look up a number", "LookupService.LookupNumbers")?;
    let outcome = lookup(story, &channel).await;
    story.ended("look-up", outcome)?;

    story.chapter(
        "Read the API's logs and the credit",
        "SmsService.ListSmsLogs, AccountService.GetBalance",
    )?;
    let outcome = logs(story, &channel).await;
    story.ended("logs", outcome)?;
    Ok(())
}

pub(super) fn text(to: &[&str], text: &str) -> v1::SendSmsRequest {
    let destinations = to
        .iter()
        .map(|to| v1::Destination {
            to: (*to).to_owned(),
            message_id: String::new(),
        })
        .collect();
    let message = v1::OutboundMessage {
        from: "InfoSMS".to_owned(),
        destinations,
        content: Some(Content::Text(text.to_owned())),
        ..v1::OutboundMessage::default()
    };
    v1::SendSmsRequest {
        message: Some(message),
        ..v1::SendSmsRequest::default()
    }
}

/// EventReader since the start of the demo.
pub(super) struct EventReader(tonic::Streaming<v1::StreamEventsResponse>);

impl EventReader {
    async fn follow(channel: &Channel) -> Result<Self, String> {
        let mut client = EventServiceClient::new(channel.clone());
        let stream = client
            .stream_events(v1::StreamEventsRequest::default())
            .await
            .map_err(text_of)?;
        Ok(Self(stream.into_inner()))
    }

    /// The next event of a type.
    async fn next(&mut self, event_type: EventType) -> Result<v1::Event, String> {
        let receiving = async {
            while let Some(response) = self.0.message().await.map_err(text_of)? {
                if let Some(event) = response
                    .event
                    .filter(|event| event.r#type == event_type.as_str())
                {
                    return Ok(event);
                }
            }
            Err("the event stream ended".to_owned())
        };
        tokio::time::timeout(EVENT_TIMEOUT, receiving)
            .await
            .unwrap_or_else(|_| Err(format!("no {event_type} within {EVENT_TIMEOUT:?}")))
    }
}

async fn send_and_report(
    story: &Story,
    channel: &Channel,
    events: &mut EventReader,
    to: &[&str],
    event_type: EventType,
) -> Flow {
    let sent = SmsServiceClient::new(channel.clone())
        .send_sms(text(to, "Hello from smsbridge"))
        .await
        .map_err(text_of)?
        .into_inner();
    for result in &sent.results {
        story.result(result).map_err(text_of)?;
        if result.outcome() != v1::Outcome::Accepted {
            return Err(format!("message {} was not accepted", result.message_id));
        }
    }
    for _ in &sent.results {
        let event = events.next(event_type).await?;
        story.event(&event).map_err(text_of)?;
    }
    Ok(())
}

async fn rejected(story: &Story, channel: &Channel) -> Flow {
    let sent = SmsServiceClient::new(channel.clone())
        .send_sms(text(&["999010061234"], "Hello"))
        .await
        .map_err(text_of)?
        .into_inner();
    let [result] = sent.results.as_slice() else {
        return Err("expected exactly one result".to_owned());
    };
    story.result(result).map_err(text_of)?;
    if result.outcome() == v1::Outcome::Rejected {
        Ok(())
    } else {
        Err("the message was not rejected".to_owned())
    }
}

async fn inbound(story: &Story, endpoints: &Endpoints<'_>, events: &mut EventReader) -> Flow {
    // The environment may name a proxy, which does not know this machine's loopback addresses.
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .map_err(text_of)?;
    let response = client
        .post(format!("http://{}/_sim/inbound", endpoints.simulator))
        .header("content-type", "application/json")
        .body(r#"{"from":"41793026727","to":"41790000000","text":"When do you open?"}"#)
        .send()
        .await
        .map_err(text_of)?;
    if !response.status().is_success() {
        return Err(format!("the simulator answered {}", response.status()));
    }
    let event = events.next(EventType::InboundReceived).await?;
    story.event(&event).map_err(text_of)
}

async fn lookup(story: &Story, channel: &Channel) -> Flow {
    let request = v1::LookupNumbersRequest {
        to: vec!["41793026727".to_owned()],
        request_id: String::new(),
    };
    let found = LookupServiceClient::new(channel.clone())
        .lookup_numbers(request)
        .await
        .map_err(text_of)?
        .into_inner();
    let [number] = found.results.as_slice() else {
        return Err("expected exactly one result".to_owned());
    };
    let network = number.original_network.clone().unwrap_or_default();
    story
        .received(format!(
            "{}: mccMnc {}, country prefix {}, ported {}",
            number.to,
            number.mcc_mnc,
            network.country_prefix,
            number.ported()
        ))
        .map_err(text_of)
}

async fn logs(story: &Story, channel: &Channel) -> Flow {
    let request = v1::ListSmsLogsRequest {
        page_size: 10,
        ..v1::ListSmsLogsRequest::default()
    };
    let logs = SmsServiceClient::new(channel.clone())
        .list_sms_logs(request)
        .await
        .map_err(text_of)?
        .into_inner();
    if logs.logs.is_empty() {
        return Err("the logs are empty".to_owned());
    }
    story
        .received(format!("{} rows, newest first", logs.logs.len()))
        .map_err(text_of)?;
    let balance = AccountServiceClient::new(channel.clone())
        .get_balance(v1::GetBalanceRequest::default())
        .await
        .map_err(text_of)?
        .into_inner();
    story
        .received(format!("credit {} {}", balance.balance, balance.currency))
        .map_err(text_of)
}

fn text_of(error: impl std::fmt::Display) -> String {
    error.to_string()
}
