//! The log to read: pages of events, and the history of one resource.
use actix_web::{HttpRequest, HttpResponse, http::header, web};
use chrono::{DateTime, Utc};
use marvin_domain::{AggregateKind, Position, StreamId};
use serde::Deserialize;
use serde_json::Value;

use super::{
    api::Api,
    caller::Caller,
    cloudevents::{BATCH_JSON, Selection, Sight},
    conditional::{MARVIN_POSITION, min_position},
    path::PathId,
    problem::{Problem, RETRY_AFTER_S},
    query::{NoParameters, Query, refused},
};
use crate::{
    error::FieldError,
    log::{ReadError, subscription::BATCH_EVENTS_MAX},
    schedule::schedule_stream,
    security::permissions::Permission,
};

const LIMIT_DEFAULT: u16 = 100;
const LIMIT_MAX: u16 = 1_000;
/// Positions that one page looks at, however few of them pass its filters.
const SCAN_POSITIONS_MAX: u64 = 10_000;
/// Bytes of one answer: a page ends behind the event that reaches them, and the next one goes on.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Events of a stream that its history shows: a task has at most 1,000 steps and a few hundred other events.
const HISTORY_EVENTS_MAX: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullEvents {
    #[serde(default)]
    after: Position,
    limit: Option<u16>,
    types: Option<String>,
    subject: Option<String>,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
}

impl PullEvents {
    fn limit(&self) -> Result<usize, Problem> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if (1..=LIMIT_MAX).contains(&limit) {
            return Ok(usize::from(limit));
        }
        Err(refused(vec![FieldError::new("/limit", format!("the limit is between 1 and {LIMIT_MAX}"))]))
    }
}

/// `GET /api/v1/events`: oldest first.
pub async fn pull(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    query: Query<PullEvents>,
) -> Result<HttpResponse, Problem> {
    let limit = query.limit()?;
    let selection = Selection::parse(query.types.as_deref(), query.subject.as_deref())?;
    wait_for_log(&request, &api).await?;
    api.check_after(query.after).await?;
    let head = *api.tail.head().borrow();
    let sight = Sight::of(&caller);
    let (mut events, mut bytes, mut scanned): (Vec<String>, usize, Position) = (Vec::new(), 0, query.after);
    'pages: while scanned < head && scanned - query.after < SCAN_POSITIONS_MAX {
        let page = match api.tail.read(scanned, BATCH_EVENTS_MAX).await {
            // What stands before an event that cannot be read is answered; whoever goes on behind it hears of that.
            Err(ReadError::Corrupt { .. }) if scanned > query.after => break,
            read => read?,
        };
        if page.is_empty() {
            break;
        }
        for envelope in page {
            if events.len() == limit
                || bytes >= ANSWER_BYTES_MAX
                || envelope.position > query.after + SCAN_POSITIONS_MAX
            {
                break 'pages;
            }
            scanned = envelope.position;
            let in_time = query.from.is_none_or(|from| envelope.recorded_at >= from)
                && query.to.is_none_or(|to| envelope.recorded_at < to);
            if in_time && selection.takes(&envelope) && sight.sees(&envelope) {
                let event = sight.render(&envelope, &api.source).to_string();
                bytes += event.len();
                events.push(event);
            }
        }
    }
    let mut response = HttpResponse::Ok();
    response.insert_header((MARVIN_POSITION, scanned.to_string()));
    if scanned < head {
        response.insert_header((header::LINK, format!("<{}>; rel=\"next\"", next(&request, scanned))));
    }
    Ok(response.content_type(BATCH_JSON).body(format!("[{}]", events.join(","))))
}

/// The same request behind `after`.
fn next(request: &HttpRequest, after: Position) -> String {
    let kept = request.query_string().split('&').filter(|part| !part.is_empty() && !part.starts_with("after="));
    let query: Vec<String> = kept.map(str::to_owned).chain([format!("after={after}")]).collect();
    format!("{}?{}", request.path(), query.join("&"))
}

impl Api {
    /// # Errors
    /// 400 when the log has not reached `after`.
    pub(super) async fn check_after(&self, after: Position) -> Result<(), Problem> {
        let end = self.tail.log_end();
        // An event can be read a moment before its append is heard of, so the log itself has the last word.
        if after <= end || !self.log.read(after - 1, 1).await?.is_empty() {
            return Ok(());
        }
        Err(refused(vec![FieldError::new("/after", format!("the log ends at position {end}"))]))
    }
}

async fn wait_for_log(request: &HttpRequest, api: &Api) -> Result<(), Problem> {
    let Some(position) = min_position(request.headers())? else { return Ok(()) };
    let mut head = api.tail.head();
    match tokio::time::timeout(crate::views::query::WAIT_MAX, head.wait_for(|head| *head >= position)).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(Problem::unavailable("The log has not reached this position.", RETRY_AFTER_S)),
    }
}

async fn history(request: &HttpRequest, api: &Api, caller: &Caller, stream: StreamId) -> Result<HttpResponse, Problem> {
    wait_for_log(request, api).await?;
    let head = api.tail.log_end();
    let sight = Sight::of(caller);
    let (mut events, mut after): (Vec<Value>, u64) = (Vec::new(), 0);
    while events.len() < HISTORY_EVENTS_MAX {
        let envelopes = api.codec.open(api.log.read_stream(stream, after, BATCH_EVENTS_MAX).await?).await?;
        let Some(last) = envelopes.last() else { break };
        after = last.sequence;
        events.extend(envelopes.iter().map(|envelope| sight.render(envelope, &api.source)));
    }
    if events.is_empty() {
        return Err(Problem::not_found());
    }
    Ok(HttpResponse::Ok()
        .insert_header((MARVIN_POSITION, head.to_string()))
        .content_type(BATCH_JSON)
        .body(marvin_domain::event::to_json(&events)))
}

/// `GET /api/v1/agents/{id}/history`
pub async fn of_agent(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    _: Query<NoParameters>,
) -> Result<HttpResponse, Problem> {
    history(&request, &api, &caller, StreamId { kind: AggregateKind::Agent, id: id.0 }).await
}

/// `GET /api/v1/tasks/{id}/history`
pub async fn of_task(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    _: Query<NoParameters>,
) -> Result<HttpResponse, Problem> {
    api.check_task(id.0, &caller, Permission::TasksReadAll).await?;
    history(&request, &api, &caller, super::tasks::task_stream(id.0)).await
}

/// `GET /api/v1/users/{id}/history`
pub async fn of_user(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    _: Query<NoParameters>,
) -> Result<HttpResponse, Problem> {
    if !caller.reaches(id.0, Permission::UsersRead) {
        return Err(Problem::not_found());
    }
    history(&request, &api, &caller, crate::accounts::user_stream(id.0)).await
}

/// `GET /api/v1/schedules/{id}/history`: also of one that was removed.
pub async fn of_schedule(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    _: Query<NoParameters>,
) -> Result<HttpResponse, Problem> {
    history(&request, &api, &caller, schedule_stream(id.0)).await
}
