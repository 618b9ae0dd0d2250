//! A reader of the live feed: Server-Sent Events as a browser would take them in, without its reconnecting.
use futures_util::StreamExt;
use reqwest::Method;
use serde_json::Value;
use std::{pin::Pin, time::Duration};

use super::{client::Client, wait::DEADLINE};

type Chunks = Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>;

/// One event of the feed.
#[derive(Debug, Clone, PartialEq)]
pub struct Sse {
    pub id: u64,
    pub event: String,
    pub data: Value,
}

pub struct Feed {
    chunks: Chunks,
    unread: Vec<u8>,
}

impl Feed {
    /// Opens a feed; `query` is what comes behind the path, such as `?after=3`.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn open(client: &Client, query: &str, last_event_id: Option<u64>) -> Self {
        let request = client.request(Method::GET, &format!("/api/v1/events/stream{query}"));
        let request = last_event_id.into_iter().fold(request, |request, id| request.header("last-event-id", id));
        let response = request.send().await.expect("the server answers");
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { chunks: Box::pin(response.bytes_stream()), unread: Vec::new() }
    }

    /// The next event; none when the feed has ended or broke off.
    ///
    /// # Panics
    /// When nothing comes within the deadline.
    pub async fn next(&mut self) -> Option<Sse> {
        self.next_within(DEADLINE).await.unwrap_or_else(|| panic!("the feed said nothing for {DEADLINE:?}"))
    }

    /// The next event, or none for the end; nothing at all when neither came in time.
    pub async fn next_within(&mut self, patience: Duration) -> Option<Option<Sse>> {
        tokio::time::timeout(patience, self.read()).await.ok()
    }

    async fn read(&mut self) -> Option<Sse> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                if let Some(event) = parse(std::str::from_utf8(&block).expect("a feed is UTF-8")) {
                    return Some(event);
                }
                continue;
            }
            self.unread.extend_from_slice(&self.chunks.next().await?.ok()?);
        }
    }

    /// The next `count` events.
    pub async fn take(&mut self, count: usize) -> Vec<Sse> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            events.push(self.next().await.expect("the feed goes on"));
        }
        events
    }
}

/// One block of lines; none for a comment.
fn parse(block: &str) -> Option<Sse> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let id = field("id")?.parse().expect("an id is a bare position");
    let data = serde_json::from_str(field("data")?).expect("the data is one JSON text");
    Some(Sse { id, event: field("event")?.to_owned(), data })
}
