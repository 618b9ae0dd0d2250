//! `marvin backup` while people work: what was acknowledged before it is there after a restore, and every word opens.
use serde_json::json;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::Output,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    doctor::diagnose,
    files::{expect_unchanged, snapshot},
    journal::{self, Event},
    kills::{all_ended, views_reach},
    load::{Agents, Load},
    random::Random,
    support::{Client, Launch, Server, eventually},
};

/// Tasks acknowledged before the backup, and while it runs or after it.
const BEFORE: usize = 60;
const AFTER: usize = 20;
/// Backups taken while people come and go.
const BACKUPS: usize = 4;
/// People who have come and gone before the first of them, and between two.
const COME_AND_GONE: usize = 3;

/// Runs a command beside what else goes on in the test.
async fn run(launch: &Launch, arguments: &[&str]) -> Output {
    let (launch, arguments) = (launch.clone(), arguments.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let words = move || launch.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(words).await.unwrap()
}

/// Backs up into `directory`; answers what it said.
async fn back_up(launch: &Launch, directory: &Path) -> String {
    let output = run(launch, &["backup", directory.to_str().unwrap()]).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A data directory made of a backup and the key file, as the operating instructions say.
fn restored(backup: &Path, key_file: &Path) -> Launch {
    let launch = Launch::with_admin();
    for name in ["log.db", "subjects.db"] {
        fs::copy(backup.join(name), launch.data_dir().join(name)).unwrap();
    }
    fs::copy(key_file, launch.data_dir().join("master.key")).unwrap();
    launch
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_restores_everything_acknowledged_before_it() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let people = vec![admin.clone(), admin.colleague("bea", &["member"]).await];
    let agents = Agents::create(&admin).await;
    let load = Load::new(Random::printed().next(), agents);
    let place = tempfile::tempdir().unwrap();
    let (backup, key) = (place.path().join("backup"), place.path().join("key"));
    fs::copy(server.data_dir().join("master.key"), &key).unwrap();
    let launch = server.launch().clone();
    let backing_up = async {
        eventually("enough is acknowledged", async || (load.count() >= BEFORE).then_some(())).await;
        let before: Vec<String> = load.acknowledged.lock().unwrap().iter().map(|(_, id)| id.clone()).collect();
        let said = back_up(&launch, &backup).await;
        let during = load.count() - before.len();
        eventually("people go on", async || (load.count() >= before.len() + AFTER).then_some(())).await;
        println!("{} acknowledged before, {during} while it ran: {said}", before.len());
        drop(server);
        (before, said)
    };
    let ((before, said), ()) = tokio::join!(backing_up, load.submit_until_it_dies(&people));

    let server = restored(&backup, &key).start();
    let admin = Client::admin(&server).await;
    let mut events: Vec<Event> = Vec::new();
    journal::read_on(&admin, &mut events).await;
    journal::check_contiguous(&events);
    let told: usize = said.split("log.db with ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(told <= events.len(), "{told} events were told, {} are there", events.len());
    let tasks = journal::tasks(&events);
    let lost: Vec<&String> = before.iter().filter(|id| !tasks.contains_key(id.as_str())).collect();
    assert!(lost.is_empty(), "acknowledged before the backup and not in it: {lost:?}");
    let events = all_ended(&admin).await;
    let head = events.last().unwrap().position;
    views_reach(&admin, head).await;
    diagnose(server.stop().launch()).expect_equal(head);
}

/// Somebody registers, leaves words and is erased, again and again.
async fn come_and_go(admin: &Client, agent: &str, name: &str, gone: &AtomicBool, stop: &AtomicBool) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) {
        let person = admin.colleague(&format!("{name}{count}"), &["member"]).await;
        person.submit(agent, json!({ "words": "of a person" })).await;
        admin.delete(&format!("/api/v1/users/{}", person.user_id())).await.expect(200);
        count += 1;
        gone.store(count >= COME_AND_GONE, Ordering::SeqCst);
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn every_backup_opens_whoever_came_and_went_while_it_was_taken() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let (place, launch) = (tempfile::tempdir().unwrap(), server.launch().clone());
    let (gone, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let backing_up = async {
        eventually("people have come and gone", async || gone.load(Ordering::SeqCst).then_some(())).await;
        for n in 0..BACKUPS {
            back_up(&launch, &place.path().join(n.to_string())).await;
        }
        stop.store(true, Ordering::SeqCst);
    };
    let ((), first, second) = tokio::join!(
        backing_up,
        come_and_go(&admin, &agent, "one", &gone, &stop),
        come_and_go(&admin, &agent, "two", &gone, &stop)
    );
    println!("{} people came and went", first + second);
    let stopped = server.kill9();
    for n in 0..BACKUPS {
        let launch = restored(&place.path().join(n.to_string()), &stopped.data_dir().join("master.key"));
        let server = launch.start();
        let admin = Client::admin(&server).await;
        let mut events: Vec<Event> = Vec::new();
        journal::read_on(&admin, &mut events).await;
        journal::check_contiguous(&events);
        views_reach(&admin, admin.head().await).await;
        let ready = admin.get("/readyz").await.expect(200).json();
        assert_eq!(ready["degraded"], json!([]), "backup {n}");
    }
}

#[tokio::test]
async fn a_backup_holds_two_files_for_its_owner_and_no_key() {
    let server = Server::start();
    let place = tempfile::tempdir().unwrap();
    let said = back_up(server.launch(), &place.path().join("serving")).await;
    let key_file = server.data_dir().join("master.key");
    assert!(said.contains("the key is not") && said.contains(key_file.to_str().unwrap()), "{said}");
    let stopped = server.stop();
    back_up(stopped.launch(), &place.path().join("stopped")).await;
    for which in ["serving", "stopped"] {
        let directory = place.path().join(which);
        let files = snapshot(&directory);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["log.db", "subjects.db"], "{which}");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join("subjects.db"))), (0o700, 0o600), "{which}");
        Client::admin(&restored(&directory, &key_file).start()).await;
    }
}

