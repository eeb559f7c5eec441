//! Authenticates requests by Basic (manual "Authorization"), `App`, `Bearer` or `IBSSO`; issues tokens; shows
//! the balance.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use serde_json::json;
use subtle::ConstantTimeEq;

use crate::{
    envelope::ApiError,
    http::{ApiRequest, ApiResponse, Query},
    render,
};

const TOKEN_LIFETIME_SECONDS: i64 = 3600;
/// Maximum number of stored tokens; when it is reached, all are discarded.
const MAX_TOKENS: usize = 1000;

/// Checks the `Authorization` header.
///
/// # Errors
/// 401 if the credentials are missing or wrong.
pub fn authenticate(request: &ApiRequest<'_>) -> Result<(), ApiError> {
    let header = request
        .headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (scheme, credentials) = header.split_once(' ').unwrap_or_default();
    let credentials = credentials.trim();
    let authenticated = if scheme.eq_ignore_ascii_case("Basic") {
        let decoded = STANDARD
            .decode(credentials)
            .ok()
            .and_then(|octets| String::from_utf8(octets).ok());
        decoded
            .as_deref()
            .and_then(|pair| pair.split_once(':'))
            .is_some_and(|(user, password)| credentials_match(request, user, password))
    } else if scheme.eq_ignore_ascii_case("App") {
        request
            .engine
            .config
            .api_key
            .as_deref()
            .is_some_and(|key| equal_in_constant_time(key, credentials))
    } else if scheme.eq_ignore_ascii_case("Bearer") || scheme.eq_ignore_ascii_case("IBSSO") {
        let state = request.engine.lock();
        let now_ms = state.clock.now_ms();
        state
            .account
            .tokens
            .get(credentials)
            .is_some_and(|expires_at_ms| now_ms < *expires_at_ms)
    } else {
        false
    };
    if authenticated {
        Ok(())
    } else {
        Err(ApiError::unauthorized())
    }
}

/// Authenticates the query interface: by the parameters `username` and `password`, or by the header.
pub fn authenticate_query(request: &ApiRequest<'_>) -> Result<(), ApiError> {
    match (request.query.get("username"), request.query.get("password")) {
        (Some(user), Some(password)) if credentials_match(request, user, password) => Ok(()),
        (None, None) => authenticate(request),
        _ => Err(ApiError::unauthorized()),
    }
}

fn credentials_match(request: &ApiRequest<'_>, user: &str, password: &str) -> bool {
    equal_in_constant_time(&request.engine.config.username, user)
        & equal_in_constant_time(&request.engine.config.password, password)
}

fn equal_in_constant_time(ours: &str, theirs: &str) -> bool {
    ours.as_bytes().ct_eq(theirs.as_bytes()).into()
}

/// `GET /account/1/balance`.
pub fn balance(request: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    #[derive(Serialize)]
    struct Balance<'a> {
        #[serde(serialize_with = "render::serialize_amount")]
        balance: f64,
        currency: &'a str,
    }
    let micros = request.engine.lock().account.balance_micros;
    let currency = &request.engine.config.currency;
    let balance = render::price(micros, currency).amount();
    Ok(request.respond("balanceResponse", &Balance { balance, currency }))
}

/// `POST /auth/1/oauth2/token`: client credentials are the account's user name and password, as a form or JSON.
pub fn oauth_token(request: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    #[derive(Deserialize)]
    struct TokenRequest {
        client_id: Option<String>,
        client_secret: Option<String>,
        grant_type: Option<String>,
    }
    let form = Query::parse(std::str::from_utf8(&request.body).unwrap_or_default());
    let field = |name: &str| form.get(name).map(str::to_owned);
    let body = serde_json::from_slice(&request.body).unwrap_or_else(|_| TokenRequest {
        client_id: field("client_id"),
        client_secret: field("client_secret"),
        grant_type: field("grant_type"),
    });
    if body.grant_type.as_deref() != Some("client_credentials") {
        return Err(ApiError::invalid(
            "grant_type",
            "must be client_credentials",
        ));
    }
    let (user, password) = (
        body.client_id.unwrap_or_default(),
        body.client_secret.unwrap_or_default(),
    );
    if !credentials_match(request, &user, &password) {
        return Err(ApiError::unauthorized());
    }
    let token = new_token(request);
    let response = json!({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFETIME_SECONDS});
    Ok(request.respond("tokenResponse", &response))
}

/// `POST /auth/1/session`: a token for `IBSSO`.
pub fn session(request: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    #[derive(Deserialize)]
    struct SessionRequest {
        username: Option<String>,
        password: Option<String>,
    }
    let body: SessionRequest = request.parse_body()?;
    if !credentials_match(
        request,
        &body.username.unwrap_or_default(),
        &body.password.unwrap_or_default(),
    ) {
        return Err(ApiError::unauthorized());
    }
    Ok(request.respond("sessionResponse", &json!({"token": new_token(request)})))
}

fn new_token(request: &ApiRequest<'_>) -> String {
    let mut state = request.engine.lock();
    let token = state.next_random("token").alphanumeric(40);
    let now_ms = state.clock.now_ms();
    state
        .account
        .tokens
        .retain(|_, expires_at_ms| now_ms < *expires_at_ms);
    if state.account.tokens.len() >= MAX_TOKENS {
        state.account.tokens.clear();
    }
    state
        .account
        .tokens
        .insert(token.clone(), now_ms + TOKEN_LIFETIME_SECONDS * 1000);
    token
}
