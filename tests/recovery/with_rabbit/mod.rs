//! A whole server on RabbitMQ: events arrive sealed and none is left out, work is taken from queues, and whatever comes over them or
//! becomes of them, tasks are done.
use base64::{Engine, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    XChaCha20Poly1305,
    aead::{Aead, KeyInit, Payload},
};
use marvin::broker::{Broker, Consumer, Keeping, Message, Queue, rabbit::RabbitBroker};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use uuid::Uuid;

use super::support::{Client, Launch, Metrics, Server, eventually};

mod away;
mod examples;
mod hints;
mod workers;

/// The server that all tests share.
fn shared() -> String {
    std::env::var("MARVIN_TEST_AMQP")
        .expect("tests on RabbitMQ need a server: '.ci/services run cargo nextest run …', or 'make test'")
}

/// A name that nobody else has at the broker.
fn instance() -> String {
    format!("t{}", &Uuid::new_v4().simple().to_string()[..20])
}

/// An instance at a broker, and what a stranger does there.
struct Scene {
    launch: Launch,
    instance: String,
    stranger: RabbitBroker,
}

impl Scene {
    fn new() -> Self {
        Self::at(&shared())
    }

    /// The server reaches the broker by this URL.
    fn at(url: &str) -> Self {
        let launch = Launch::with_admin().set("MARVIN_METRICS_LISTEN", "127.0.0.1:0").set("MARVIN_AMQP_URL", url);
        // On PostgreSQL the instance has a name of its own already.
        let instance = launch.database().map_or_else(instance, |database| database.instance);
        let stranger = RabbitBroker::new(&shared(), &instance).unwrap();
        Self { launch: launch.set("MARVIN_INSTANCE", &instance), instance, stranger }
    }

    fn queue(&self, name: &str, topics: &[&str]) -> Queue {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Queue { name: format!("{}.{name}", self.instance), topics, keeping: Keeping::All }
    }

    /// The queue of a worker agent.
    fn hints(&self, agent: &str) -> Queue {
        Queue { keeping: Keeping::Newest, ..self.queue(&format!("agent.{agent}"), &[]) }
    }

    /// What is published under a topic from now on.
    async fn bound(&self, topic: &str) -> Box<dyn Consumer> {
        self.stranger.consume(&self.queue("outside", &[topic]), 100).await.unwrap()
    }
}

