//! Users: created, listed, shown and erased by administrators.
use actix_web::{HttpRequest, HttpResponse, web};
use garde::Validate;
use marvin_domain::{
    Name,
    user::{Role, Standing, User},
};
use marvin_projections::users::{UserDocument, UserStatus, Users};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

use super::{
    api::{Api, created, done, list as listed, precondition, resource},
    caller::Caller,
    json::Json,
    paging::{Cursor, Limit, Page},
    path::PathId,
    problem::Problem,
    query::{NoParameters, Query},
};
use crate::{
    accounts::{NewUser, user_stream},
    error::FieldError,
    security::permissions::Permission,
};

const LIST: &str = "users";
/// Longest email: RFC 5321 allows no longer path.
pub(super) const EMAIL_CHARS_MAX: usize = 254;

#[derive(Debug, Serialize)]
pub struct UserBody<'a> {
    id: Uuid,
    email: Option<&'a str>,
    display_name: Option<&'a str>,
    roles: &'a BTreeSet<Role>,
    status: UserStatus,
    #[serde(serialize_with = "crate::time::required")]
    created_at: chrono::DateTime<chrono::Utc>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    erased: bool,
    sequence: u64,
    position: u64,
}

impl<'a> UserBody<'a> {
    pub fn of(user: &'a UserDocument) -> Self {
        let profile = user.personal.known();
        Self {
            id: user.id,
            email: profile.map(|profile| profile.email.as_str()),
            display_name: profile.map(|profile| profile.display_name.as_str()),
            roles: &user.roles,
            status: user.status,
            created_at: user.created_at,
            erased: profile.is_none(),
            sequence: user.sequence,
            position: user.position,
        }
    }
}

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    #[garde(email, length(chars, max = EMAIL_CHARS_MAX))]
    email: String,
    #[garde(skip)]
    display_name: String,
    #[garde(skip)]
    password: SecretString,
    #[garde(length(min = 1))]
    roles: BTreeSet<Role>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListUsers {
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
}

/// Checks what a person types to register, all at once.
pub(super) fn new_user(
    email: String,
    display_name: &str,
    password: SecretString,
    roles: BTreeSet<Role>,
) -> Result<NewUser, Problem> {
    let mut errors = Vec::new();
    let display_name = Name::parse(display_name)
        .map_err(|error| errors.push(FieldError::new("/display_name", error.to_string())))
        .ok();
    errors.extend(crate::security::passwords::check_policy(&password).err());
    if email.chars().any(char::is_control) {
        errors.push(FieldError::new("/email", "must not hold control characters"));
    }
    match display_name {
        Some(display_name) if errors.is_empty() => Ok(NewUser { email, display_name, password, roles }),
        _ => Err(Problem::unprocessable("Some values were refused.", errors)),
    }
}

/// `POST /api/v1/users`
pub async fn create(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    body: Json<CreateUser>,
) -> Result<HttpResponse, Problem> {
    let meta = api.keyed_meta(&request, &caller, body.raw()).await?;
    let CreateUser { email, display_name, password, roles } = body.into_inner();
    let new = new_user(email, &display_name, password, roles)?;
    Ok(created(&api.accounts.register(&meta, new).await?, LIST))
}

/// `GET /api/v1/users`
pub async fn list(request: HttpRequest, api: web::Data<Api>, query: Query<ListUsers>) -> Result<HttpResponse, Problem> {
    let start = api.start_of(LIST, query.cursor.as_ref())?;
    let position = api.reach::<Users>(&request).await?;
    let page = api.page_of::<Users>(start, Vec::new(), query.limit, |user| user.id, |_| true).await?;
    let items = page.items.iter().map(UserBody::of).collect::<Vec<_>>();
    Ok(listed(position, &Page { items, next_cursor: page.next_cursor }))
}

/// `GET /api/v1/users/{id}`: oneself, or anyone for who may read users.
pub async fn show(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    _: Query<NoParameters>,
) -> Result<HttpResponse, Problem> {
    if !caller.reaches(id.0, Permission::UsersRead) {
        return Err(Problem::not_found());
    }
    let position = api.reach::<Users>(&request).await?;
    let user = api.views.get::<Users>(id.0, position).await?.ok_or_else(Problem::not_found)?;
    Ok(resource(position, user.sequence, &UserBody::of(&user)))
}

/// `DELETE /api/v1/users/{id}`: erases the person. Their words can be read nowhere from then on.
pub async fn erase(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
) -> Result<HttpResponse, Problem> {
    let precondition = precondition(&request)?;
    let loaded = api.dispatcher.load(user_stream(id.0)).await?;
    if <&User>::try_from(&loaded.state).map_or(Standing::Unknown, |user| user.standing) == Standing::Unknown {
        return Err(Problem::not_found());
    }
    let receipt = api.accounts.erase(&api.meta(&caller), id.0, &precondition).await?;
    api.sessions.end_all(id.0).await?;
    Ok(done(&receipt))
}
