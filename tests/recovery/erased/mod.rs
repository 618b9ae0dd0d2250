//! Erasing a person, from outside and in both modes: what is gone, what stays, and what whoever kept a copy can still do.
use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    journal::{self, Event},
    kills::views_reach,
    support::{Client, Server, Stopped, eventually},
};

mod copies;
mod home;
mod killed;
mod search;
mod suites;
mod tampered;

use home::{Home, Mode};

/// Words that stand nowhere else.
const HER_WORDS: &str = "Qz7HersPlanted";
const HIS_WORDS: &str = "Qz7HisPlanted";

/// Somebody with words in everything that holds some.
struct Person {
    client: Client,
    id: Uuid,
    /// Done, with an output and a notification, in a conversation.
    done: String,
    /// Failed for what was in its input.
    failed: String,
    /// Given to an agent that is paused.
    waiting: String,
    /// Would fire next year.
    schedule: String,
}

/// Agents that answer and tell, and one that is paused.
struct Agents {
    telling: String,
    paused: String,
}

impl Agents {
    async fn create(admin: &Client) -> Self {
        let notify = json!({ "to": "requester", "severity": "info", "title": "Done", "body": "{{ input.text }}" });
        let tell = json!({ "name": "tell", "when": "input.text != ''",
            "then": [{ "notify": notify }, { "output": "Echo of {{ input.text }}" }] });
        let fail = json!({ "name": "fail", "when": "input.text.size() > 5 && input.fail", "then": [] });
        let telling = admin.agent("rules", json!({ "rules": [tell, fail] })).await;
        let paused = admin.agent("rules", json!({ "rules": [] })).await;
        admin.order(&format!("/api/v1/agents/{paused}/pause")).await.expect(200);
        Self { telling, paused }
    }
}

impl Person {
    async fn come(admin: &Client, agents: &Agents, name: &str, words: &str) -> Self {
        // As an operator they have schedules as well.
        let client = admin.colleague(name, &["member", "operator"]).await;
        let path = format!("/api/v1/agents/{}/tasks", agents.telling);
        let task = json!({ "input": { "text": words, "fail": false }, "conversation_id": Uuid::now_v7() });
        let done = client.post(&path, &task).await.expect(202).id();
        let failed = client.submit(&agents.telling, json!({ "text": words, "fail": 3 })).await.id();
        let waiting = client.submit(&agents.paused, json!({ "text": words })).await.id();
        let schedule =
            json!({ "name": words, "agent_id": agents.paused, "input": { "text": words }, "cron": "0 0 1 1 *" });
        let schedule = client.post("/api/v1/schedules", &schedule).await.expect(201).id();
        let ended = client.task_ended(&done).await;
        let output = json!([format!("Echo of {words}")]);
        assert_eq!((&ended["status"], &ended["output"]["outputs"]), (&json!("completed"), &output));
        assert_eq!(client.task_ended(&failed).await["status"], "failed");
        let id = Uuid::parse_str(client.user_id()).unwrap();
        Self { client, id, done, failed, waiting, schedule }
    }

    fn tasks(&self) -> [&String; 3] {
        [&self.done, &self.failed, &self.waiting]
    }

    /// Erases them and waits until that is done; answers the position of the event.
    async fn erase(&self, admin: &Client, home: &Home) -> u64 {
        let erased = admin.delete(&format!("/api/v1/users/{}", self.id)).await.expect(200).position();
        self.expect_forgotten(home, erased).await;
        erased
    }

    async fn expect_forgotten(&self, home: &Home, erased: u64) {
        let done = async || (home.erased_up_to().await >= erased).then_some(());
        eventually("the erasure is done", done).await;
        assert_eq!(home.rows_of(self.id).await, 0);
    }

