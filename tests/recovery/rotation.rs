//! `marvin keys rotate` while people register and sign in, and killed at any moment.
use marvin::security::{
    keyfile::MasterKey,
    subjects::{SqliteSubjects, SubjectStore},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use uuid::Uuid;

use super::{
    files::copy_of,
    random::Random,
    support::{Client, DEADLINE, Launch, PASSWORD, Server, Stopped, eventually},
};

/// Rotations in a row while people come.
const ROTATIONS: usize = 3;
/// Kills, each at a moment of its own; and at most, until as many have met a rotation: a fast machine is often done before.
const KILLS: usize = 6;
const KILLS_MAX: usize = 60;
const CUT_SHORT_MIN: usize = 2;
/// Answers of the server between the begin of a rotation and its kill, at most: a rotation takes about as long.
const ANSWERS_MAX: u64 = 12;
/// Keys beside those of people who sign in, so that a rotation takes its time.
const CROWD: usize = 2_000;

fn key_file(directory: &Path) -> PathBuf {
    directory.join("master.key")
}

fn lines(directory: &Path) -> Vec<String> {
    fs::read_to_string(key_file(directory)).unwrap().lines().map(str::to_owned).collect()
}

async fn rotate(launch: &Launch) -> Output {
    let launch = launch.clone();
    tokio::task::spawn_blocking(move || launch.run(&["keys", "rotate"])).await.unwrap()
}

/// How many keys it says were rewrapped.
fn rewrapped(output: &Output) -> usize {
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    said.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{said}"))
}

/// Starts on a copy with another key file, which must be refused.
#[track_caller]
fn expect_refused(stopped: &Stopped, old_line: &str) {
    let launch = copy_of(stopped);
    fs::write(key_file(launch.data_dir()), format!("{old_line}\n")).unwrap();
    let output = launch.run(&["doctor"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("was made with another key"), "{said}");
}

/// People who register and sign in until they are told to stop; answers their emails.
async fn register(admin: &Client, name: &str, stop: &AtomicBool) -> Vec<String> {
    let mut emails = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let name = format!("{name}{}", emails.len());
        admin.colleague(&name, &["member"]).await;
        emails.push(format!("{name}@example.org"));
    }
    emails
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_while_people_register_and_sign_in_loses_nobody() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let first = lines(server.data_dir());
    let (stop, launch) = (AtomicBool::new(false), server.launch().clone());
    let rotating = async {
        for _ in 0..ROTATIONS {
            let known = admin.get("/api/v1/users").await.expect(200).items().len();
            let count = rewrapped(&rotate(&launch).await);
            assert!(count >= known + 2, "{count} of at least {known} people and 2 keys of the instance");
            let before = known;
            eventually("somebody came since", async || {
                let now = admin.get("/api/v1/users").await.expect(200).items().len();
                (now > before).then_some(())
            })
            .await;
        }
        stop.store(true, Ordering::SeqCst);
    };
    let ((), mut emails, more) = tokio::join!(rotating, register(&admin, "one", &stop), register(&admin, "two", &stop));
    emails.extend(more);
    println!("{} people registered during {ROTATIONS} rotations", emails.len());
    let stopped = server.kill9();
    let now = lines(stopped.data_dir());
    assert!(now.len() == 1 && now != first);
    expect_refused(&stopped, &first[0]);
    let server = stopped.start();
    for email in &emails {
        let person = Client::sign_in(&server, email, PASSWORD).await;
        let seen = person.get(&format!("/api/v1/users/{}", person.user_id())).await.expect(200).json();
        assert_eq!(seen["email"], **email, "their words open");
    }
}

/// Adds keys of people who do nothing else.
async fn crowd(directory: &Path) {
    let key = Arc::new(MasterKey::load_or_create(&key_file(directory), false).unwrap());
    let subjects = SqliteSubjects::open(&directory.join("subjects.db"), key).await.unwrap();
    for n in 0..CROWD {
        subjects.register(Uuid::now_v7(), &format!("crowd{n}@example.org"), 0).await.unwrap();
    }
    subjects.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_killed_at_any_moment_opens_everything_and_is_finished_by_the_next() {
    let mut random = Random::printed();
    let stopped = Server::start().stop();
    crowd(stopped.data_dir()).await;
    let mut server = stopped.start();
    let (mut cut_short, mut keys_seen) = (0, vec![lines(server.data_dir())[0].clone()]);
    for kill in 1..=KILLS_MAX {
        if kill > KILLS && cut_short >= CUT_SHORT_MIN {
            break;
        }
        let admin = Client::admin(&server).await;
        let mut command = server.launch().command(&["keys", "rotate"]);
        let mut asking = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Begun: the file is another one.
        let old = keys_seen.last().unwrap().clone();
        // Looked at without a pause: a rotation takes no longer than one.
        let begun = Instant::now();
        while lines(server.data_dir()).first() == Some(&old) {
            assert!(begun.elapsed() < DEADLINE, "the rotation does not begin");
            std::thread::yield_now();
        }
        // The more kills came too late, the sooner the next.
        let answers = random.below(ANSWERS_MAX) / kill as u64;
        for _ in 0..answers {
            admin.get("/healthz").await.expect(200);
        }
        let stopped = server.kill9();
        asking.wait().unwrap();
        let left = lines(stopped.data_dir());
        println!("kill {kill} after {answers} answers: {} lines are left in the key file", left.len());
        cut_short += usize::from(left.len() == 2);
        server = stopped.start();
        Client::admin(&server).await;
        rewrapped(&rotate(server.launch()).await);
        let now = lines(server.data_dir());
        assert_eq!(now.len(), 1);
        assert_eq!(left.len() == 2, now[0] == left[0], "what was begun is finished, without yet another key");
        keys_seen.push(now[0].clone());
    }
    assert!(cut_short >= CUT_SHORT_MIN, "too few kills met a rotation: there was nothing to see");
    let stopped = server.stop();
    for old in &keys_seen[..keys_seen.len() - 1] {
        expect_refused(&stopped, old);
    }
    Client::admin(&stopped.start()).await;
}

#[tokio::test]
async fn a_stopped_servers_keys_are_rotated_as_well() {
    let stopped = Server::start().stop();
    let first = lines(stopped.data_dir());
    assert_eq!(rewrapped(&rotate(stopped.launch()).await), 3, "the administrator's and two of the instance");
    assert_ne!(lines(stopped.data_dir()), first);
    expect_refused(&stopped, &first[0]);
    Client::admin(&stopped.start()).await;
}

#[tokio::test]
async fn a_key_file_that_was_exchanged_under_a_server_is_not_written_to() {
    let (server, other) = (Server::start(), Server::start().stop());
    let own = fs::read(key_file(server.data_dir())).unwrap();
    fs::copy(key_file(other.data_dir()), key_file(server.data_dir())).unwrap();
    let output = rotate(server.launch()).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no longer holds the key in use"), "{said}");
    assert_eq!(fs::read(key_file(server.data_dir())).unwrap(), fs::read(key_file(other.data_dir())).unwrap());
    fs::write(key_file(server.data_dir()), own).unwrap();
    assert_eq!(rewrapped(&rotate(server.launch()).await), 3);
}
