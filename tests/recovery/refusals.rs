//! What does not fit stops the start: exit code 1, one clear sentence, and every file as it was.
use rstest::rstest;
use serde_json::json;
use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::{Command, Stdio},
    time::Instant,
};

use super::{
    files::{self, copy_of, expect_unchanged, path, snapshot},
    kills::views_reach,
    support::{Client, DEADLINE, Launch, Server, Stopped},
};

/// Tasks that make each database some pages long.
const TASKS: usize = 20;

/// Data of a server that did some work and was stopped.
async fn worked() -> Server {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    for marker in 0..TASKS {
        admin.submit(&agent, json!({ "marker": marker })).await;
    }
    views_reach(&admin, admin.head().await).await;
    server
}

async fn stopped() -> Stopped {
    worked().await.stop()
}

/// Runs `marvin serve`, which must end by itself; answers the sentence by which it refused.
pub fn refusal(mut serve: Command) -> String {
    let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > DEADLINE {
            child.kill().ok();
            panic!("the server started: {:?}", child.wait_with_output().unwrap());
        }
        std::thread::yield_now();
    }
    let output = child.wait_with_output().unwrap();
    let (said, refused) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1), "{said}{refused}");
    assert_eq!(said, "");
    assert_eq!(refused.lines().count(), 1, "one sentence: {refused}");
    let sentence = refused.trim_end().strip_prefix("marvin: ").unwrap_or_else(|| panic!("{refused}")).to_owned();
    let parts: Vec<&str> = sentence.split(": ").collect();
    let mut once = parts.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), parts.len(), "nothing is said twice: {sentence}");
    println!("{sentence}");
    sentence
}

/// Starts on the data of `launch`, and expects a refusal that says `reason` and changes nothing.
#[track_caller]
pub fn expect_refused(launch: &Launch, reason: &str) {
    let before = snapshot(launch.data_dir());
    let sentence = refusal(launch.command(&["serve"]));
    assert!(sentence.contains(reason), "{sentence}");
    expect_unchanged(&before, &snapshot(launch.data_dir()));
}

/// A word of the refusal, and how its cause comes about.
type Spoiled<'a> = (&'static str, &'a dyn Fn(&Launch));
type Damage = (&'static str, fn(&Launch, &str), &'static str);

/// What may befall a file, and the word that the refusal has for it.
const DAMAGES: [Damage; 5] = [
    ("header", files::overwrite_header, "is damaged"),
    ("page", overwrite_page, "is damaged"),
    ("truncated", files::truncate, "is damaged"),
    ("empty", files::empty, "is missing"),
    ("removed", files::remove, "is missing"),
];

fn overwrite_page(launch: &Launch, name: &str) {
    let table = match name {
        "log.db" => "events",
        "subjects.db" => "credentials",
        _ => "view_tasks_4_1",
    };
    files::overwrite_index(launch, name, table);
}

#[tokio::test]
async fn a_damaged_or_missing_file_is_refused_by_name() {
    let whole = stopped().await;
    for name in ["log.db", "subjects.db", "views.db"] {
        for (what, damage, reason) in DAMAGES {
            // Views that are gone are built anew; the tests of the doctor prove it.
            if name == "views.db" && reason == "is missing" {
                continue;
            }
            println!("{name} {what}");
            let launch = copy_of(&whole);
            damage(&launch, name);
            expect_refused(&launch, &format!("{name} {reason}"));
        }
    }
    let remedy = |name: &str| {
        let launch = copy_of(&whole);
        files::overwrite_header(&launch, name);
        refusal(launch.command(&["serve"]))
    };
    assert!(remedy("log.db").contains("restore it from a backup"));
    assert!(remedy("subjects.db").contains("restore it from a backup"));
    assert!(remedy("views.db").contains("delete it, the next start builds it anew"));
}

/// SQLite alone would forget every commit from the damaged frame on, and say nothing.
#[tokio::test]
async fn a_write_ahead_log_damaged_in_its_middle_is_refused() {
    let whole = worked().await.kill9();
    for name in ["log.db", "subjects.db"] {
        let launch = copy_of(&whole);
        let wal = path(&launch, &format!("{name}-wal"));
        let mut content = fs::read(&wal).unwrap();
        content[32 + 24 + 100] ^= 1;
        fs::write(&wal, content).unwrap();
        expect_refused(&launch, &format!("{name} is damaged (frame 1 of its write-ahead log"));
    }
    copy_of(&whole).start();
}

#[tokio::test]
async fn a_database_of_a_newer_marvin_is_refused() {
    let whole = stopped().await;
    for (name, reason) in [("log.db", "newer Marvin"), ("subjects.db", "another version"), ("views.db", "newer Marvin")]
    {
        let launch = copy_of(&whole);
        let newer = "INSERT INTO refinery_schema_history VALUES (9000, 'newer', '2030-01-01T00:00:00Z', '1')";
        files::execute(&launch, name, newer);
        expect_refused(&launch, reason);
    }
}

