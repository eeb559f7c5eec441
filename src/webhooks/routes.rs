//! The paths of the webhooks: `/infobip/{secret}/…`, and `/infobip/subscriptions/…` for pushes that are signed.
//!
//! A GET has no body that could be signed, so received messages come to the path of subscriptions by POST only.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Query, Request, State},
    response::Response,
    routing::{get, post},
};
use tokio::time::Instant;

use super::{Credentials, Webhooks, outcome::stored_by};
use crate::{config::SUBSCRIPTIONS, message::id::ApplicationName, ops::metrics::Webhook};

pub(super) fn of(state: Arc<Webhooks>) -> Router {
    let signed = |endpoint: &str| format!("/infobip/{SUBSCRIPTIONS}/{endpoint}");
    Router::new()
        .route("/infobip/{secret}/reports", post(reports))
        .route(
            "/infobip/{secret}/inbound",
            get(inbound_by_query).post(inbound),
        )
        .route("/infobip/{secret}/clicks", post(clicks))
        .route("/infobip/{secret}/lookups", post(lookups))
        .route(&signed("reports"), post(reports))
        .route(&signed("inbound"), post(inbound))
        .route(&signed("clicks"), post(clicks))
        .route(&signed("lookups"), post(lookups))
        .with_state(state)
}

type Shared = State<Arc<Webhooks>>;
/// Absent on the path of subscriptions.
type Secret = Option<Path<String>>;

fn credentials(secret: &Secret) -> Credentials<'_> {
    match secret {
        Some(Path(secret)) => Credentials::Secret(secret),
        None => Credentials::Signature,
    }
}

async fn reports(State(webhooks): Shared, secret: Secret, request: Request) -> Response {
    let intake = &webhooks.intake;
    let store = async |content_type: String, body| intake.reports(&content_type, body).await;
    webhooks
        .push(Webhook::Reports, credentials(&secret), request, store)
        .await
}

async fn inbound(State(webhooks): Shared, secret: Secret, request: Request) -> Response {
    let intake = &webhooks.intake;
    let store = async |content_type: String, body| intake.received(&content_type, body).await;
    webhooks
        .push(Webhook::Inbound, credentials(&secret), request, store)
        .await
}

/// A received message that Infobip pushes by GET (docs/INFOBIP_API.md#push).
async fn inbound_by_query(State(webhooks): Shared, secret: Secret, request: Request) -> Response {
    let began = Instant::now();
    let deadline = began + webhooks.request_timeout;
    let admitted = webhooks.admit(Webhook::Inbound, credentials(&secret), &request);
    let outcome = match admitted {
        Ok(_admitted) => {
            let query = request.uri().query().unwrap_or_default();
            let storing = webhooks.intake.received_by_query(query);
            stored_by(deadline, storing).await
        }
        Err(refused) => refused,
    };
    webhooks.count(Webhook::Inbound, began, outcome)
}

async fn clicks(State(webhooks): Shared, secret: Secret, request: Request) -> Response {
    let intake = &webhooks.intake;
    let store = async |content_type: String, body| intake.clicks(&content_type, body).await;
    webhooks
        .push(Webhook::Clicks, credentials(&secret), request, store)
        .await
}

#[derive(Default, serde::Deserialize)]
struct LookupParameters {
    application: Option<String>,
    request: Option<String>,
}

/// The `notifyUrl` that the bridge gives Infobip names the application that requested the look-up, and identifies the request;
/// without a valid name the result belongs to the default application. A signature does not cover the URL, so that of a signed push
/// names nothing.
async fn lookups(
    State(webhooks): Shared,
    secret: Secret,
    Query(parameters): Query<LookupParameters>,
    request: Request,
) -> Response {
    let credentials = credentials(&secret);
    let parameters = match credentials {
        Credentials::Secret(_) => parameters,
        Credentials::Signature => LookupParameters::default(),
    };
    let application = parameters
        .application
        .and_then(|name| ApplicationName::parse(&name).ok())
        .unwrap_or_else(ApplicationName::default_application);
    let request_token = parameters.request.unwrap_or_default();
    let (intake, application) = (&webhooks.intake, &application);
    let store = async |content_type: String, body| {
        intake
            .lookups(application, &request_token, &content_type, body)
            .await
    };
    webhooks
        .push(Webhook::Lookups, credentials, request, store)
        .await
}
