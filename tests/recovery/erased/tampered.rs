//! Events that were changed behind Marvin's back: readers stop exactly there and say so, and everything else goes on.
use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{HER_WORDS, HIS_WORDS, Home, Mode, Person, two_people};
use crate::{
    journal::{self, Event},
    support::{Answer, Client, eventually},
};

/// Bytes before a payload's facts: its format and the length of the facts.
const HEAD_BYTES: usize = 5;
/// Within what is sealed: where its key is named, and where the ciphertext is under way.
const KEY_ID_AT: usize = 2;
const CIPHERTEXT_AT: usize = 48;
/// All views: none passes a place where an event is missing.
const ALL: &[&str] = &["agents", "inbox", "schedules", "steps", "tasks", "users"];
/// Those that fold what happens to tasks. The others pass such an event over, unopened.
const OF_TASKS: &[&str] = &["steps", "tasks"];
/// Those that fold notifications.
const OF_NOTIFICATIONS: &[&str] = &["inbox"];

/// One change of an event, as SQL, and what undoes it.
struct Change {
    name: &'static str,
    set: String,
    undo: String,
    /// The facts, of which decisions are made, stand as they were.
    is_decided: bool,
    /// Views that stop there.
    stops: &'static [&'static str],
}

fn change(name: &'static str, set: impl Into<String>, undo: impl Into<String>) -> Change {
    Change { name, set: set.into(), undo: undo.into(), is_decided: false, stops: OF_TASKS }
}