/// Also where a killed process left committed pages in the write-ahead logs: those files stay as they are.
#[rstest]
#[case::stopped(false)]
#[case::killed(true)]
#[tokio::test]
async fn a_key_file_that_does_not_serve_is_refused(#[case] killed: bool) {
    let server = worked().await;
    let whole = if killed { server.kill9() } else { server.stop() };
    let wal = fs::metadata(whole.data_dir().join("log.db-wal")).map_or(0, |wal| wal.len());
    assert_eq!(wal > 0, killed);
    let key = |launch: &Launch| path(launch, "master.key");
    let other = Launch::with_admin().start().stop();
    let cases: [Spoiled<'_>; 4] = [
        ("was made with another key", &|launch| assert!(fs::copy(key(other.launch()), key(launch)).is_ok())),
        ("is missing", &|launch| files::remove(launch, "master.key")),
        ("can be read by others", &|launch| {
            fs::set_permissions(key(launch), Permissions::from_mode(0o644)).unwrap();
        }),
        ("is not a Marvin key file", &|launch| fs::write(key(launch), "not a key\n").unwrap()),
    ];
    for (reason, spoil) in cases {
        let launch = copy_of(&whole);
        spoil(&launch);
        expect_refused(&launch, reason);
    }
    let views = copy_of(&whole);
    fs::write(path(&views, "views.db"), "no database at all, and longer than a header would have to be".repeat(100))
        .unwrap();
    fs::remove_file(path(&views, "views.db-wal")).ok();
    expect_refused(&views, "views.db is damaged");
    let server = copy_of(&whole).start();
    assert!(Client::admin(&server).await.head().await > TASKS as u64, "what was refused is whole");
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_had_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "a file").unwrap();
    let at = |path: &std::path::Path| Launch::with_admin().set("MARVIN_DATA_DIR", path.to_str().unwrap());
    let sentence = refusal(at(file.path()).command(&["serve"]));
    assert!(sentence.contains("cannot be used") && sentence.contains(file.path().to_str().unwrap()), "{sentence}");
    assert_eq!(fs::read(file.path()).unwrap(), b"a file");
    // Nobody can make a directory there, not even root.
    let sentence = refusal(at("/proc/marvin".as_ref()).command(&["serve"]));
    assert!(sentence.contains("/proc/marvin cannot be used"), "{sentence}");
    // Root may write anywhere, so only others can meet this.
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        let launch = copy_of(&stopped().await);
        fs::set_permissions(launch.data_dir(), Permissions::from_mode(0o500)).unwrap();
        expect_refused(&launch, "cannot be");
        fs::set_permissions(launch.data_dir(), Permissions::from_mode(0o700)).unwrap();
    }
}

#[tokio::test]
async fn a_data_directory_has_one_process() {
    let server = Server::start();
    let sentence = refusal(server.launch().command(&["serve"]));
    assert!(sentence.contains("is in use by another process"), "{sentence}");
    Client::admin(&server).await;
    server.stop();
}

#[rstest]
#[case("MARVIN_LISTEN")]
#[case("MARVIN_METRICS_LISTEN")]
#[tokio::test]
async fn an_address_in_use_is_refused_before_a_store_is_opened(#[case] setting: &str) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let fresh = Launch::bare().set(setting, &address);
    expect_refused(&fresh, &format!("{setting} {address} cannot be used"));
    assert!(snapshot(fresh.data_dir()).is_empty());
    let whole = worked().await.kill9();
    expect_refused(&copy_of(&whole).set(setting, &address), &format!("{setting} {address} cannot be used"));
}

#[rstest]
#[case("MARVIN_LISTEN", "nowhere", "listen")]
#[case("MARVIN_METRICS_LISTEN", "127.0.0.1", "metrics_listen")]
#[case("MARVIN_PUBLIC_URL", "ftp://example.org", "public_url")]
#[case("MARVIN_CIPHER", "rot13", "cipher")]
#[case("MARVIN_INSTANCE", "No Name", "instance")]
#[case("MARVIN_LOG", "loud=very", "log")]
#[case("MARVIN_LOG_FORMAT", "xml", "log_format")]
#[case("MARVIN_DATABASE_URL", "mysql://localhost/marvin", "postgres://")]
#[case("MARVIN_ADMIN_EMAIL", "", "MARVIN_ADMIN_PASSWORD is set and MARVIN_ADMIN_EMAIL is not")]
#[tokio::test]
async fn a_wrong_setting_is_refused_by_name(#[case] setting: &str, #[case] value: &str, #[case] reason: &str) {
    let launch = Launch::with_admin().set(setting, value);
    expect_refused(&launch, reason);
    assert!(snapshot(launch.data_dir()).is_empty());
}
