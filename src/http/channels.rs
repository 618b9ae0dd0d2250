//! Channels of the broker: the keys that their messages are sealed under, for who may read them. Each telling is recorded first.
//!
//! Who may read all events may have those of the events, who may lease tasks those of an agent that gives its tasks outside.
use actix_web::{
    HttpResponse,
    http::header,
    web::{Data, Path},
};
use chrono::{DateTime, Utc};
use marvin_domain::channel::ChannelCommand;
use serde::Serialize;

use super::{
    api::Api,
    caller::Caller,
    conditional::MARVIN_POSITION,
    problem::Problem,
    query::{NoParameters, Query},
};
use crate::{
    agent::lease::LeaseError,
    broker::work::Line,
    relay::EVENTS_CHANNEL,
    security::channels::{ChannelKeys, EPOCH_S, EPOCHS_KEPT, KeyName},
};

#[derive(Serialize)]
struct KeyBody {
    /// As the header `marvin-key` of a message names it.
    id: String,
    key: String,
    #[serde(serialize_with = "crate::time::required")]
    from: DateTime<Utc>,
    #[serde(serialize_with = "crate::time::required")]
    until: DateTime<Utc>,
}

#[derive(Serialize)]
struct KeysBody<'a> {
    channel: &'a str,
    cipher: &'static str,
    keys: Vec<KeyBody>,
}

/// `GET /api/v1/channels/events/keys`: the current key first, then those of the last week.
pub async fn events_keys(api: Data<Api>, caller: Caller, _: Query<NoParameters>) -> Result<HttpResponse, Problem> {
    disclose(&api, &caller, EVENTS_CHANNEL.to_owned()).await
}

/// `GET /api/v1/channels/{name}/keys`, with `agent.` and the id of a `worker` agent as the name: the same for its queue.
pub async fn keys(
    api: Data<Api>,
    caller: Caller,
    channel: Path<String>,
    _: Query<NoParameters>,
) -> Result<HttpResponse, Problem> {
    let agent = Line::agent_of(&channel).ok_or_else(Problem::not_found)?;
    match api.leases.agent(agent).await {
        Ok(_) => disclose(&api, &caller, channel.into_inner()).await,
        Err(LeaseError::Absent | LeaseError::NotLeased(_)) => Err(Problem::not_found()),
        Err(error) => Err(error.into()),
    }
}

async fn disclose(api: &Api, caller: &Caller, channel: String) -> Result<HttpResponse, Problem> {
    let last_epoch = ChannelKeys::epoch_at(Utc::now().timestamp());
    let first_epoch = last_epoch.saturating_sub(EPOCHS_KEPT);
    let disclose =
        ChannelCommand::Disclose { channel: channel.clone(), reader: caller.user_id, first_epoch, last_epoch };
    let receipt = api.dispatcher.dispatch(&api.meta(caller), &[disclose.directed()]).await?;
    let key = |epoch| {
        let name = KeyName { channel: channel.clone(), epoch };
        KeyBody {
            id: name.to_string(),
            key: api.channels.key(&name).told(),
            from: moment(epoch),
            until: moment(epoch + 1),
        }
    };
    let keys = (first_epoch..=last_epoch).rev().map(key).collect();
    Ok(HttpResponse::Ok()
        .insert_header((MARVIN_POSITION, receipt.position.to_string()))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(KeysBody { channel: &channel, cipher: "xchacha20poly1305", keys }))
}

/// When an epoch begins.
fn moment(epoch: u64) -> DateTime<Utc> {
    let seconds = i64::try_from(epoch).ok().and_then(|epoch| epoch.checked_mul(EPOCH_S));
    seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0)).unwrap_or_default()
}
