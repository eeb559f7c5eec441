//! Authenticates requests by Basic (manual "Authorization"), `App`, `Bearer` or `IBSSO`; issues tokens; shows
//! the balance.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use serde_json::json;
use subtle::ConstantTimeEq;

use crate::{
    envelope::ApiError,
    http::{Call, Query, Reply},
    render,
};

const TOKEN_SECONDS: i64 = 3600;
/// Maximum number of tokens stored at a time.
const MOST_TOKENS: usize = 1000;

/// Checks the `Authorization` header; refuses wrong or missing credentials with 401.
pub fn authenticate(call: &Call<'_>) -> Result<(), ApiError> {
    let header = call
        .headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (scheme, credentials) = header.split_once(' ').unwrap_or_default();
    let credentials = credentials.trim();
    let passes = if scheme.eq_ignore_ascii_case("Basic") {
        let decoded = STANDARD
            .decode(credentials)
            .ok()
            .and_then(|octets| String::from_utf8(octets).ok());
        decoded
            .as_deref()
            .and_then(|pair| pair.split_once(':'))
            .is_some_and(|(user, password)| knows(call, user, password))
    } else if scheme.eq_ignore_ascii_case("App") {
        call.engine
            .config
            .api_key
            .as_deref()
            .is_some_and(|key| same(key, credentials))
    } else if scheme.eq_ignore_ascii_case("Bearer") || scheme.eq_ignore_ascii_case("IBSSO") {
        let state = call.engine.lock();
        let now_ms = state.clock.now_ms();
        state
            .account
            .tokens
            .get(credentials)
            .is_some_and(|ends_ms| now_ms < *ends_ms)
    } else {
        false
    };
    if passes {
        Ok(())
    } else {
        Err(ApiError::unauthorized())
    }
}

/// Authenticates the query interface: by the parameters `username` and `password`, or by the header.
pub fn authenticate_query(call: &Call<'_>) -> Result<(), ApiError> {
    match (call.query.get("username"), call.query.get("password")) {
        (Some(user), Some(password)) if knows(call, user, password) => Ok(()),
        (None, None) => authenticate(call),
        _ => Err(ApiError::unauthorized()),
    }
}

fn knows(call: &Call<'_>, user: &str, password: &str) -> bool {
    same(&call.engine.config.username, user) & same(&call.engine.config.password, password)
}

fn same(ours: &str, theirs: &str) -> bool {
    ours.as_bytes().ct_eq(theirs.as_bytes()).into()
}

/// `GET /account/1/balance`.
pub fn balance(call: &Call<'_>) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Balance<'a> {
        #[serde(serialize_with = "render::write_amount")]
        balance: f64,
        currency: &'a str,
    }
    let micros = call.engine.lock().account.balance_micros;
    let currency = &call.engine.config.currency;
    let balance = render::price(micros, currency).amount();
    Ok(call.answer("balanceResponse", &Balance { balance, currency }))
}

/// `POST /auth/1/oauth2/token`: client credentials are the account's user name and password, as a form or JSON.
pub fn oauth_token(call: &Call<'_>) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct TokenRequest {
        client_id: Option<String>,
        client_secret: Option<String>,
        grant_type: Option<String>,
    }
    let form = Query::parse(std::str::from_utf8(&call.body).unwrap_or_default());
    let field = |name: &str| form.get(name).map(str::to_owned);
    let request = serde_json::from_slice(&call.body).unwrap_or_else(|_| TokenRequest {
        client_id: field("client_id"),
        client_secret: field("client_secret"),
        grant_type: field("grant_type"),
    });
    if request.grant_type.as_deref() != Some("client_credentials") {
        return Err(ApiError::invalid(
            "grant_type",
            "must be client_credentials",
        ));
    }
    let (user, password) = (
        request.client_id.unwrap_or_default(),
        request.client_secret.unwrap_or_default(),
    );
    if !knows(call, &user, &password) {
        return Err(ApiError::unauthorized());
    }
    let token = new_token(call);
    let answer =
        json!({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS});
    Ok(call.answer("tokenResponse", &answer))
}

/// `POST /auth/1/session`: a token for `IBSSO`.
pub fn session(call: &Call<'_>) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct SessionRequest {
        username: Option<String>,
        password: Option<String>,
    }
    let request: SessionRequest = call.read()?;
    if !knows(
        call,
        &request.username.unwrap_or_default(),
        &request.password.unwrap_or_default(),
    ) {
        return Err(ApiError::unauthorized());
    }
    Ok(call.answer("sessionResponse", &json!({"token": new_token(call)})))
}

fn new_token(call: &Call<'_>) -> String {
    let mut state = call.engine.lock();
    let token = state.next_dice("token").word(40);
    let now_ms = state.clock.now_ms();
    state.account.tokens.retain(|_, ends_ms| now_ms < *ends_ms);
    if state.account.tokens.len() >= MOST_TOKENS {
        state.account.tokens.clear();
    }
    state
        .account
        .tokens
        .insert(token.clone(), now_ms + TOKEN_SECONDS * 1000);
    token
}
