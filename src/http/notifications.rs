//! The inbox of whoever asks.
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use marvin_domain::{
    AggregateKind, Directed, StreamId,
    notification::{Link, Notification, NotificationCommand, Severity},
};
use marvin_projections::inbox::{Inbox, NotificationDocument};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{
    api::{Api, done, list as listed},
    caller::Caller,
    conditional::{IdempotencyKey, MARVIN_POSITION},
    paging::{Cursor, Limit, Page},
    path::PathId,
    problem::Problem,
    query::Query,
};
use crate::views::{Filter, ListQuery, Order};

const LIST: &str = "notifications";
/// Notifications that `read-all` reads per round.
const READ_ALL_PAGE: u32 = 500;
/// Commands of `read-all` that are on their way at once.
const READS_AT_ONCE: usize = 32;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListNotifications {
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
    unread: Option<bool>,
}

#[derive(Debug, Serialize)]
struct NotificationBody<'a> {
    id: Uuid,
    severity: Severity,
    title: Option<&'a str>,
    body: Option<&'a str>,
    link: &'a Link,
    #[serde(serialize_with = "crate::time::required")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "crate::time::optional")]
    read_at: Option<DateTime<Utc>>,
}

impl<'a> NotificationBody<'a> {
    fn of(notification: &'a NotificationDocument) -> Self {
        let message = notification.personal.known();
        Self {
            id: notification.id,
            severity: notification.severity,
            title: message.map(|message| message.title.as_str()),
            body: message.map(|message| message.body.as_str()),
            link: &notification.link,
            created_at: notification.created_at,
            read_at: notification.read_at,
        }
    }
}

/// `GET /api/v1/notifications`
pub async fn list(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    query: Query<ListNotifications>,
) -> Result<HttpResponse, Problem> {
    let start = api.start_of(LIST, query.cursor.as_ref())?;
    let mut filters = vec![Filter::is("recipient", caller.user_id)];
    filters.extend(query.unread.map(|unread| Filter::is("unread", unread)));
    let position = api.reach::<Inbox>(&request).await?;
    let page = api.page_of::<Inbox>(start, filters, query.limit, |notification| notification.id, |_| true).await?;
    let items = page.items.iter().map(NotificationBody::of).collect::<Vec<_>>();
    Ok(listed(position, &Page { items, next_cursor: page.next_cursor }))
}

/// `POST /api/v1/notifications/{id}/read`
pub async fn read(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    body: Bytes,
) -> Result<HttpResponse, Problem> {
    let loaded = api.dispatcher.load(StreamId { kind: AggregateKind::Notification, id: id.0 }).await?;
    let notification = <&Notification>::try_from(&loaded.state).ok();
    if notification.and_then(|notification| notification.recipient) != Some(caller.user_id) {
        return Err(Problem::not_found());
    }
    let meta = api.keyed_meta(&request, &caller, &body).await?;
    Ok(done(&api.dispatcher.dispatch(&meta, &[Directed::new(id.0, NotificationCommand::Read)]).await?))
}

/// `POST /api/v1/notifications/read-all`: all that the inbox shows by now. Safe to repeat.
pub async fn read_all(request: HttpRequest, api: web::Data<Api>, caller: Caller) -> Result<HttpResponse, Problem> {
    // Repeating does no harm with or without a key, but a bad one is a mistake all the same.
    IdempotencyKey::from_headers(request.headers())?;
    let mut position = api.reach::<Inbox>(&request).await?;
    let (mut before, mut read) = (None, 0);
    loop {
        let filters = vec![Filter::is("recipient", caller.user_id), Filter::is("unread", true)];
        let query = ListQuery { filters, order: Order::Newest, before, limit: READ_ALL_PAGE };
        let unread = api.views.find::<Inbox>(query).await?;
        let Some(last) = unread.last() else { break };
        before = Some(last.id);
        read += unread.len();
        let commands =
            unread.iter().map(|found| (api.meta(&caller), [Directed::new(found.id, NotificationCommand::Read)]));
        let receipts: Vec<_> = stream::iter(commands)
            .map(|(meta, commands)| {
                let dispatcher = api.dispatcher.clone();
                async move { dispatcher.dispatch(&meta, &commands).await }
            })
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await?;
        position = receipts.iter().map(|receipt| receipt.position).fold(position, u64::max);
    }
    Ok(HttpResponse::Ok()
        .insert_header((MARVIN_POSITION, position.to_string()))
        .json(json!({ "read": read, "position": position })))
}
