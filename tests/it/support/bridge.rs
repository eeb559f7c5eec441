//! A bridge in this process, on free ports, with a simulator or another server as its API.

use std::time::Duration;

use smsbridge::{
    app::{Addresses, App},
    config::Config,
    proto::v1::{
        self, Event, OutboundMessage, event_service_client::EventServiceClient,
        outbound_message::Content, sms_service_client::SmsServiceClient,
    },
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming, transport::Channel};

use super::{
    DEADLINE, eventually,
    simulator::{PASSWORD, TestSimulator, USERNAME},
};

/// A timeout of a bridge that does not pass within [`DEADLINE`], for a test of what this timeout would end, too.
pub const LONG_AFTER: Duration = Duration::from_secs(300);

/// Running until dropped or stopped; [`TestBridge::stop`] ends it as SIGTERM would.
pub struct TestBridge {
    pub addresses: Addresses,
    pub channel: Channel,
    stop: CancellationToken,
    running: Option<JoinHandle<Result<(), smsbridge::app::AppError>>>,
    folder: Option<TempDir>,
}

impl TestBridge {
    /// On the embedded log. The simulator pushes reports to it.
    pub async fn start(simulator: &TestSimulator) -> Self {
        Self::with(simulator, |_| ()).await
    }

    /// The same with a changed configuration.
    pub async fn with(simulator: &TestSimulator, configure: impl FnOnce(&mut Config)) -> Self {
        Self::at(
            &simulator.base_url(),
            tempfile::tempdir().unwrap(),
            configure,
        )
        .await
    }

    /// With the API at `base_url`, and the event log in `folder`.
    pub async fn at(base_url: &str, folder: TempDir, configure: impl FnOnce(&mut Config)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let flags = [
            ("infobip.base_url", base_url),
            ("infobip.username", USERNAME),
            ("infobip.password", PASSWORD),
            ("grpc.listen", "127.0.0.1:0"),
            ("http.listen", "127.0.0.1:0"),
            // Port 0 stands for the port that http.listen got.
            ("http.public_url", "http://127.0.0.1:0"),
            ("admin.listen", "127.0.0.1:0"),
            ("events.data_dir", folder.path().to_str().unwrap()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut config = Config::load(None, std::iter::empty(), &flags).unwrap();
        // Tests do not wait before they look up a send in doubt.
        config.send.in_doubt_wait = Duration::from_millis(20);
        // A loaded machine must not abort what a test lets the shutdown finish.
        config.shutdown.grace = DEADLINE / 2;
        configure(&mut config);
        let app = App::bind(config).await.unwrap();
        let addresses = app.addresses();
        let stop = CancellationToken::new();
        let running = tokio::spawn(app.run(stop.clone()));
        let channel = Channel::from_shared(format!("http://{}", addresses.grpc))
            .unwrap()
            .connect_lazy();
        Self {
            addresses,
            channel,
            stop,
            running: Some(running),
            folder: Some(folder),
        }
    }

    pub fn sms(&self) -> SmsServiceClient<Channel> {
        SmsServiceClient::new(self.channel.clone())
    }

    /// A stream that begins with the next event.
    pub async fn events(&self) -> EventReader {
        self.read(v1::StreamEventsRequest::default()).await
    }

    /// All events in the log.
    pub async fn all_events(&self) -> Vec<Event> {
        use v1::stream_events_request::Start;
        let since = Some(Start::Since(smsbridge::proto::Timestamp::default()));
        let mut reader = self
            .read(v1::StreamEventsRequest {
                start: since,
                end_at_head: true,
                ..Default::default()
            })
            .await;
        let mut events = Vec::new();
        while let Some(event) = reader.next_or_end().await {
            events.push(event);
        }
        events
    }

    /// Tries again, as callers do, while the log says that it is unavailable: the broker of a busy machine may take longer than the bridge
    /// waits.
    pub async fn read(&self, request: v1::StreamEventsRequest) -> EventReader {
        let client = EventServiceClient::new(self.channel.clone());
        let answer = eventually("the event log can be read", async || {
            match client.clone().stream_events(request.clone()).await {
                Err(status) if status.code() == Code::Unavailable => None,
                answer => Some(answer),
            }
        });
        EventReader(answer.await.unwrap().into_inner())
    }

    /// The URL of a webhook.
    pub fn webhook(&self, endpoint: &str) -> String {
        format!("http://{}/infobip/local/{endpoint}", self.addresses.http)
    }

    /// The value of a series of `/metrics`, with its labels; `None` if it is not there.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let url = format!("http://{}/metrics", self.addresses.admin);
        let page = reqwest::get(url).await.unwrap().text().await.unwrap();
        let of_line = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        page.lines().find_map(of_line)
    }

    /// Starts the shutdown, as SIGTERM does.
    pub fn begin_to_stop(&self) {
        self.stop.cancel();
    }

    /// Stops and waits for the end; returns the folder of the log.
    pub async fn stop(mut self) -> TempDir {
        self.stop.cancel();
        let running = self.running.take().unwrap();
        tokio::time::timeout(DEADLINE, running)
            .await
            .expect("the bridge stops")
            .unwrap()
            .unwrap();
        self.folder.take().unwrap()
    }
}

impl Drop for TestBridge {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub struct EventReader(Streaming<v1::StreamEventsResponse>);

impl EventReader {
    /// The next event, or `None` at the end of the stream.
    pub async fn next_or_end(&mut self) -> Option<Event> {
        let next = tokio::time::timeout(DEADLINE, self.0.message())
            .await
            .expect("an event in time");
        next.unwrap().map(|response| response.event.unwrap())
    }

    pub async fn next(&mut self) -> Event {
        self.next_or_end().await.expect("the stream goes on")
    }

    /// The next event of this type; others are skipped.
    pub async fn next_of(&mut self, event_type: &str) -> Event {
        loop {
            let event = self.next().await;
            if event.r#type == event_type {
                return event;
            }
        }
    }
}

/// A request that sends a text to some numbers.
pub fn text(to: &[&str], text: &str) -> v1::SendSmsRequest {
    let destinations = to
        .iter()
        .map(|to| v1::Destination {
            to: (*to).to_owned(),
            message_id: String::new(),
        })
        .collect();
    let message = OutboundMessage {
        from: "InfoSMS".into(),
        destinations,
        content: Some(Content::Text(text.into())),
        ..Default::default()
    };
    v1::SendSmsRequest {
        message: Some(message),
        ..Default::default()
    }
}

/// A request with a request id and a fixed text.
pub fn text_with_id(request_id: &str, to: &[&str]) -> v1::SendSmsRequest {
    v1::SendSmsRequest {
        request_id: request_id.into(),
        ..text(to, "Hello")
    }
}