    /// Their words are nowhere in what the API serves, and it says so; the log reads on without a gap.
    async fn expect_erased(&self, admin: &Client) -> Vec<Event> {
        eventually("the waiting task is cancelled", async || {
            let task = admin.get(&format!("/api/v1/tasks/{}", self.waiting)).await;
            (task.status == 200 && task.json()["status"] == "cancelled").then_some(())
        })
        .await;
        views_reach(admin, admin.head().await).await;
        let user = admin.get(&format!("/api/v1/users/{}", self.id)).await.expect(200).json();
        assert_eq!((&user["status"], &user["erased"]), (&json!("erased"), &json!(true)));
        assert_eq!((&user["email"], &user["display_name"]), (&Value::Null, &Value::Null));
        for id in self.tasks() {
            let task = admin.get(&format!("/api/v1/tasks/{id}")).await.expect(200).json();
            assert_eq!((&task["input"], &task["output"], &task["erased"]), (&Value::Null, &Value::Null, &json!(true)));
            let history = admin.get(&format!("/api/v1/tasks/{id}/history")).await.expect(200).json();
            expect_null(history.as_array().unwrap());
        }
        let schedule = admin.get(&format!("/api/v1/schedules/{}/history", self.schedule)).await.expect(200).json();
        expect_null(schedule.as_array().unwrap());
        let pages = admin.get("/api/v1/events?limit=1000").await.expect(200);
        let text = String::from_utf8_lossy(&pages.body);
        assert!(!text.contains(HER_WORDS) && text.contains(HIS_WORDS), "{text}");
        let subject = |event: &&Value| event["data"]["erased"] == true;
        let pages = pages.json();
        let of_hers: Vec<Value> = pages.as_array().unwrap().iter().filter(subject).cloned().collect();
        expect_null(&of_hers);
        let types: Vec<&str> = of_hers.iter().map(|event| event["type"].as_str().unwrap()).collect();
        for kind in [
            "user.registered",
            "task.submitted",
            "task.completed",
            "task.failed",
            "notification.raised",
            "schedule.created",
        ] {
            assert!(types.contains(&&*format!("marvin.{kind}.v1")), "no {kind} among {types:?}");
        }
        let mut events = Vec::new();
        journal::read_on(admin, &mut events).await;
        journal::check_contiguous(&events);
        let ready = admin.get("/readyz").await.expect(200).json();
        assert_eq!(ready["degraded"], json!([]));
        events
    }
}

/// Every event that holds a personal part holds null, and says that it is erased.
#[track_caller]
fn expect_null(events: &[Value]) {
    assert!(!events.is_empty());
    for event in events {
        let data = event["data"].as_object().unwrap();
        if data.contains_key("personal") {
            assert!(data["personal"].is_null() && data["erased"] == true, "{event}");
        }
    }
}

/// A server with two people who do the same.
async fn two_people(home: &Home) -> (Server, Client, Person, Person) {
    let server = home.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agents = Agents::create(&admin).await;
    let her = Person::come(&admin, &agents, "her", HER_WORDS).await;
    let him = Person::come(&admin, &agents, "him", HIS_WORDS).await;
    (server, admin, her, him)
}

/// After a start without views: everything is folded anew.
async fn rebuilt(home: &Home, stopped: Stopped, admin: &Client) -> (Server, Client) {
    home.launch.drop_views().await;
    let server = stopped.start();
    let admin = admin.at(&server);
    views_reach(&admin, admin.head().await).await;
    (server, admin)
}

#[rstest]
#[case::embedded(Mode::Embedded)]
#[case::postgres(Mode::Postgres)]
#[tokio::test]
async fn no_file_no_table_and_no_log_line_keeps_a_key_of_the_erased(#[case] mode: Mode) {
    let home = Home::new(mode).await.set("MARVIN_LOG", "trace");
    let (server, admin, her, him) = two_people(&home).await;
    let (hers, his) = (home.secrets_of(her.id).await, home.secrets_of(him.id).await);
    let before = home.contents().await;
    for (name, secret) in &hers.named()[1..] {
        let places = search::found(name, secret, &before);
        assert!(!places.is_empty(), "{name} is found while it is there");
        assert_eq!(places.iter().any(|place| place.ends_with("as hex in dump")), mode == Mode::Postgres);
    }
    assert_eq!(search::found("the raw key", &hers.raw, &before), Vec::<String>::new());
    her.erase(&admin, &home).await;
    assert_eq!(hers.found(&home.contents().await), Vec::<String>::new(), "while it serves");
    assert!(!his.found(&home.contents().await).is_empty());
    let stopped = server.stop();
    assert_eq!(hers.found(&home.contents().await), Vec::<String>::new(), "at rest");
    let log = [("the server's log".to_owned(), stopped.log().as_bytes().to_vec())].into();
    assert_eq!(hers.found(&log), Vec::<String>::new());
    assert!(stopped.log().contains("attempt ended"), "the log was read");
}

