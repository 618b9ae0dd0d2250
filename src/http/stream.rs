//! The live feed as Server-Sent Events (WHATWG HTML, section 9.2): the log from any position on, for as long as one may see it.
use actix_web::{HttpRequest, HttpResponse, http::header, web};
use bytes::Bytes;
use futures_util::stream;
use marvin_domain::{Envelope, Position};
use serde::Deserialize;
use std::{fmt::Write, sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio::{sync::mpsc, task::AbortHandle};

use super::{
    api::Api,
    caller::Caller,
    cloudevents::{Selection, Sight, event_type},
    problem::Problem,
    query::Query,
};
use crate::{
    health::{Health, Phase},
    log::subscription::Subscription,
};

/// Rights, and whether the server goes on, are looked at again this often: a feed ends within a second of their end.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// A comment keeps proxies from closing a quiet feed.
const COMMENT_INTERVAL: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: &str = "Last-Event-ID";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    after: Option<Position>,
    types: Option<String>,
    subject: Option<String>,
}

struct Feed {
    api: web::Data<Api>,
    health: web::Data<Health>,
    caller: Caller,
    pages: Pages,
    selection: Selection,
    check: tokio::time::Interval,
    last_sent: Instant,
    begun: bool,
}

/// `GET /api/v1/events/stream`: resumes behind `Last-Event-ID`, else behind `after`, else from the beginning.
pub async fn follow(
    request: HttpRequest,
    api: web::Data<Api>,
    health: web::Data<Health>,
    caller: Caller,
    query: Query<Follow>,
) -> Result<HttpResponse, Problem> {
    let selection = Selection::parse(query.types.as_deref(), query.subject.as_deref())?;
    let after = last_event_id(&request)?.or(query.after).unwrap_or(0);
    api.check_after(after).await?;
    let mut check = interval(CHECK_INTERVAL);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let pages = Pages::of(Subscription::page_by_page(api.tail.clone(), after));
    let feed = Feed { api, health, caller, pages, selection, check, last_sent: Instant::now(), begun: false };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(stream::unfold(feed, |mut feed| async move {
            feed.next().await.map(|bytes| (Ok::<_, std::convert::Infallible>(bytes), feed))
        })))
}

fn last_event_id(request: &HttpRequest) -> Result<Option<Position>, Problem> {
    let Some(value) = request.headers().get(LAST_EVENT_ID) else { return Ok(None) };
    let position = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let position = position.and_then(|text| text.parse().ok());
    position.map(Some).ok_or_else(|| Problem::malformed("Last-Event-ID is the position of an event."))
}

/// Opens a page when it is asked for, in a task of its own: looking at the reader's rights meanwhile must not begin it anew. Nothing
/// is opened for a reader who does not read: whose words it is may be erased before.
struct Pages {
    asked: mpsc::Sender<()>,
    is_asked: bool,
    opened: mpsc::Receiver<Vec<Arc<Envelope>>>,
    opening: AbortHandle,
}

impl Pages {
    fn of(mut subscription: Subscription) -> Self {
        let ((asked, mut asking), (pages, opened)) = (mpsc::channel(1), mpsc::channel(1));
        let opening = tokio::spawn(async move {
            while asking.recv().await.is_some()
                && let Ok(page) = subscription.next().await
                && pages.send(page).await.is_ok()
            {}
        });
        Self { asked, is_asked: false, opened, opening: opening.abort_handle() }
    }

    /// None when the log cannot be read. Safe to cancel.
    async fn next(&mut self) -> Option<Vec<Arc<Envelope>>> {
        if !self.is_asked {
            self.asked.send(()).await.ok()?;
            self.is_asked = true;
        }
        let page = self.opened.recv().await;
        self.is_asked = false;
        page
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.opening.abort();
    }
}

impl Feed {
    /// What to send next; none when the feed ends.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.begun {
            self.begun = true;
            return Some(Bytes::from_static(b": hello\n\n"));
        }
        loop {
            tokio::select! {
                biased;
                _ = self.check.tick() => {
                    // A feed has no end of its own: a stopping server would wait for it in vain.
                    if self.health.phase() == Phase::Draining {
                        return None;
                    }
                    self.caller = self.api.identify(self.caller.token.clone()).await.ok()??;
                    if self.last_sent.elapsed() >= COMMENT_INTERVAL {
                        self.last_sent = Instant::now();
                        return Some(Bytes::from_static(b": still here\n\n"));
                    }
                }
                events = self.pages.next() => {
                    let mut events = events?;
                    // Opened while this reader did not read.
                    self.api.tail.forget_erased(&mut events);
                    let sight = Sight::of(&self.caller);
                    let mut text = String::new();
                    for envelope in events {
                        if self.selection.takes(&envelope) && sight.sees(&envelope) {
                            let data = sight.render(&envelope, &self.api.source);
                            let (id, name) = (envelope.position, event_type(&envelope));
                            write!(text, "id: {id}\nevent: {name}\ndata: {data}\n\n").expect("a string takes all text");
                        }
                    }
                    if !text.is_empty() {
                        self.last_sent = Instant::now();
                        return Some(text.into());
                    }
                }
            }
        }
    }
}
