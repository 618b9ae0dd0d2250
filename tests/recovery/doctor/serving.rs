//! `marvin doctor` beside a server that runs: that server looks, and goes on as if nobody had asked.
use rusqlite::Connection;
use serde_json::json;
use std::{
    fs,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use super::{Diagnosis, diagnose, views_at_rest};
use crate::{
    kills::views_reach,
    planting::long_history,
    support::{Client, Launch, Server, eventually},
};

/// Events that a debug build replays for a second or two.
const LONG_HISTORY: usize = 30_000;

/// A running server with a few tasks done, every view at the log's end, and the directory that its replays go to.
struct Served {
    server: Server,
    admin: Client,
    replays: TempDir,
    head: u64,
}

impl Served {
    async fn start() -> Self {
        let replays = tempfile::tempdir().unwrap();
        let server = Launch::with_admin().set("TMPDIR", replays.path().to_str().unwrap()).start();
        let admin = Client::admin(&server).await;
        let agent = admin.agent("rules", json!({ "rules": [] })).await;
        admin.schedule(&agent).await;
        for marker in 0..3 {
            admin.task_done(&agent, json!({ "marker": marker })).await;
        }
        let head = views_at_rest(&admin, 3).await;
        Self { server, admin, replays, head }
    }

    /// With a log that is not replayed at once.
    async fn with_a_long_log() -> Self {
        let Self { server, admin, replays, .. } = Self::start().await;
        let stopped = server.stop();
        let head = long_history(stopped.launch(), LONG_HISTORY).await;
        let server = stopped.start();
        let admin = admin.at(&server);
        views_reach(&admin, head).await;
        Self { server, admin, replays, head }
    }

    fn replays(&self) -> usize {
        fs::read_dir(self.replays.path()).unwrap().count()
    }

    async fn diagnose(&self) -> Diagnosis {
        let launch = self.server.launch().clone();
        spawn_blocking(move || diagnose(&launch)).await.unwrap()
    }

    /// Asks for a comparison, and waits until it is under way.
    async fn begin(&self) -> Child {
        let mut command = self.server.launch().command(&["doctor", "--views"]);
        let asker = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        eventually("a comparison is under way", async || (self.replays() > 0).then_some(())).await;
        asker
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").arg(signal).arg(self.server.pid().to_string()).status();
        assert!(kill.unwrap().success());
    }

    async fn alter(&self, sql: &str) {
        match self.server.launch().database() {
            Some(database) => database.views_stranger().await.batch_execute(sql).await.unwrap(),
            None => {
                let views = Connection::open(self.server.data_dir().join("views.db")).unwrap();
                views.execute_batch(sql).unwrap();
            }
        }
    }
}

async fn ended(asker: Child) -> (i32, String) {
    let Output { status, stdout, stderr } = spawn_blocking(|| asker.wait_with_output()).await.unwrap().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

/// What it said of the log and its history.
fn of_the_log(text: &str) -> (&str, &str) {
    let log = text.lines().find(|line| line.starts_with("log: ")).unwrap();
    (log, text.lines().find(|line| line.starts_with("history: ")).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_says_what_a_stopped_one_would_but_for_what_is_checked_at_a_start() {
    let served = Served::start().await;
    let (running, head) = (served.diagnose().await, served.head);
    running.expect_equal(head);
    assert_eq!(served.replays(), 0, "nothing is left of the replay");
    assert_eq!(served.admin.head().await, head, "nothing is appended");
    let launch = served.server.launch().clone();
    let stopped = served.server.stop();
    let own = diagnose(stopped.launch());
    own.expect_equal(head);
    assert_eq!(running.views, own.views);
    let ((log_then, history_then), (log, history)) = (of_the_log(&running.text), of_the_log(&own.text));
    assert_eq!(history_then, history);
    let (checked_then, checked) = match launch.database() {
        Some(_) => ("", ""),
        None => (", every file passed its check when the server started", ", every file passes its check"),
    };
    assert_eq!(log_then, format!("log: {head} events{checked_then}"));
    assert_eq!(log, format!("log: {head} events{checked}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_altered_under_a_running_server_is_named_and_left_as_it_is() {
    let served = Served::start().await;
    served.alter("UPDATE view_tasks_4_1 SET status = 'queued', body = body").await;
    let first = served.diagnose().await;
    assert_eq!(first.exit, 1, "{}", first.text);
    assert_eq!(first.views["tasks"], (3, served.head, 3), "{}", first.text);
    assert_eq!(first.text.matches("differs: it has other index fields").count(), 3, "{}", first.text);
    assert!(first.text.contains("`marvin rebuild tasks` builds them anew"), "{}", first.text);
    let again = served.diagnose().await;
    assert_eq!((again.exit, again.views), (1, first.views), "looking mends nothing");
    let launch = served.server.launch().clone();
    let rebuilt = spawn_blocking(move || launch.run(&["rebuild", "tasks"])).await.unwrap();
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    let after = served.diagnose().await;
    assert_eq!(after.exit, 0, "{}", after.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_it_is_compared_differs_in_nothing() {
    let served = Served::with_a_long_log().await;
    let agent = served.admin.agent("rules", json!({ "rules": [] })).await;
    let compared = AtomicBool::new(false);
    let working = async {
        let mut ids = Vec::new();
        while !compared.load(Ordering::SeqCst) || ids.len() < 10 {
            ids.push(served.admin.submit(&agent, json!({ "marker": ids.len() })).await.id());
        }
        ids
    };
    let comparing = async {
        let diagnosis = served.diagnose().await;
        compared.store(true, Ordering::SeqCst);
        diagnosis
    };
    let (ids, diagnosis) = tokio::join!(working, comparing);
    assert_eq!(diagnosis.exit, 0, "{}", diagnosis.text);
    assert!(diagnosis.views.len() == 6 && diagnosis.views.values().all(|(.., differ)| *differ == 0), "{diagnosis:?}");
    for id in ids {
        assert_eq!(served.admin.task_ended(&id).await["status"], "completed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_compared_for_one_at_a_time() {
    let served = Served::with_a_long_log().await;
    let first = served.begin().await;
    let second = served.diagnose().await;
    assert_eq!(second.exit, 1, "{}", second.text);
    assert!(second.text.contains("are being compared for somebody else: ask again"), "{}", second.text);
    assert!(second.text.contains(&format!("log: {} events", served.head)), "all else is said: {}", second.text);
    let (exit, text) = ended(first).await;
    assert_eq!(exit, 0, "{text}");
    let third = served.diagnose().await;
    assert_eq!(third.exit, 0, "{}", third.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_ends_with_whoever_asked_for_it() {
    let served = Served::with_a_long_log().await;
    let mut asker = served.begin().await;
    // The server stands still, so that the asker surely goes away in the middle.
    served.signal("-STOP");
    assert_eq!(served.replays(), 1);
    asker.kill().unwrap();
    asker.wait().unwrap();
    served.signal("-CONT");
    eventually("it is given up", async || {
        served.server.log().contains("a comparison of the views was given up").then_some(())
    })
    .await;
    assert!(!served.server.log().contains("the views were compared"), "{}", served.server.log());
    assert_eq!(served.replays(), 0, "nothing is left of the replay");
    served.diagnose().await.expect_equal(served.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_gives_a_comparison_up_and_says_so() {
    let served = Served::with_a_long_log().await;
    let asker = served.begin().await;
    served.signal("-STOP");
    assert_eq!(served.replays(), 1);
    served.signal("-TERM");
    served.signal("-CONT");
    let (exit, text) = ended(asker).await;
    assert_eq!(exit, 1, "{text}");
    // It may end before it has said so.
    let told =
        ["the server is being stopped, and the comparison with it", "ended, or was too busy, before it answered"];
    assert!(told.iter().any(|told| text.contains(told)), "{text}");
    let Served { server, replays, head, .. } = served;
    let stopped = server.stop();
    assert!(stopped.log().contains("a comparison of the views was given up"), "{}", stopped.log());
    assert_eq!(fs::read_dir(replays.path()).unwrap().count(), 0, "nothing is left of the replay");
    diagnose(stopped.launch()).expect_equal(head);
}