#[rstest]
#[case::embedded(Mode::Embedded)]
#[case::postgres(Mode::Postgres)]
#[tokio::test]
async fn the_search_finds_a_raw_key_in_every_form(#[case] mode: Mode) {
    let home = Home::new(mode).await;
    let server = home.launch.clone().start();
    let admin = Client::admin(&server).await;
    let secrets = home.secrets_of(Uuid::parse_str(admin.user_id()).unwrap()).await;
    let found = async || search::found("it", &secrets.raw, &home.contents().await);
    assert_eq!(found().await, Vec::<String>::new());
    for (form, written) in search::forms(&secrets.raw) {
        home.plant(&[b"before ", &*written, b" behind"].concat()).await;
        let places = found().await;
        assert!(places.contains(&format!("it as {form} in planted")), "{form}: {places:?}");
        let in_database = places.iter().any(|place| place.contains("base/"));
        assert_eq!(in_database, mode == Mode::Postgres, "{form}: {places:?}");
        home.unplant().await;
    }
    assert_eq!(found().await, Vec::<String>::new());
}

#[rstest]
#[case::embedded(Mode::Embedded)]
#[case::postgres(Mode::Postgres)]
#[tokio::test]
async fn words_of_the_erased_are_null_live_and_rebuilt_and_their_streams_still_decide(#[case] mode: Mode) {
    let home = Home::new(mode).await;
    let (server, admin, her, him) = two_people(&home).await;
    let notified = her.client.get("/api/v1/notifications").await.expect(200).items();
    assert!(notified.iter().any(|item| item["body"] == HER_WORDS), "{notified:?}");
    her.erase(&admin, &home).await;
    her.client.get("/api/v1/session").await.problem(401);
    let live = her.expect_erased(&admin).await;
    let (server, admin) = rebuilt(&home, server.stop(), &admin).await;
    let again = her.expect_erased(&admin).await;
    assert_eq!(places(&live), places(&again)[..live.len()]);
    expect_decisions(&admin, &her, &him).await;
    let (_server, admin) = rebuilt(&home, server.kill9(), &admin).await;
    her.expect_erased(&admin).await;
}

fn places(events: &[Event]) -> Vec<(u64, String, u64, String)> {
    let place = |event: &Event| (event.position, event.subject.clone(), event.sequence, event.kind.clone());
    events.iter().map(place).collect()
}

/// Streams that hold erased parts, and one that does not, still take commands; what they decide is read back.
async fn expect_decisions(admin: &Client, her: &Person, him: &Person) {
    let status = async |id: &str| admin.task_ended(id).await["status"].clone();
    admin.order(&format!("/api/v1/tasks/{}/cancel", her.done)).await.problem(409);
    admin.order(&format!("/api/v1/tasks/{}/retry", her.waiting)).await.problem(422);
    let retried = admin.order(&format!("/api/v1/tasks/{}/retry", her.failed)).await.expect(200);
    views_reach(admin, retried.position()).await;
    assert_eq!(status(&her.failed).await, "cancelled", "nobody can read what it was to do");
    admin.order(&format!("/api/v1/tasks/{}/cancel", him.waiting)).await.expect(200);
    assert_eq!(status(&him.waiting).await, "cancelled");
    admin.delete(&format!("/api/v1/users/{}", her.id)).await.expect(200);
    // The instance's own stream, which names her nowhere, decides who administers.
    admin.colleague("third", &["admin"]).await;
    // Her address is free again.
    let other = admin.colleague("her", &["member"]).await;
    assert_ne!(other.user_id(), her.id.to_string());
}
