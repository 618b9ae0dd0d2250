//! `examples/events.py`: every event once and in order, whatever becomes of messages, server and keys.
use chacha20poly1305::aead::Aead;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    super::super::support::{Receiver, Reply},
    *,
};

fn consumer(instance: &str, url: &str, after: u64) -> Outside {
    let mut command = python("events.py");
    command
        .env("MARVIN_AMQP_URL", shared())
        .env("MARVIN_INSTANCE", instance)
        .env("MARVIN_QUEUE", format!("{instance}.outside"))
        .env("MARVIN_AFTER", after.to_string());
    Outside::start(command, url)
}

/// As the consumer prints it.
fn line(event: &Value) -> Value {
    let mut line = json!({ "facts": event["data"]["facts"] });
    for name in ["id", "type", "subject", "time", "actor"] {
        line[name] = event[name].clone();
    }
    line["position"] = json!(event["position"].as_str().unwrap().parse::<u64>().unwrap());
    line
}

async fn log(admin: &Client) -> Vec<Value> {
    admin.get("/api/v1/events?limit=1000").await.expect(200).json().as_array().unwrap().clone()
}

/// Waits until this many events are printed.
async fn printed(consumer: &Outside, count: usize) -> Vec<Value> {
    let lines = eventually("all events are printed", async || {
        let lines = consumer.printed();
        (lines.len() >= count).then_some(lines)
    });
    lines.await.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until as many events are printed as the log tells, and compares them. Answers how many the log tells.
/// Both grow meanwhile: asking for keys is an event itself, and what is read may be a moment behind what was acknowledged.
async fn all_printed(consumer: &Outside, admin: &Client, after: usize) -> usize {
    let (lines, expected) = eventually("what the log tells is printed", async || {
        let expected: Vec<_> = log(admin).await.iter().map(line).collect();
        let lines = consumer.printed();
        (after + lines.len() == expected.len()).then_some((lines, expected))
    })
    .await;
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, expected[after..]);
    expected.len()
}

#[tokio::test]
async fn every_event_is_printed_once_and_in_order_although_the_server_is_killed_and_strangers_send_what_they_like() {
    let scene = Scene::new();
    // On one port: the consumer knows no other.
    let mut server = scene.launch.clone().public_url("http://127.0.0.1").start();
    let mut admin = Client::admin(&server).await;
    let agent = echo(&admin).await;
    let consumer = consumer(&scene.instance, server.url(), 0);
    consumer.says("waiting for events behind 0").await;
    for round in 0..3 {
        for text in 0..5 {
            admin.submit(&agent, json!({ "text": format!("{round}.{text}") })).await;
        }
        let strangers: Vec<_> = poison("events").into_iter().map(|message| ("task.failed.1".into(), message)).collect();
        scene.stranger.publish(&strangers).await.unwrap();
        server = server.kill9().start();
        admin = Client::admin(&server).await;
    }
    eventually("all tasks are done", async || {
        let done = admin.get("/api/v1/tasks?status=completed").await.expect(200).items();
        (done.len() == 15).then_some(())
    })
    .await;
    all_printed(&consumer, &admin, 0).await;
    consumer.says("a message is left out: it names no key of events: None").await;
    consumer.says("it does not open under events/").await;
    let disclosed = of_type(&admin, "channel.keys_disclosed").await;
    assert!(disclosed.len() <= 4, "who names keys that there are not is not asked for each: {}", disclosed.len());
    consumer.signal("TERM");
    assert!(consumer.ended().success());
}

#[tokio::test]
async fn it_begins_behind_the_event_that_it_is_told_and_otherwise_with_what_happens_from_now_on() {
    let scene = Scene::new();
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agent = echo(&admin).await;
    let mut command = python("events.py");
    command.env("MARVIN_AMQP_URL", shared()).env("MARVIN_INSTANCE", &scene.instance);
    let fresh = Outside::start(command, server.url());
    fresh.says("waiting for events behind").await;
    let after: usize = fresh.said().rsplit_once("behind ").unwrap().1.trim().parse().unwrap();
    let told = consumer(&scene.instance, server.url(), 2);
    told.says("waiting for events behind 2").await;
    let last = admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200).position();
    assert!(after > 2 && (after as u64) < last);
    for (consumer, after) in [(&fresh, after), (&told, 2)] {
        let all = all_printed(consumer, &admin, after).await;
        assert!(all as u64 >= last, "the pause is among them");
    }
}