#[tokio::test]
async fn a_backup_that_cannot_be_made_is_refused_and_changes_nothing() {
    let server = Server::start();
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("note"), "mine").unwrap();
    let into = |launch: Launch, path: &Path| {
        let path = path.to_str().unwrap().to_owned();
        async move { refused(&run(&launch, &["backup", &path]).await) }
    };
    let before = snapshot(place.path());
    let sentence = into(server.launch().clone(), place.path()).await;
    assert!(sentence.contains("is not empty"), "{sentence}");
    assert!(snapshot(place.path()) == before);
    let sentence = into(server.launch().clone(), &place.path().join("note/below")).await;
    assert!(sentence.contains("cannot be written"), "{sentence}");
    let sentence = into(server.launch().clone(), server.data_dir()).await;
    assert!(sentence.contains("is not empty"), "{sentence}");
    Client::admin(&server).await;
    let mistyped = place.path().join("no-data");
    let launch = Launch::with_admin().set("MARVIN_DATA_DIR", mistyped.to_str().unwrap());
    let sentence = into(launch, &place.path().join("backup")).await;
    assert!(sentence.contains("holds no log"), "{sentence}");
    assert!(!mistyped.exists() && !place.path().join("backup").exists());
}

#[tokio::test]
async fn half_a_backup_does_not_start() {
    let stopped = Server::start().stop();
    let place = tempfile::tempdir().unwrap();
    back_up(stopped.launch(), &place.path().join("whole")).await;
    for missing in ["log.db", "subjects.db"] {
        let launch = restored(&place.path().join("whole"), &stopped.data_dir().join("master.key"));
        fs::remove_file(launch.data_dir().join(missing)).unwrap();
        let before = snapshot(launch.data_dir());
        let sentence = refused(&run(&launch, &["serve"]).await);
        assert!(sentence.contains(&format!("{missing} is missing")), "{sentence}");
        expect_unchanged(&before, &snapshot(launch.data_dir()));
    }
}
