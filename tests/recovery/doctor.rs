//! `marvin doctor --views` as a fresh process: every document against a replay of the log into an empty store.
use rstest::rstest;
use rusqlite::Connection;
use serde_json::json;
use std::collections::BTreeMap;
use uuid::Uuid;

use super::{
    kills::views_reach,
    support::{Client, Launch, Server, Stopped, eventually},
};

mod serving;

/// What it said.
#[derive(Debug)]
pub struct Diagnosis {
    pub exit: i32,
    pub text: String,
    /// By view: documents, position, and how many differ.
    pub views: BTreeMap<String, (u64, u64, u64)>,
}

pub fn diagnose(launch: &Launch) -> Diagnosis {
    let output = launch.run(&["doctor", "--views"]);
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let views = text.lines().filter_map(view).collect();
    Diagnosis { exit: output.status.code().unwrap(), text, views }
}

/// Reads `tasks: 12 documents at position 34, 0 differ from a replay`.
fn view(line: &str) -> Option<(String, (u64, u64, u64))> {
    let (name, rest) = line.split_once(": ")?;
    let (documents, rest) = rest.split_once(" documents at position ")?;
    let (position, rest) = rest.split_once(", ")?;
    let differ = rest.strip_suffix(" differ from a replay")?;
    Some((name.to_owned(), (documents.parse().ok()?, position.parse().ok()?, differ.parse().ok()?)))
}

impl Diagnosis {
    /// # Panics
    /// Unless every view has documents, is at `head`, and differs in none of them.
    #[track_caller]
    pub fn expect_equal(&self, head: u64) {
        assert_eq!(self.exit, 0, "{}", self.text);
        let names: Vec<&str> = self.views.keys().map(String::as_str).collect();
        assert_eq!(names, ["agents", "inbox", "schedules", "steps", "tasks", "users"], "{}", self.text);
        for (name, (documents, position, differ)) in &self.views {
            assert!(*documents > 0, "{name} has no documents: {}", self.text);
            assert_eq!((*position, *differ), (head, 0), "{name}: {}", self.text);
        }
    }
}

/// A stopped server with a few tasks done, every view at the log's end; and that end.
async fn stopped_after_some_work() -> (Stopped, u64) {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.schedule(&agent).await;
    for marker in 0..3 {
        admin.task_done(&agent, json!({ "marker": marker })).await;
    }
    let head = views_at_rest(&admin, 3).await;
    (server.stop(), head)
}

/// Waits until `told` notifications are there and every view shows the whole log; answers its end.
async fn views_at_rest(admin: &Client, told: usize) -> u64 {
    eventually("everyone is told", async || {
        let items = admin.get("/api/v1/notifications").await.expect(200).items();
        (items.len() == told).then_some(())
    })
    .await;
    let head = admin.head().await;
    views_reach(admin, head).await;
    head
}

fn views_db(stopped: &Stopped) -> Connection {
    Connection::open(stopped.data_dir().join("views.db")).unwrap()
}

#[tokio::test]
async fn every_altered_document_is_found_and_named() {
    let (stopped, head) = stopped_after_some_work().await;
    diagnose(stopped.launch()).expect_equal(head);
    let whole = std::fs::read(stopped.data_dir().join("views.db")).unwrap();
    let ids: Vec<Vec<u8>> = {
        let connection = views_db(&stopped);
        let mut statement = connection.prepare("SELECT id FROM view_tasks_4_1 ORDER BY id").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let name = Uuid::from_slice(&ids[0]).unwrap().to_string();
    for alter in [
        "DELETE FROM view_tasks_4_1 WHERE id = ?1",
        "UPDATE view_tasks_4_1 SET status = 'queued' WHERE id = ?1",
        "UPDATE view_tasks_4_1 SET position = position + 1 WHERE id = ?1",
        "UPDATE view_tasks_4_1 SET body = (SELECT body FROM view_tasks_4_1 WHERE id > ?1) WHERE id = ?1",
    ] {
        assert_eq!(views_db(&stopped).execute(alter, [&ids[0]]).unwrap(), 1, "{alter}");
        let diagnosis = diagnose(stopped.launch());
        assert_eq!(diagnosis.exit, 1, "{alter}: {}", diagnosis.text);
        assert!(diagnosis.text.contains(&name), "{alter}: {}", diagnosis.text);
        std::fs::write(stopped.data_dir().join("views.db"), &whole).unwrap();
    }
    diagnose(stopped.launch()).expect_equal(head);
}

#[rstest]
#[case::dropped("DROP TABLE view_tasks_4_1", "no such table: view_tasks_4_1")]
#[case::without_a_column("ALTER TABLE view_tasks_4_1 DROP COLUMN body", "no such column: body")]
#[tokio::test]
async fn a_table_that_was_damaged_is_found_and_a_rebuild_mends_it(#[case] damage: &str, #[case] reason: &str) {
    let (stopped, head) = stopped_after_some_work().await;
    views_db(&stopped).execute_batch(damage).unwrap();
    let diagnosis = diagnose(stopped.launch());
    assert_eq!(diagnosis.exit, 1, "{}", diagnosis.text);
    let named: Vec<&str> = diagnosis.views.keys().map(String::as_str).collect();
    assert_eq!(
        named,
        ["agents", "inbox", "schedules", "steps", "users"],
        "the others are compared: {}",
        diagnosis.text
    );
    let said = |words: &str| diagnosis.text.lines().any(|line| line.contains(words));
    assert!(said("tasks: its documents cannot be read") && said(reason), "{}", diagnosis.text);
    assert!(said("`marvin rebuild tasks`"), "{}", diagnosis.text);

    let server = stopped.start();
    let rebuilt = server.launch().run(&["rebuild", "tasks"]);
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    let admin = Client::admin(&server).await;
    assert_eq!(admin.get("/api/v1/tasks").await.expect(200).items().len(), 3);
    diagnose(server.stop().launch()).expect_equal(head);
}

#[tokio::test]
async fn deleted_views_are_built_anew_from_the_log() {
    let (stopped, head) = stopped_after_some_work().await;
    stopped.launch().drop_views().await;
    let unbuilt = diagnose(stopped.launch());
    assert_eq!((unbuilt.exit, unbuilt.views.len()), (3, 0), "{}", unbuilt.text);
    assert!(unbuilt.text.contains("tasks: nothing to compare, since no table of this version is built yet"));
    let server = stopped.start();
    let admin = Client::admin(&server).await;
    assert_eq!(views_at_rest(&admin, 3).await, head, "building anew appends nothing");
    diagnose(server.stop().launch()).expect_equal(head);
}
