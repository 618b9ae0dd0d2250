//! Signing in and out, and the first set-up, which signs in.
use actix_web::{HttpRequest, HttpResponse, http::header, web};
use chrono::{DateTime, Utc};
use garde::Validate;
use marvin_domain::{
    Actor,
    instance::{self, Instance},
    user::{Role, Standing, User},
};
use marvin_projections::{
    Projection,
    users::{UserDocument, Users},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{collections::BTreeSet, sync::Arc};
use uuid::Uuid;

use super::{
    api::Api,
    caller::{Caller, check_origin, cookie_name},
    conditional::{IdempotencyKey, MARVIN_POSITION},
    json::Json,
    path::PathId,
    problem::Problem,
    query::{NoParameters, Query},
    users::{EMAIL_CHARS_MAX, UserBody, new_user},
};
use crate::{
    accounts::{AccountError, user_stream},
    dispatch::CommandMeta,
    error::FieldError,
    log::subscription::BATCH_EVENTS_MAX,
    security::{passwords::PasswordError, sessions::Session},
};

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    #[garde(length(max = EMAIL_CHARS_MAX))]
    email: String,
    #[garde(skip)]
    password: SecretString,
}

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct SetUp {
    #[garde(skip)]
    token: SecretString,
    #[garde(email, length(chars, max = EMAIL_CHARS_MAX))]
    email: String,
    #[garde(skip)]
    password: SecretString,
    #[garde(skip)]
    display_name: String,
}

/// `POST /api/v1/setup`: the first administrator, and their session.
pub async fn set_up(request: HttpRequest, api: web::Data<Api>, body: Json<SetUp>) -> Result<HttpResponse, Problem> {
    IdempotencyKey::refuse(request.headers())?;
    check_origin(&request, &api.public_url)?;
    let SetUp { token, email, password, display_name } = body.into_inner();
    let loaded = api.dispatcher.load(instance::STREAM).await?;
    if <&Instance>::try_from(&loaded.state).is_ok_and(Instance::is_set_up) {
        return Err(Problem::conflict("This instance has been set up already."));
    }
    let now = Utc::now();
    if !api.setup.accepts(token.expose_secret(), now.timestamp_millis()) {
        return Err(Problem::forbidden(
            "The setup link is not valid or has run out. Start the server again for another.",
        ));
    }
    let new = new_user(email, &display_name, password, BTreeSet::from([Role::Admin]))?;
    let receipt = api.accounts.set_up(&CommandMeta::new(Actor::System), new).await?;
    api.setup.spend();
    open_session(&api, receipt.stream.id, receipt.position, now).await
}

/// `POST /api/v1/session`: signs in. The answer is alike, and takes as long, for an unknown user and a wrong password.
pub async fn sign_in(request: HttpRequest, api: web::Data<Api>, body: Json<SignIn>) -> Result<HttpResponse, Problem> {
    IdempotencyKey::refuse(request.headers())?;
    check_origin(&request, &api.public_url)?;
    let SignIn { email, password } = body.into_inner();
    let now = Utc::now();
    let address = request.peer_addr().map_or([0, 0, 0, 0].into(), |peer| peer.ip());
    let throttled = |retry_after_s: u64| {
        Problem::throttled("Too many failed sign-ins. Wait.", u32::try_from(retry_after_s).unwrap_or(u32::MAX))
    };
    let account = email.trim().to_lowercase();
    let attempt = api
        .throttle
        .admit(&account, address, now.timestamp_millis())
        .map_err(|refused| throttled(refused.retry_after_s))?;
    match check_password(&api, &email, password).await {
        Ok(Some((user_id, position))) => {
            attempt.succeeded();
            open_session(&api, user_id, position, now).await
        }
        Ok(None) => {
            attempt.failed(now.timestamp_millis()).map_err(|refused| throttled(refused.retry_after_s))?;
            Err(Problem::unauthenticated("The email or the password is not right."))
        }
        Err(problem) => {
            attempt.withdrawn();
            Err(problem)
        }
    }
}

async fn check_password(api: &Api, email: &str, password: SecretString) -> Result<Option<(Uuid, u64)>, Problem> {
    let mut found = None;
    if let Some(user_id) = api.subjects.user_by_email(email).await? {
        let loaded = api.dispatcher.load(user_stream(user_id)).await?;
        let user = <&User>::try_from(&loaded.state).ok().filter(|user| user.standing == Standing::Active);
        if let Some(id) = user.and_then(|user| user.credential) {
            found = api.subjects.credential(id).await?.map(|credential| (credential, loaded.position));
        }
    }
    let phc = found.as_ref().map(|(credential, _)| credential.phc.clone());
    let right = api.passwords.verify(password, phc).await?;
    Ok(found.filter(|_| right).map(|(credential, position)| (credential.user_id, position)))
}

