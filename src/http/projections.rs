//! Projections: how far each is, rebuilt, resumed, and led past an event that it cannot take.
use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, Path},
};
use garde::Validate;
use marvin_domain::{Position, projection::REASON_CHARS_MAX};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{
    api::{Api, done, sentence},
    caller::Caller,
    conditional::IdempotencyKey,
    json::Json,
    problem::Problem,
    query::{NoParameters, Query},
};
use crate::{
    error::FieldError,
    views::{
        Stopped,
        admin::{AdminError, Condition, Rebuild, Standing},
    },
};

#[derive(Debug, Serialize)]
struct StandingBody<'a> {
    name: &'a str,
    version: u32,
    serving_version: Option<u32>,
    position: Position,
    lag: u64,
    state: Condition,
    holder: Option<Uuid>,
    stopped: Option<&'a Stopped>,
    rebuild: Option<RebuildBody<'a>>,
}

#[derive(Debug, Serialize)]
struct RebuildBody<'a> {
    position: Position,
    target: Position,
    events_per_s: Option<f64>,
    seconds_left: Option<u64>,
    stopped: Option<&'a Stopped>,
}

impl<'a> StandingBody<'a> {
    fn of(standing: &'a Standing) -> Self {
        Self {
            name: &standing.name,
            version: standing.version,
            serving_version: standing.serving_version,
            position: standing.position,
            lag: standing.lag,
            state: standing.state,
            holder: standing.holder,
            stopped: standing.stopped.as_ref(),
            rebuild: standing.rebuild.as_ref().map(RebuildBody::of),
        }
    }
}

impl<'a> RebuildBody<'a> {
    fn of(rebuild: &'a Rebuild) -> Self {
        Self {
            position: rebuild.position,
            target: rebuild.target,
            events_per_s: rebuild.events_per_s.map(|rate| (rate * 10.0).round() / 10.0),
            seconds_left: rebuild.seconds_left,
            stopped: rebuild.stopped.as_ref(),
        }
    }
}

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Skip {
    #[garde(range(min = 1))]
    position: Position,
    #[garde(length(chars, max = REASON_CHARS_MAX))]
    reason: String,
}

impl Skip {
    /// A reason is there for people to read later.
    fn check(&self) -> Result<(), Problem> {
        let wrong = match self.reason.as_str() {
            blank if blank.trim().is_empty() => "say why the event is passed over",
            text if text.contains('\0') => "must not hold NUL characters",
            _ => return Ok(()),
        };
        Err(Problem::unprocessable("Some values were refused.", vec![FieldError::new("/reason", wrong)]))
    }
}

/// `GET /api/v1/projections`
pub async fn list(api: web::Data<Api>, _: Query<NoParameters>) -> Result<HttpResponse, Problem> {
    let standings = api.projections.all().await?;
    let items: Vec<_> = standings.iter().map(StandingBody::of).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next_cursor": null })))
}

/// `GET /api/v1/projections/{name}`
pub async fn show(api: web::Data<Api>, name: Path<String>, _: Query<NoParameters>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(StandingBody::of(&api.projections.one(&name).await?)))
}

/// `POST /api/v1/projections/{name}/rebuild`: builds it anew beside what serves. Safe to repeat: there is one rebuild at a time.
pub async fn rebuild(request: HttpRequest, api: web::Data<Api>, name: Path<String>) -> Result<HttpResponse, Problem> {
    // Repeating does no harm with or without a key, but a bad one is a mistake all the same.
    IdempotencyKey::from_headers(request.headers())?;
    let standing = api.projections.rebuild(&name).await?;
    let location = (header::LOCATION, format!("/api/v1/projections/{}", standing.name));
    Ok(HttpResponse::Accepted().insert_header(location).json(StandingBody::of(&standing)))
}

/// `DELETE /api/v1/projections/{name}/rebuild`: calls it off. The next one goes on from there.
pub async fn cancel(api: web::Data<Api>, name: Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(StandingBody::of(&api.projections.cancel(&name).await?)))
}

/// `POST /api/v1/projections/{name}/resume`: tries the event again at which it stopped.
pub async fn resume(request: HttpRequest, api: web::Data<Api>, name: Path<String>) -> Result<HttpResponse, Problem> {
    IdempotencyKey::from_headers(request.headers())?;
    Ok(HttpResponse::Ok().json(StandingBody::of(&api.projections.resume(&name).await?)))
}

/// `POST /api/v1/projections/{name}/skip`: takes the event at which it is stopped out of it, for a reason that the log keeps.
pub async fn skip(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    name: Path<String>,
    body: Json<Skip>,
) -> Result<HttpResponse, Problem> {
    let meta = api.keyed_meta(&request, &caller, body.raw()).await?;
    body.check()?;
    let Skip { position, reason } = body.into_inner();
    Ok(done(&api.projections.skip(&meta, caller.user_id, &name, position, reason).await?))
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Unknown => Self::not_found(),
            AdminError::Conflict(reason) => Self::conflict(sentence(reason)),
            AdminError::View(error) => error.into(),
            AdminError::Dispatch(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebuild_says_where_it_stopped_also_where_what_serves_is_stopped() {
        let stopped = |position| Some(Stopped { position, reason: format!("no {position}") });
        let (events_per_s, seconds_left) = (Some(99.96), Some(8));
        let rebuild = Rebuild { build: 2, position: 5, target: 9, events_per_s, seconds_left, stopped: stopped(6) };
        let standing = Standing {
            name: "tasks".into(),
            version: 2,
            serving_version: Some(2),
            build: Some(1),
            position: 7,
            lag: 2,
            state: Condition::Stopped,
            holder: None,
            stopped: stopped(8),
            rebuild: Some(rebuild),
        };
        let shown = serde_json::to_value(StandingBody::of(&standing)).unwrap();
        assert_eq!(shown["stopped"], json!({ "position": 8, "reason": "no 8" }));
        let rebuild = json!({
            "position": 5, "target": 9, "events_per_s": 100.0, "seconds_left": 8,
            "stopped": { "position": 6, "reason": "no 6" },
        });
        assert_eq!(shown["rebuild"], rebuild);
    }
}