fn headers(message: &Message) -> BTreeMap<&str, &str> {
    message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// The next messages, up to the first with this type.
async fn until(consumer: &mut dyn Consumer, kind: &str) -> Vec<Message> {
    let mut messages = Vec::new();
    loop {
        let next = tokio::time::timeout(super::support::DEADLINE, consumer.next());
        let delivery = next.await.expect("events arrive").unwrap();
        let message = delivery.message.clone();
        delivery.acknowledge().await;
        let is_last = headers(&message)["cloudEvents:type"] == kind;
        messages.push(message);
        if is_last {
            return messages;
        }
    }
}

/// Opens a message as a consumer of another make would: with nothing of Marvin but what the API tells.
fn open(keys: &Value, message: &Message) -> Result<Value, chacha20poly1305::Error> {
    let headers = headers(message);
    let named = keys["keys"].as_array().unwrap().iter().find(|key| key["id"] == headers["marvin-key"]).unwrap();
    let key: [u8; 32] = STANDARD.decode(named["key"].as_str().unwrap()).unwrap().try_into().unwrap();
    let ours = headers.iter().filter(|(name, _)| name.starts_with("cloudEvents:") || name.starts_with("marvin-"));
    let aad: String = ours.map(|(name, value)| format!("{name}={value}\n")).collect();
    let (nonce, sealed) = message.body.split_at(24);
    let nonce: [u8; 24] = nonce.try_into().unwrap();
    let clear =
        XChaCha20Poly1305::new(&key.into()).decrypt(&nonce.into(), Payload { msg: sealed, aad: aad.as_bytes() })?;
    Ok(serde_json::from_slice(&clear).unwrap())
}

async fn keys(client: &Client) -> Value {
    client.get("/api/v1/channels/events/keys").await.expect(200).json()
}

/// All events of a type so far.
async fn of_type(admin: &Client, kind: &str) -> Vec<Value> {
    let events = admin.get(&format!("/api/v1/events?limit=1000&types={kind}")).await.expect(200).json();
    events.as_array().unwrap().clone()
}

/// A rules agent that keeps nothing to itself.
async fn echo(admin: &Client) -> String {
    let rule = json!({ "name": "echo", "when": "true", "then": [{ "output": "{{ input.text }}" }] });
    admin.agent("rules", json!({ "rules": [rule] })).await
}

#[tokio::test]
async fn events_arrive_sealed_and_open_under_the_keys_that_the_api_tells() {
    const PLANTED: &str = "planted 5c1f";
    let scene = Scene::new();
    let mut outside = scene.bound("task.#").await;
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agent = echo(&admin).await;
    let task = admin.task_done(&agent, json!({ "text": PLANTED })).await;
    assert_eq!(task["output"]["outputs"], json!([PLANTED]));
    let messages = until(&mut *outside, "marvin.task.completed.v1").await;
    let keys = keys(&admin).await;
    let path = format!("/api/v1/tasks/{}/history", task["id"].as_str().unwrap());
    let history = admin.get(&path).await.expect(200).json();
    let history = history.as_array().unwrap();
    assert_eq!(history.len(), messages.len());
    for (event, message) in history.iter().zip(&messages) {
        let told = headers(message);
        for (name, value) in event.as_object().unwrap().iter().filter(|(name, _)| !name.starts_with("data")) {
            assert_eq!(told[&*format!("cloudEvents:{name}")], value.as_str().unwrap(), "{name}");
        }
        assert_eq!(
            (message.id.to_string(), &*message.content_type),
            (event["id"].as_str().unwrap().into(), "application/json")
        );
        let data = open(&keys, message).unwrap();
        assert_eq!(data, json!({ "facts": event["data"]["facts"] }), "the facts, and nobody's words");
        assert!(!String::from_utf8_lossy(&message.body).contains("facts"), "the body is sealed");
        assert!(!format!("{told:?} {data}").contains(PLANTED));
        let mut altered = message.clone();
        altered.headers.iter_mut().find(|(name, _)| name == "cloudEvents:subject").unwrap().1.push('0');
        open(&keys, &altered).expect_err("a header that somebody changed is noticed");
    }
}

#[tokio::test]
async fn the_keys_are_told_to_readers_of_all_events_and_each_time_is_recorded() {
    let scene = Scene::new();
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let integrator = admin.colleague("ina", &["integrator"]).await;
    let told = integrator.get("/api/v1/channels/events/keys").await.expect(200);
    assert_eq!(told.header("cache-control"), "no-store");
    let told = told.json();
    assert_eq!((&told["channel"], &told["cipher"]), (&json!("events"), &json!("xchacha20poly1305")));
    let listed = told["keys"].as_array().unwrap();
    let distinct: BTreeSet<_> = listed.iter().map(|key| key["key"].as_str().unwrap()).collect();
    assert_eq!(
        (listed.len(), distinct.len()),
        (169, 169),
        "a week of hours and the current one, each with its own key"
    );
    let moment = |key: &Value, end: &str| chrono::DateTime::parse_from_rfc3339(key[end].as_str().unwrap()).unwrap();
    assert!(moment(&listed[0], "from") <= chrono::Utc::now() && chrono::Utc::now() < moment(&listed[0], "until"));
    assert!(listed.windows(2).all(|pair| moment(&pair[1], "until") == moment(&pair[0], "from")));
    let disclosed = admin.get("/api/v1/events?types=channel.keys_disclosed").await.expect(200).json();
    let disclosed = disclosed.as_array().unwrap();
    assert_eq!(disclosed.len(), 1);
    assert_eq!(disclosed[0]["data"]["facts"]["reader"], integrator.user_id());
    assert_eq!(disclosed[0]["actor"], format!("user/{}", integrator.user_id()));
    for key in distinct {
        assert!(!server.log().contains(key) && !disclosed[0].to_string().contains(key));
    }
    let member = admin.colleague("mia", &["member"]).await;
    member.get("/api/v1/channels/events/keys").await.problem(403);
    for unknown in ["work.rules", "Events", "events%2F1", "%00", "agent.1"] {
        admin.get(&format!("/api/v1/channels/{unknown}/keys")).await.problem(404);
    }
    let disclosed = admin.get("/api/v1/events?types=channel.keys_disclosed").await.expect(200).json();
    assert_eq!(disclosed.as_array().unwrap().len(), 1, "what was refused was not told");
}

/// Whatever lies in a queue, the worker goes on: what nobody can read is laid aside, what is of no use is thrown away.
#[tokio::test]
async fn messages_of_any_content_hold_up_nothing() {
    let scene = Scene::new();
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agent = echo(&admin).await;
    let done = admin.task_done(&agent, json!({ "text": "first" })).await;
    let work = scene.queue("work.rules", &[]);
    let message = |headers: &[(&str, &str)], body: Vec<u8>| Message {
        id: Uuid::now_v7(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        content_type: "application/json".into(),
        body: body.into(),
    };
    let clear = json!({ "task": done["id"], "agent": agent }).to_string().into_bytes();
    let poison = [
        message(&[], Vec::new()),
        message(&[], clear.clone()),
        message(&[("marvin-key", "work.rules/1")], clear.clone()),
        message(&[("marvin-key", "work.rules/99999999999999999999999")], clear.clone()),
        message(&[("marvin-key", "events/497222")], vec![0xff; 100]),
        message(&[("marvin-key", "\u{0}/é")], vec![0; 2 * 1024 * 1024]),
    ];
    scene.stranger.put(&work, &poison).await.unwrap();
    let mut dead = scene.stranger.consume_dead().await.unwrap();
    let mut aside = BTreeSet::new();
    while aside.len() < poison.len() {
        let next = tokio::time::timeout(super::support::DEADLINE, dead.next()).await.expect("each is laid aside");
        let delivery = next.unwrap();
        aside.insert(delivery.message.id);
        delivery.acknowledge().await;
    }
    assert_eq!(aside, poison.iter().map(|message| message.id).collect());
    assert_eq!(Metrics::of(&server).await.sum("marvin_work_messages_total{outcome=\"unreadable\""), 6);
    for text in ["second", "third"] {
        let task = admin.task_done(&agent, json!({ "text": text })).await;
        assert_eq!((&task["status"], &task["attempt"]), (&json!("completed"), &json!(1)));
    }
}

/// A duplicate, an old one, and one of a task that is not there: the log decides.
#[tokio::test]
async fn a_message_that_comes_again_or_late_runs_nothing_twice() {
    let scene = Scene::new();
    // The work messages themselves, before anybody takes them.
    let mut caught = scene.stranger.consume(&scene.queue("work.rules", &[]), 100).await.unwrap();
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agent = echo(&admin).await;
    let mut messages = Vec::new();
    let mut tasks = Vec::new();
    for text in 0..6 {
        tasks.push(admin.task_done(&agent, json!({ "text": text.to_string() })).await);
    }
    // RabbitMQ gives them to both in turns.
    while messages.is_empty() {
        let delivery = tokio::time::timeout(super::support::DEADLINE, caught.next()).await.expect("work").unwrap();
        messages.push(delivery.message.clone());
        delivery.acknowledge().await;
    }
    drop(caught);
    let started = async || admin.get("/api/v1/events?limit=1000&types=task.started").await.expect(200).json();
    let before = started().await;
    let again: Vec<_> = (0..200).map(|_| messages[0].clone()).collect();
    let taken = Metrics::of(&server).await.sum("marvin_work_messages_total");
    scene.stranger.put(&scene.queue("work.rules", &[]), &again).await.unwrap();
    eventually("all are taken", async || {
        (Metrics::of(&server).await.sum("marvin_work_messages_total{outcome=\"taken\"") >= taken + 200).then_some(())
    })
    .await;
    assert_eq!((started().await, before.as_array().unwrap().len()), (before.clone(), 6), "nothing ran again");
    assert_eq!(admin.task_done(&agent, json!({ "text": "last" })).await["status"], "completed");
}
