//! The live feed as Server-Sent Events (WHATWG HTML, section 9.2): the log from any position on, for as long as one may see it.
use actix_web::{HttpRequest, HttpResponse, http::header, web};
use bytes::Bytes;
use futures_util::stream;
use marvin_domain::{Envelope, Position};
use serde::Deserialize;
use std::{collections::VecDeque, fmt::Write, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{
    api::Api,
    caller::Caller,
    cloudevents::{Selection, Sight},
    line::Line,
    problem::Problem,
    query::Query,
};
use crate::{
    cloudevent::event_type,
    health::{Health, Phase},
    log::subscription::Subscription,
};

/// Rights, and whether the server goes on, are looked at again this often: a feed ends within a second of their end.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// A comment keeps proxies from closing a quiet feed.
const COMMENT_INTERVAL: Duration = Duration::from_secs(15);
/// Sent at once, or one event where that is longer: what was handed over cannot be taken back when somebody is erased.
const CHUNK_BYTES: usize = 32 * 1024;
/// A feed that is to end says so to a reader who reads; after this its connection is ended.
const END_PATIENCE: Duration = Duration::from_secs(1);
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
    /// None once the feed is to end.
    caller: watch::Receiver<Option<Caller>>,
    pages: Pages,
    /// Opened, and not sent yet.
    unsent: VecDeque<Arc<Envelope>>,
    selection: Selection,
    last_sent: Instant,
    begun: bool,
    /// Ends with the feed.
    _watched: AbortOnDrop,
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
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
    let pages = Pages::of(Subscription::page_by_page(api.tail.clone(), after));
    let (sender, caller) = watch::channel(Some(caller));
    let line = request.conn_data::<Line>().cloned();
    let watched = AbortOnDrop(tokio::spawn(watch_over(api.clone(), health, sender, line)).abort_handle());
    let (unsent, last_sent) = (VecDeque::new(), Instant::now());
    let feed = Feed { api, caller, pages, unsent, selection, last_sent, begun: false, _watched: watched };
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

/// Opens a page when it is asked for, in a task of its own: what else happens meanwhile must not begin it anew. Nothing
/// is opened for a reader who does not read: whose words it is may be erased before.
struct Pages {
    asked: mpsc::Sender<()>,
    is_asked: bool,
    opened: mpsc::Receiver<Vec<Arc<Envelope>>>,
    _opening: AbortOnDrop,
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
        Self { asked, is_asked: false, opened, _opening: AbortOnDrop(opening.abort_handle()) }
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

/// Looks after a feed for as long as it lasts, whether or not its reader reads: ends it with the reader's rights, or with the server.
async fn watch_over(
    api: web::Data<Api>,
    health: web::Data<Health>,
    caller: watch::Sender<Option<Caller>>,
    line: Option<Line>,
) {
    let mut check = interval(CHECK_INTERVAL);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        check.tick().await;
        // A feed has no end of its own: a stopping server would wait for it in vain.
        if health.phase() == Phase::Draining {
            break;
        }
        let Some(token) = caller.borrow().as_ref().map(|caller| caller.token.clone()) else { break };
        match api.identify(token).await {
            Ok(Some(now)) => drop(caller.send_replace(Some(now))),
            Ok(None) | Err(_) => break,
        }
    }
    caller.send_replace(None);
    sleep(END_PATIENCE).await;
    if let Some(line) = line {
        line.end();
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
            let chunk = self.render()?;
            if !chunk.is_empty() {
                self.last_sent = Instant::now();
                return Some(chunk.into());
            }
            tokio::select! {
                biased;
                changed = self.caller.changed() => changed.ok()?,
                () = sleep_until(self.last_sent + COMMENT_INTERVAL) => {
                    self.last_sent = Instant::now();
                    return Some(Bytes::from_static(b": still here\n\n"));
                }
                events = self.pages.next() => self.unsent.extend(events?),
            }
        }
    }

    /// Some of what is unsent, as its reader may see it now. None once the feed is to end.
    fn render(&mut self) -> Option<String> {
        let caller = self.caller.borrow_and_update();
        let sight = Sight::of(caller.as_ref()?);
        // Opened while this reader did not read, perhaps.
        self.api.tail.forget_erased(self.unsent.make_contiguous());
        let mut text = String::new();
        while text.len() < CHUNK_BYTES
            && let Some(envelope) = self.unsent.pop_front()
        {
            if self.selection.takes(&envelope) && sight.sees(&envelope) {
                let data = sight.render(&envelope, &self.api.source);
                let (id, name) = (envelope.position, event_type(&envelope));
                write!(text, "id: {id}\nevent: {name}\ndata: {data}\n\n").expect("a string takes all text");
            }
        }
        Some(text)
    }
}
