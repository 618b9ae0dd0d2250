//! A log that was set back: refused by name and position until somebody accepts it, and then whole again.
use serde_json::json;
use std::{collections::BTreeSet, fs};

use super::{
    doctor::diagnose,
    files::{copy_of, expect_unchanged, snapshot},
    kills::views_reach,
    refusals::{expect_refused, refusal},
    support::{Client, Launch, Server, Stopped, eventually, user},
};

/// Gives an agent these tasks, and waits until all is done and seen by every view; answers where the log ends.
async fn work(server: &Server, tasks: u64) -> u64 {
    let admin = Client::admin(server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.schedule(&agent).await;
    let told = async || admin.get("/api/v1/notifications?limit=200").await.expect(200).items().len() as u64;
    let before = told().await;
    for marker in 0..tasks {
        admin.task_done(&agent, json!({ "marker": marker })).await;
    }
    eventually("everyone is told", async || (told().await == before + tasks).then_some(())).await;
    let head = admin.head().await;
    views_reach(&admin, head).await;
    head
}

/// A stopped server, where its log ends, and one that went on from there to another end.
struct Backup {
    early: Stopped,
    early_end: u64,
    later: Stopped,
    later_end: u64,
}

async fn backup() -> Backup {
    let server = Server::start();
    let early_end = work(&server, 1).await;
    let early = server.stop();
    let server = copy_of(&early).start();
    let later_end = work(&server, 2).await;
    Backup { early, early_end, later: server.stop(), later_end }
}

fn put_log(from: &Stopped, to: &Launch) {
    fs::copy(from.data_dir().join("log.db"), to.data_dir().join("log.db")).unwrap();
}

/// The standard output of a doctor that ended well.
#[track_caller]
fn doctor(launch: &Launch, flags: &[&str]) -> String {
    let output = launch.run(&[&["doctor"], flags].concat());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// The line that names the log's present history.
#[track_caller]
fn history(said: &str) -> String {
    said.lines().find(|line| line.starts_with("history: ")).unwrap_or_else(|| panic!("{said}")).to_owned()
}

/// Accepts, and expects that this draws a history behind `end`, that the server starts, and that its views equal a replay.
async fn expect_accepted(launch: Launch, end: u64, old: &str) -> Server {
    let said = doctor(&launch, &["--accept-rollback"]);
    println!("{said}");
    for view in [
        "view_agents_1_1",
        "view_inbox_1_1",
        "view_schedules_1_1",
        "view_steps_1_1",
        "view_tasks_4_1",
        "view_users_1_1",
    ] {
        assert!(said.contains(&format!("rollback: views.db: {view} was at position ")), "{said}");
    }
    let new = history(&said);
    assert_ne!(new, old);
    assert!(new.ends_with(&format!("behind position {end}")), "{new}");
    let before = snapshot(launch.data_dir());
    let said = doctor(&launch, &["--accept-rollback"]);
    assert!(said.contains("nothing was changed"), "{said}");
    assert_eq!(history(&said), new, "accepting what fits draws no history");
    expect_unchanged(&before, &snapshot(launch.data_dir()));
    let server = launch.start();
    let admin = Client::admin(&server).await;
    views_reach(&admin, end).await;
    assert_eq!(admin.head().await, end, "what was reacted to before is not reacted to again");
    let head = work(&server, 1).await;
    let stopped = server.stop();
    diagnose(stopped.launch()).expect_equal(head);
    assert_eq!(history(&doctor(stopped.launch(), &[])), new);
    stopped.start()
}

#[tokio::test]
async fn an_older_log_under_newer_views_is_refused_until_it_is_accepted() {
    let Backup { early, early_end, later, later_end } = backup().await;
    let old = history(&doctor(later.launch(), &[]));
    put_log(&early, later.launch());
    let reason = format!(
        "views.db has followed the log to position {later_end} (view_agents_1_1), but log.db ends at {early_end}"
    );
    expect_refused(later.launch(), &reason);
    let sentence = refusal(later.launch().command(&["doctor", "--views"]));
    assert!(sentence.contains(&reason) && sentence.contains("`marvin doctor --accept-rollback`"), "{sentence}");
    expect_accepted(later.launch().clone(), early_end, &old).await;
}

#[tokio::test]
async fn a_cursor_outlives_a_restart_and_no_accepted_rollback() {
    let Backup { early, later, .. } = backup().await;
    let server = later.start();
    let admin = Client::admin(&server).await;
    let tasks = admin.get("/api/v1/tasks?limit=1").await.expect(200).json();
    let path = format!("/api/v1/tasks?cursor={}", tasks["next_cursor"].as_str().unwrap());
    let server = server.stop().start();
    let rest = admin.at(&server).get(&path).await.expect(200).items();
    assert_eq!(rest.len(), 2, "the restart changed nothing: {rest:?}");
    let stopped = server.stop();
    put_log(&early, stopped.launch());
    doctor(stopped.launch(), &["--accept-rollback"]);
    let server = stopped.start();
    let refused = Client::admin(&server).await.get(&path).await;
    refused.problem(400);
    assert_eq!(refused.pointers(), ["/cursor"]);
}

#[tokio::test]
async fn an_older_log_that_has_grown_past_the_old_end_is_told_by_its_events() {
    let Backup { early, later, later_end, .. } = backup().await;
    let server = copy_of(&early).start();
    let other_end = work(&server, 4).await;
    assert!(other_end > later_end, "else the position alone would tell");
    let other = server.stop();
    let old = history(&doctor(other.launch(), &[]));
    put_log(&other, later.launch());
    let reason =
        format!("followed the log to position {later_end} (view_agents_1_1), but log.db holds another event there");
    expect_refused(later.launch(), &reason);
    expect_accepted(later.launch().clone(), other_end, &old).await;
}

#[tokio::test]
async fn followers_beside_the_events_are_compared_too() {
    let Backup { early, early_end, .. } = backup().await;
    for (position, found) in
        [(early_end + 1, format!("ends at {early_end}")), (2, "holds another event there".to_owned())]
    {
        let launch = copy_of(&early);
        let forge = format!("INSERT OR REPLACE INTO checkpoints VALUES ('notify_requester', {position}, zeroblob(16))");
        rusqlite::Connection::open(launch.data_dir().join("log.db")).unwrap().execute_batch(&forge).unwrap();
        expect_refused(
            &launch,
            &format!("log.db has followed the log to position {position} (notify_requester), but log.db {found}"),
        );
        let said = doctor(&launch, &["--accept-rollback"]);
        let accepted: Vec<_> = said.lines().filter(|line| line.starts_with("rollback: ")).collect();
        assert_eq!(
            accepted,
            [format!("rollback: log.db: notify_requester was at position {position} and begins anew")]
        );
        // It reads the log from its first event, and finds everybody told already.
        let server = launch.start();
        let admin = Client::admin(&server).await;
        let head = work(&server, 1).await;
        let raised = admin.get("/api/v1/events?limit=1000&types=notification.raised").await.expect(200).json();
        let about: Vec<_> = raised.as_array().unwrap().iter().map(|event| event["causationid"].to_string()).collect();
        assert_eq!(about.iter().collect::<BTreeSet<_>>().len(), about.len(), "nobody is told twice: {about:?}");
        diagnose(server.stop().launch()).expect_equal(head);
    }
}

#[tokio::test]
async fn keys_that_followed_a_longer_log_stop_the_start_also_without_views() {
    let early = Server::start().stop();
    let server = copy_of(&early).start();
    let admin = Client::admin(&server).await;
    let created = admin.post("/api/v1/users", &user("bob@example.org", "Bob", &["member"])).await.expect(201);
    let erased = admin.delete(&format!("/api/v1/users/{}", created.id())).await.expect(200);
    views_reach(&admin, erased.position()).await;
    eventually("the erasure is carried out", async || {
        let login = json!({ "email": "bob@example.org", "password": super::support::PASSWORD });
        (Client::stranger(&server).post("/api/v1/session", &login).await.status == 401).then_some(())
    })
    .await;
    let later = server.stop();
    put_log(&early, later.launch());
    fs::remove_file(later.data_dir().join("views.db")).unwrap();
    let sentence = refusal(later.launch().command(&["serve"]));
    assert!(
        sentence.contains("subjects.db has followed the log to position ") && sentence.contains("(erasure)"),
        "{sentence}"
    );
    let said = doctor(later.launch(), &["--accept-rollback"]);
    assert!(said.contains("rollback: subjects.db: erasure was at position "), "{said}");
    let server = later.start();
    let admin = Client::admin(&server).await;
    // The address is free again: the log knows nobody who has it.
    admin.post("/api/v1/users", &user("bob@example.org", "Bob", &["member"])).await.expect(201);
}

#[tokio::test]
async fn a_person_whose_erasure_was_cut_off_with_the_log_is_erased_again_and_stops_no_reader() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let (bob, kept) = (admin.colleague("bob", &["admin"]).await, admin.colleague("kept", &["member"]).await);
    let early = server.stop();
    let server = copy_of(&early).start();
    let admin = admin.at(&server);
    let erased = admin.delete(&format!("/api/v1/users/{}", bob.user_id())).await.expect(200);
    views_reach(&admin, erased.position()).await;
    eventually("the erasure is carried out", async || {
        (bob.at(&server).get("/api/v1/session").await.status == 401).then_some(())
    })
    .await;
    let later = server.stop();
    put_log(&early, later.launch());
    let said = doctor(later.launch(), &["--accept-rollback"]);
    assert!(said.contains(&format!("the erasure of user {} is recorded again", bob.user_id())), "{said}");
    assert!(!said.contains(kept.user_id()), "{said}");
    let server = later.start();
    let admin = admin.at(&server);
    let head = admin.head().await;
    views_reach(&admin, head).await;
    let shown = admin.get(&format!("/api/v1/users/{}", bob.user_id())).await.expect(200).json();
    assert_eq!((&shown["status"], &shown["email"]), (&json!("erased"), &json!(null)));
    admin.get(&format!("/api/v1/users/{}", kept.user_id())).await.expect(200);
    let removed = admin.get("/api/v1/events?limit=1000&types=instance.administrator_removed").await.expect(200).json();
    assert_eq!(removed[0]["data"]["facts"]["user"], json!(bob.user_id()));
    assert_eq!(Client::stranger(&server).get("/readyz").await.expect(200).json()["degraded"], json!([]));
}

#[tokio::test]
async fn nothing_is_accepted_while_a_server_runs() {
    let server = Server::start();
    let sentence = refusal(server.launch().command(&["doctor", "--accept-rollback"]));
    assert!(sentence.contains("so stop that first") && sentence.contains("is in use by another process"), "{sentence}");
    Client::admin(&server).await;
    let stopped = server.stop();
    let before = history(&doctor(stopped.launch(), &[]));
    let said = doctor(stopped.launch(), &["--accept-rollback"]);
    assert!(said.contains("nothing was changed") && history(&said) == before, "{said}");
}