async fn open_session(api: &Api, user_id: Uuid, position: u64, now: DateTime<Utc>) -> Result<HttpResponse, Problem> {
    let (session, token) = api.sessions.open(Uuid::now_v7(), user_id, now.timestamp_millis()).await?;
    let caller = api.identify(Arc::new(token)).await?;
    let caller = caller.ok_or_else(|| Problem::unauthenticated("The account has ended."))?;
    let https = api.public_url.starts_with("https://");
    let cookie = format!(
        "{}={}; Path=/; HttpOnly; SameSite=Lax; Max-Age={}{}",
        cookie_name(&api.public_url),
        caller.token.expose().expose_secret(),
        (session.expires_at_ms - session.created_at_ms) / 1_000,
        if https { "; Secure" } else { "" },
    );
    Ok(HttpResponse::Ok()
        .insert_header((header::SET_COOKIE, cookie))
        .insert_header((MARVIN_POSITION, position.to_string()))
        .json(session_body(api, &caller).await?))
}

async fn session_body(api: &Api, caller: &Caller) -> Result<serde_json::Value, Problem> {
    let user = own_account(api, caller.user_id).await?;
    Ok(json!({
        "user": user.as_ref().map(UserBody::of),
        "csrf_token": api.sessions.csrf_token(&caller.token),
        "expires_at": time(caller.session.expires_at_ms),
    }))
}

/// The person as their own stream has them: signing in waits for no view.
async fn own_account(api: &Api, id: Uuid) -> Result<Option<UserDocument>, Problem> {
    let (mut user, mut after): (Option<UserDocument>, u64) = (None, 0);
    loop {
        let envelopes = api.codec.open(api.log.read_stream(user_stream(id), after, BATCH_EVENTS_MAX).await?).await?;
        let Some(last) = envelopes.last() else { return Ok(user) };
        after = last.sequence;
        for envelope in &envelopes {
            match &mut user {
                Some(user) => Users::apply(user, envelope),
                None => user = Users::begin(id, envelope),
            }
        }
    }
}

fn time(millis: i64) -> String {
    crate::time::rfc3339(DateTime::from_timestamp_millis(millis).unwrap_or_default())
}

/// `GET /api/v1/session`: who am I.
pub async fn who_am_i(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    _: Query<NoParameters>,
) -> Result<HttpResponse, Problem> {
    let position = api.reach::<Users>(&request).await?;
    Ok(super::api::list(position, &session_body(&api, &caller).await?))
}

/// `DELETE /api/v1/session`: signs out.
pub async fn sign_out(api: web::Data<Api>, caller: Caller) -> Result<HttpResponse, Problem> {
    api.sessions.end(caller.user_id, caller.session.id).await?;
    let secure = if api.public_url.starts_with("https://") { "; Secure" } else { "" };
    let cookie = format!("{}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0{secure}", cookie_name(&api.public_url));
    Ok(HttpResponse::NoContent().insert_header((header::SET_COOKIE, cookie)).finish())
}

#[derive(Debug, Serialize)]
struct SessionBody {
    id: Uuid,
    created_at: String,
    expires_at: String,
    current: bool,
}

/// `GET /api/v1/sessions`: mine, newest first.
pub async fn list(api: web::Data<Api>, caller: Caller, _: Query<NoParameters>) -> Result<HttpResponse, Problem> {
    let sessions = api.sessions.of_user(caller.user_id, Utc::now().timestamp_millis()).await?;
    let body = |session: Session| SessionBody {
        id: session.id,
        created_at: time(session.created_at_ms),
        expires_at: time(session.expires_at_ms),
        current: session.id == caller.session.id,
    };
    let items: Vec<_> = sessions.into_iter().map(body).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next_cursor": null })))
}

/// `DELETE /api/v1/sessions/{id}`: ends one of mine.
pub async fn end(api: web::Data<Api>, caller: Caller, id: PathId) -> Result<HttpResponse, Problem> {
    if api.sessions.end(caller.user_id, id.0).await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(Problem::not_found())
    }
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::EmailTaken => {
                let taken = FieldError::new("/email", "this email is registered already");
                Self::unprocessable("Some values were refused.", vec![taken])
            }
            AccountError::Dispatch(error) => error.into(),
            AccountError::Subjects(error) => error.into(),
            AccountError::Password(error) => error.into(),
        }
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy | PasswordError::Interrupted => {
                Self::unavailable("Too many sign-ins at once. Try again.", super::problem::RETRY_AFTER_S)
            }
            error @ PasswordError::DamagedHash => Self::internal(error),
        }
    }
}
