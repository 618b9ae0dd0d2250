//! News of the log's end between nodes: who appended says so after the commit, who listens is woken. News may be lost; a slow poll
//! stands behind it.
use futures_util::{StreamExt, stream};
use marvin_domain::Position;
use std::{sync::Arc, time::Duration};
use tokio::sync::{Notify, watch};
use tokio_postgres::AsyncMessage;
use tracing::{debug, warn};

use super::{advance, last_position};
use crate::{
    postgres::{Postgres, STATEMENT_TIMEOUT, Wire},
    store::StoreError,
};

/// Between two notifications: short against what a person notices, long against an append, which would wait for them.
const NEWS_INTERVAL: Duration = Duration::from_millis(10);
/// Pause before a lost connection is made again; doubles up to the maximum.
const RECONNECT_INITIAL: Duration = Duration::from_millis(50);
const RECONNECT_MAX: Duration = Duration::from_secs(5);

/// One channel an instance: channels are shared by a whole database.
fn channel(postgres: &Postgres) -> String {
    format!("marvin_{}", postgres.instance())
}

/// Tells other nodes where the log ends. While one notification is on its way, and for a while after it, any number of appends
/// become the next one.
pub(super) async fn notify(postgres: Postgres, mut head: watch::Receiver<Position>) {
    let channel = channel(&postgres);
    while head.changed().await.is_ok() {
        let position = head.borrow_and_update().to_string();
        if let Err(error) = postgres.execute("SELECT pg_notify($1, $2)", &[&channel, &position]).await {
            debug!(error = %error, "other nodes were not told of new events; they poll");
        }
        tokio::time::sleep(NEWS_INTERVAL).await;
    }
}

/// Moves the head when another node says that it appended.
pub(super) async fn listen(postgres: Postgres, head: watch::Sender<Position>) {
    let mut pause = RECONNECT_INITIAL;
    loop {
        match follow(&postgres, &head, &mut pause).await {
            Ok(()) => warn!("the listening connection ended and is made again"),
            Err(error) => warn!(error = %error, "the log's news cannot be heard and are asked for again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RECONNECT_MAX);
    }
}

async fn follow(postgres: &Postgres, head: &watch::Sender<Position>, pause: &mut Duration) -> Result<(), StoreError> {
    let (client, wire) = postgres.dedicated().await?;
    let news = Notify::new();
    let hearing = hear(wire, head, &news);
    // The connection lives for as long as its client.
    let asking = async {
        postgres.set_up(&client).await?;
        let listen = format!("LISTEN \"{}\"", channel(postgres));
        let listening = tokio::time::timeout(STATEMENT_TIMEOUT, client.batch_execute(&listen)).await;
        listening.map_err(|late| StoreError::Unreachable(Arc::new(late)))??;
        loop {
            // At first: what was said before this connection listened. Anyone may notify, so the log itself is asked.
            advance(head, last_position(postgres).await?);
            *pause = RECONNECT_INITIAL;
            news.notified().await;
        }
    };
    tokio::select! {
        () = hearing => Ok(()),
        failed = asking => failed,
    }
}

/// Wakes whoever asks when somebody says that the log goes on beyond what is known here.
async fn hear(mut wire: Wire, head: &watch::Sender<Position>, news: &Notify) {
    let mut messages = stream::poll_fn(|context| wire.poll_message(context));
    while let Some(Ok(message)) = messages.next().await {
        if let AsyncMessage::Notification(said) = message
            && said.payload().parse().is_ok_and(|position: Position| position > *head.borrow())
        {
            news.notify_one();
        }
    }
}