/// Seals an event as Marvin does, under one of the keys that were told.
fn sealed(event: &Value, key: &Value) -> (String, Message) {
    let attributes = event.as_object().unwrap().iter().filter(|(name, _)| !name.starts_with("data"));
    let mut headers: Vec<_> =
        attributes.map(|(name, value)| (format!("cloudEvents:{name}"), value.as_str().unwrap().to_owned())).collect();
    headers.push(("marvin-key".into(), key["id"].as_str().unwrap().to_owned()));
    headers.sort();
    let aad: String = headers.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let secret: [u8; 32] = STANDARD.decode(key["key"].as_str().unwrap()).unwrap().try_into().unwrap();
    let clear = json!({ "facts": event["data"]["facts"] }).to_string();
    let payload = Payload { msg: clear.as_bytes(), aad: aad.as_bytes() };
    let nonce = [event["position"].as_str().unwrap().parse::<u8>().unwrap(); 24];
    let body = XChaCha20Poly1305::new(&secret.into()).encrypt(&nonce.into(), payload).unwrap();
    let message = Message {
        id: event["id"].as_str().unwrap().parse().unwrap(),
        headers,
        content_type: "application/json".into(),
        body: [&nonce[..], &body].concat().into(),
    };
    ("any.topic".into(), message)
}

/// Real events, sent anew by the test: the first half under the key of the hour before, which alone the consumer is told at first.
/// What stands in for the API tells no events, so all must come from messages.
#[tokio::test]
async fn messages_that_come_twice_in_disorder_and_over_a_change_of_keys_are_put_in_order() {
    let scene = Scene::new();
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agent = echo(&admin).await;
    for text in 0..4 {
        admin.task_done(&agent, json!({ "text": text.to_string() })).await;
    }
    let (events, now) = (log(&admin).await, keys(&admin).await);
    let mut before = now.clone();
    before["keys"].as_array_mut().unwrap().remove(0);
    let (asked, told) = (Arc::new(AtomicUsize::new(0)), [before, now.clone()]);
    let counted = asked.clone();
    let api = Receiver::start(move |_, call| {
        let body = match call.head.split_whitespace().nth(1).unwrap() {
            "/api/v1/session" => json!({ "csrf_token": "any" }),
            "/api/v1/channels/events/keys" => told[counted.fetch_add(1, Ordering::SeqCst).min(1)].clone(),
            _ => json!([]),
        };
        Reply::json(200, &body)
    })
    .await;
    let another = instance();
    let stranger = RabbitBroker::new(&shared(), &another).unwrap();
    // Makes the exchange.
    stranger.publish(&[]).await.unwrap();
    let consumer = consumer(&another, api.url.trim_end_matches("/hook"), 0);
    consumer.says("waiting for events behind 0").await;
    let middle = events.len() / 2;
    let seal = |(at, event): (usize, &Value)| sealed(event, &now["keys"][usize::from(at < middle)]);
    let mut messages: Vec<_> = events.iter().enumerate().map(seal).collect();
    let mut altered = messages[middle].clone();
    altered.1.headers.iter_mut().find(|(name, _)| name == "cloudEvents:position").unwrap().1 = "1".into();
    // Four by four from behind, so that each comes too early or too late, and the last of each four once more.
    messages.chunks_mut(4).for_each(<[_]>::reverse);
    let sent: Vec<_> = messages.chunks(4).flat_map(|some| some.iter().chain(some.first())).cloned().collect();
    stranger.publish(&[altered]).await.unwrap();
    stranger.publish(&sent).await.unwrap();
    let expected: Vec<_> = events.iter().map(line).collect();
    assert_eq!(printed(&consumer, expected.len()).await, expected);
    assert_eq!(asked.load(Ordering::SeqCst), 2, "for the new key, once");
    consumer.says("it does not open under events/").await;
    assert!(!consumer.said().contains("read from the log"), "{}", consumer.said());
}
