//! The account of the manual's samples, and requests to it as the manual prints them.
//!
//! The `Authorization` header is the printed one ([`TestSimulator`]'s user is Aladdin), the clock is frozen, and the status of
//! an accepted message is MESSAGE_ACCEPTED, as in the manual's samples.

use std::time::Duration;

use infobip_simulator::{InboundPush, Keyword, SimulatorConfig};
use reqwest::{
    Method, RequestBuilder,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, USER_AGENT},
};
use serde_json::{Value, json};

use super::simulator::{START_MS, TestSimulator};

/// "Aladdin:open sesame", as the manual prints it.
const ALADDIN: &str = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";

pub struct Account(TestSimulator);

impl Account {
    /// The account of the manual's samples.
    pub async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    /// The same account with changes of its configuration.
    pub async fn open_with(configure: impl FnOnce(&mut SimulatorConfig)) -> Self {
        Self(
            TestSimulator::frozen_with(|config| {
                config.accepted_status = 0;
                configure(config);
            })
            .await,
        )
    }

    /// An account whose number recognises the keyword of the reference's sample.
    pub async fn with_quiz() -> Self {
        let quiz = Keyword {
            to: "385921004026".into(),
            word: "QUIZ".into(),
        };
        Self::open_with(|config| config.keywords.push(quiz)).await
    }

    /// An account whose received messages are pushed by GET.
    pub async fn with_inbound_pushed_to(template: &str) -> Self {
        Self::open_with(|config| config.inbound = Some(InboundPush::Get(template.into()))).await
    }

    pub fn base_url(&self) -> String {
        self.0.base_url()
    }

    /// Advances the virtual clock. Returns when every due timer has fired.
    pub async fn advance(&self, by: Duration) {
        self.0.advance(by).await;
    }

    /// Advances the virtual clock to a date.
    pub async fn advance_to(&self, date: &str) {
        let date: jiff::Timestamp = date.parse().expect("a date");
        let ms = u64::try_from(date.as_millisecond() - START_MS).expect("a date to come");
        self.advance(Duration::from_millis(ms)).await;
    }

    fn request(&self, method: Method, path: &str, authorization: &str) -> RequestBuilder {
        let request = self.0.anonymous(method, path);
        if authorization.is_empty() {
            request
        } else {
            request.header(AUTHORIZATION, authorization)
        }
    }

    /// GET with the account's credentials and `Accept: application/json`.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.get_as(ALADDIN, path).await
    }

    /// GET with another `Authorization`, or none if it is empty.
    pub async fn get_as(&self, authorization: &str, path: &str) -> (u16, Value) {
        self.json_of(self.request(Method::GET, path, authorization))
            .await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self
            .request(Method::POST, path, ALADDIN)
            .header(CONTENT_TYPE, "application/json");
        self.json_of(request.body(body.to_string())).await
    }

    /// POST of JSON without a Content-Type.
    pub async fn post_without_content_type(&self, path: &str, body: &Value) -> (u16, Value) {
        self.json_of(
            self.request(Method::POST, path, ALADDIN)
                .body(body.to_string()),
        )
        .await
    }

    /// Receives a message from a phone. Returns its id.
    pub async fn receive(&self, from: &str, to: &str, content: Value) -> String {
        let mut message = content;
        message["from"] = json!(from);
        message["to"] = json!(to);
        let (status, answer) = self.post("/_sim/inbound", &message).await;
        assert_eq!(status, 200, "{answer}");
        answer["messageId"].as_str().expect("an id").to_owned()
    }

    /// GET without an `Accept` header.
    pub async fn get_text(&self, path: &str) -> (u16, String) {
        self.text_of(self.request(Method::GET, path, ALADDIN)).await
    }

    /// GET with `Accept: application/xml`.
    pub async fn get_xml(&self, path: &str) -> (u16, String) {
        self.get_xml_as(ALADDIN, path).await
    }

    /// The same with another `Authorization`, or none if it is empty.
    pub async fn get_xml_as(&self, authorization: &str, path: &str) -> (u16, String) {
        self.xml_of(self.request(Method::GET, path, authorization))
            .await
    }

    /// Opens a short link as a phone does. Returns the status and the `Location`.
    pub async fn follow(&self, path: &str, user_agent: &str) -> (u16, String) {
        let request = self
            .0
            .anonymous(Method::GET, path)
            .header(USER_AGENT, user_agent);
        let answer = self.0.answer(request).await;
        let location = answer
            .headers
            .get(LOCATION)
            .and_then(|location| location.to_str().ok());
        (
            answer.status.as_u16(),
            location.unwrap_or_default().to_owned(),
        )
    }

    pub async fn post_xml(&self, path: &str, body: &str) -> (u16, String) {
        let request = self
            .request(Method::POST, path, ALADDIN)
            .header(CONTENT_TYPE, "application/xml");
        self.xml_of(request.body(body.to_owned())).await
    }

    pub async fn put_xml(&self, path: &str, body: &str) -> (u16, String) {
        let request = self
            .request(Method::PUT, path, ALADDIN)
            .header(CONTENT_TYPE, "application/xml");
        self.xml_of(request.body(body.to_owned())).await
    }

    async fn json_of(&self, request: RequestBuilder) -> (u16, Value) {
        let answer = self
            .0
            .answer(request.header(ACCEPT, "application/json"))
            .await;
        (answer.status.as_u16(), answer.json())
    }

    async fn xml_of(&self, request: RequestBuilder) -> (u16, String) {
        let answer = self
            .text_of(request.header(ACCEPT, "application/xml"))
            .await;
        assert!(answer.1.starts_with("<?xml"), "{}", answer.1);
        answer
    }

    async fn text_of(&self, request: RequestBuilder) -> (u16, String) {
        let answer = self.0.answer(request).await;
        (answer.status.as_u16(), answer.text)
    }
}