/// The sealed facts with their head, and the sealed personal part.
fn parts(payload: &[u8]) -> (&[u8], &[u8]) {
    let length = u32::from_be_bytes(payload[1..HEAD_BYTES].try_into().unwrap());
    payload.split_at(HEAD_BYTES + length as usize)
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

/// Where a task's first event stands.
fn submitted(events: &[Event], task: &str) -> u64 {
    events.iter().find(|event| event.id() == task && event.kind == "task.submitted").unwrap().position
}

/// All that is done to one `task.submitted` of hers: to its payload, and to the place where it stands.
async fn changes(home: &Home, events: &[Event], her: &Person, him: &Person, erased: Uuid) -> (u64, Vec<Change>) {
    let position = submitted(events, &her.failed);
    let payload = home.payload(position).await;
    let (facts, personal) = parts(&payload);
    let other = home.payload(submitted(events, &her.done)).await;
    let his = home.payload(submitted(events, &him.failed)).await;
    let named = |person: Uuid| {
        let mut personal = personal.to_vec();
        personal[KEY_ID_AT..KEY_ID_AT + 16].copy_from_slice(person.as_bytes());
        [facts, &personal].concat()
    };
    let broken = [
        ("a byte of the facts", flipped(&payload, HEAD_BYTES + CIPHERTEXT_AT)),
        ("a byte of the nonce", flipped(&payload, HEAD_BYTES + KEY_ID_AT + 20)),
        ("the head", flipped(&payload, 0)),
        ("empty", Vec::new()),
        ("another event of hers", other.clone()),
        ("an event of his", his.clone()),
    ];
    let broken_words = [
        ("a byte of the words", flipped(&payload, facts.len() + CIPHERTEXT_AT)),
        ("the last byte", flipped(&payload, payload.len() - 1)),
        ("cut short", payload[..facts.len() + CIPHERTEXT_AT].to_vec()),
        ("words of another event of hers", [facts, parts(&other).1].concat()),
        ("words of his", [facts, parts(&his).1].concat()),
        ("no words", facts.to_vec()),
        ("words under his key", named(him.id)),
        ("words under the key of somebody erased", named(erased)),
        ("words under a key that never was", named(Uuid::now_v7())),
    ];
    let as_set = |payload: &[u8]| format!("payload = {}", home.bytes(payload));
    let undo = as_set(&payload);
    let mut changes: Vec<Change> =
        broken.iter().map(|(name, altered)| change(name, as_set(altered), undo.clone())).collect();
    changes.extend(
        broken_words
            .iter()
            .map(|(name, altered)| Change { is_decided: true, ..change(name, as_set(altered), undo.clone()) }),
    );
    let id = |id: Uuid| format!("aggregate_id = {}", home.id(id));
    let task = Uuid::parse_str(&her.failed).unwrap();
    changes.extend([
        change("moved to a stream of its own", id(Uuid::now_v7()), id(task)),
        change("moved within its stream", "sequence = 900", "sequence = 1"),
        change("of another type", "event_type = 'started'", "event_type = 'submitted'"),
        change("of another version", "event_version = 2", "event_version = 1"),
        Change {
            stops: OF_NOTIFICATIONS,
            ..change("of another kind", "aggregate_type = 'notification'", "aggregate_type = 'task'")
        },
    ]);
    (position, changes)
}

/// A refusal that says nothing of why.
#[track_caller]
fn expect_silent(answer: &Answer, name: &str) {
    let problem = answer.problem(500);
    assert!(problem["detail"].is_null() && problem["errors"].is_null(), "{name}: {problem}");
}

async fn expect_stopped(admin: &Client, position: u64, name: &str, stops: &[&str]) {
    let stopped = eventually(&format!("{name}: {stops:?} stop"), async || {
        let ready = admin.get("/readyz").await.expect(200).json();
        let stopped = |part: &&Value| {
            part["name"].as_str().unwrap().starts_with("projection:") && part["position"] == json!(position)
        };
        let stopped: Vec<Value> = ready["degraded"].as_array().unwrap().iter().filter(stopped).cloned().collect();
        (stopped.len() == stops.len()).then_some(stopped)
    })
    .await;
    for (part, projection) in stopped.iter().zip(stops) {
        assert_eq!(part["name"], format!("projection:{projection}"), "{name}");
        let reason = part["reason"].as_str().unwrap();
        assert!(reason.starts_with(&format!("stopped at position {position}: ")), "{name}: {reason}");
        assert!(!reason.contains(HER_WORDS) && !reason.contains(HIS_WORDS), "{name}: {reason}");
    }
    let before = admin.get("/api/v1/events?limit=1000").await.expect(200).json();
    let last: &Value = before.as_array().unwrap().last().unwrap();
    assert_eq!(last["position"], (position - 1).to_string(), "{name}: the page ends before it");
    expect_silent(&admin.get(&format!("/api/v1/events?after={}", position - 1)).await, name);
    let behind = admin.get(&format!("/api/v1/events?after={position}&limit=1000")).await.expect(200).json();
    assert_eq!(behind[0]["position"], (position + 1).to_string(), "{name}: those behind it are whole");
}

#[rstest]
#[case::embedded(Mode::Embedded)]
#[case::postgres(Mode::Postgres)]
#[tokio::test]
async fn readers_stop_at_an_event_that_was_changed_or_moved_and_others_go_on(#[case] mode: Mode) {
    let home = Home::new(mode).await;
    let (server, admin, her, him) = two_people(&home).await;
    let gone = admin.colleague("gone", &["member"]).await;
    let erased = Uuid::parse_str(gone.user_id()).unwrap();
    let position = admin.delete(&format!("/api/v1/users/{erased}")).await.expect(200).position();
    eventually("the erasure is done", async || (home.erased_up_to().await >= position).then_some(())).await;
    let mut events = Vec::new();
    journal::read_on(&admin, &mut events).await;
    let agent = events.iter().find(|event| event.id() == her.waiting).unwrap().facts["agent_id"].clone();
    let (position, changes) = changes(&home, &events, &her, &him, erased).await;
    let mut stopped = server.stop();
    for Change { name, set, undo, is_decided, stops } in changes {
        home.tamper(&format!("UPDATE events SET {set} WHERE position = {position}")).await;
        home.launch.drop_views().await;
        let server = stopped.start();
        let admin = admin.at(&server);
        expect_stopped(&admin, position, name, stops).await;
        if is_decided {
            // It has ended, says its stream, of which only the facts are opened.
            admin.order(&format!("/api/v1/tasks/{}/cancel", her.failed)).await.problem(409);
        } else {
            expect_undecided(&admin, &her, name).await;
        }
        him.client.at(&server).submit(agent.as_str().unwrap(), json!({ "text": HIS_WORDS })).await;
        stopped = server.kill9();
        home.tamper(&format!("UPDATE events SET {undo} WHERE position = {position}")).await;
    }
    home.launch.drop_views().await;
    let server = stopped.start();
    let admin = admin.at(&server);
    assert_eq!(admin.task_ended(&her.failed).await["input"]["text"], HER_WORDS, "put back, it opens");
    admin.order(&format!("/api/v1/tasks/{}/retry", her.failed)).await.expect(200);

    let stopped = server.stop();
    home.tamper(&format!("DELETE FROM events WHERE position = {position}")).await;
    home.launch.drop_views().await;
    let server = stopped.start();
    let admin = admin.at(&server);
    expect_stopped(&admin, position, "taken out", ALL).await;
    expect_undecided(&admin, &her, "taken out").await;
}

/// Nothing is decided on a stream whose facts cannot be read whole.
async fn expect_undecided(admin: &Client, her: &Person, name: &str) {
    for decision in ["cancel", "retry"] {
        expect_silent(&admin.order(&format!("/api/v1/tasks/{}/{decision}", her.failed)).await, name);
    }
}
