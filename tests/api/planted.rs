//! Words planted everywhere that people can write are served by the API, and stand in no file and in no log line.
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

use crate::support::{ADMIN_PASSWORD, Client, Launch, PASSWORD, Receiver, Reply, Server, eventually, user};

/// Words that stand nowhere else, long enough not to come about by chance in sealed bytes.
fn mark(name: &str) -> String {
    format!("Qz7{name}Planted")
}

/// Where any of `needles` stands in the files of `dir`, in any of the forms in which a careless program would write it.
fn found(dir: &Path, needles: &[String]) -> Vec<String> {
    // One character a byte, since the search for text is the fast one.
    let characters = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    // A file that is gone by now was a journal of SQLite.
    let contents = files.filter_map(|path| Some((characters(&std::fs::read(&path).ok()?), path)));
    let contents: Vec<(String, PathBuf)> = contents.collect();
    let mut places = Vec::new();
    for needle in needles {
        for (form, pattern) in forms(needle) {
            let pattern = characters(&pattern);
            let within = contents.iter().filter(|(content, _)| content.contains(&pattern));
            places.extend(within.map(|(_, path)| format!("{needle} as {form} in {}", path.display())));
        }
    }
    places
}

fn forms(needle: &str) -> Vec<(String, Vec<u8>)> {
    let hex: String = needle.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![
        ("text".to_owned(), needle.as_bytes().to_vec()),
        ("lowercase text".to_owned(), needle.to_lowercase().into_bytes()),
        ("UTF-16".to_owned(), needle.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("hex".to_owned(), hex.clone().into_bytes()),
        ("upper hex".to_owned(), hex.to_uppercase().into_bytes()),
    ];
    for shift in 0..3 {
        // The characters at both ends depend on what stands around; those between do not.
        let encoded = STANDARD.encode(format!("{}{needle}", "x".repeat(shift)));
        let inner = encoded.trim_end_matches('=');
        forms.push((format!("base64 at {shift}"), inner.as_bytes()[4.min(shift * 4)..inner.len() - 3].to_vec()));
    }
    forms
}

/// Plants a mark in everything that takes words; answers the marks and what the API says afterwards.
async fn plant(server: &Server) -> (Vec<String>, String) {
    let admin = Client::admin(server).await;
    let person = user(&format!("{}@example.org", mark("email")), &mark("person"), &["member"]);
    admin.post("/api/v1/users", &person).await.expect(201);
    let ann = Client::sign_in(server, &format!("{}@example.org", mark("email")), PASSWORD).await;
    let notify = json!({ "to": "requester", "severity": "info", "title": mark("title"), "body": "{{ input.text }}" });
    let rules = json!([
        { "name": mark("rule"), "when": format!("input.text != '{}'", mark("when")),
          "then": [{ "notify": notify }, { "output": format!("{} {{{{ input.text }}}}", mark("output")) }] },
        { "name": mark("failing"), "when": "input.text.size() > 5 && input.fail", "then": [] },
    ]);
    let agent = json!({ "name": mark("agent"), "description": mark("description"), "kind": "rules",
        "config": { "rules": rules } });
    let agent = admin.post("/api/v1/agents", &agent).await.expect(201).id();
    let path = format!("/api/v1/agents/{agent}/tasks");
    let input = |fail: Value| json!({ "input": { "text": mark("input"), "fail": fail, (mark("key")): 1 } });
    let done = ann.post_keyed(&path, &mark("idempotency"), &input(json!(false))).await.expect(202).id();
    assert_eq!(ann.task_ended(&done).await["status"], "completed");
    let failed = ann.post(&path, &input(json!(3))).await.expect(202).id();
    assert_eq!(ann.task_ended(&failed).await["status"], "failed");
    let (told, key) = webhook(&admin, &ann).await;
    ann.post("/api/v1/session", &json!({ "email": mark("stranger"), "password": mark("password") })).await.problem(401);
    ann.post(&format!("/api/v1/agents/{agent}/try"), &input(json!(false))).await.expect(200);
    ann.get(&format!("/api/v1/agents/{}?x={}", mark("path"), mark("query"))).await;
    eventually("the failure is told", async || {
        let inbox = ann.get("/api/v1/notifications").await.expect(200).items();
        inbox.iter().any(|item| item["severity"] == "warning").then_some(())
    })
    .await;
    let mut said = String::new();
    for path in ["/api/v1/users", "/api/v1/agents", "/api/v1/tasks", "/api/v1/secrets", "/api/v1/events?limit=1000"] {
        said += std::str::from_utf8(&admin.get_at(path, admin.head().await).await.expect(200).body).unwrap();
    }
    said += std::str::from_utf8(&ann.get("/api/v1/notifications").await.expect(200).body).unwrap();
    let served =
        ["email", "person", "title", "rule", "when", "output", "failing", "agent", "description", "input", "key"];
    for name in served {
        assert!(said.contains(&mark(name)), "the API does not serve {name}, so this test could not fail");
    }
    assert!(said.contains(&mark("told")) && said.contains("receiver-key"), "the webhook was told of");
    let mut never = ["idempotency", "stranger", "password", "path", "query", "unused"].map(mark).to_vec();
    never.extend([key, told]);
    for name in &never {
        assert!(!said.contains(name.as_str()), "the API serves {name}");
    }
    (served.map(mark).into_iter().chain([mark("told")]).chain(never).collect(), said)
}

/// A task that is handed to a receiver under a secret and told of by a callback; answers the token of the address and the secret.
async fn webhook(admin: &Client, ann: &Client) -> (String, String) {
    // As it looks in a file that holds it in clear, whether as text or as the key it stands for.
    let key = format!("whsec_{}", STANDARD.encode(mark("signing key, long enough")));
    admin.put("/api/v1/secrets/receiver-key", &json!({ "value": mark("unused") })).await.expect(201);
    admin.put("/api/v1/secrets/receiver-key", &json!({ "value": key })).await.expect(200);
    let receiver = Receiver::start(|_, _| Reply::status(202, "")).await;
    let config = json!({ "url": receiver.url, "secret_name": "receiver-key", "mode": "callback" });
    let agent = admin.agent("webhook", config).await;
    let task = ann.submit(&agent, json!({ "text": mark("input") })).await.id();
    let url = receiver.call(0).await.callback();
    let output = json!({ "output": mark("told") });
    eventually("the callback is taken", async || {
        let stranger = ann.bare(reqwest::Method::POST, &url[url.find("/api/").unwrap()..]);
        let status = ann.send(stranger.json(&output)).await.status;
        (status == 200).then_some(())
    })
    .await;
    assert_eq!(ann.task_ended(&task).await["output"], mark("told"));
    (url.rsplit('/').next().unwrap().to_owned(), key)
}

#[tokio::test]
async fn words_are_in_no_file_of_the_data_directory_and_in_no_log_line() {
    for cipher in ["xchacha20poly1305", "aes256gcm"] {
        let launch = Launch::with_admin().reaching_loopback().set("MARVIN_CIPHER", cipher).set("MARVIN_LOG", "trace");
        let server = launch.start();
        let (mut marks, _) = plant(&server).await;
        marks.extend(["admin@example.org", "Administrator"].map(str::to_owned));
        marks.extend([ADMIN_PASSWORD, PASSWORD].map(str::to_owned));
        let session = Client::admin(&server).await;
        marks.push(session.cookie().rsplit('=').next().unwrap().to_owned());
        marks.push(session.csrf().to_owned());
        assert_eq!(found(server.data_dir(), &marks), Vec::<String>::new(), "while it runs, with {cipher}");
        let stopped = server.stop();
        assert_eq!(found(stopped.data_dir(), &marks), Vec::<String>::new(), "at rest, with {cipher}");
        let dump = stopped.launch().database().map(|database| database.dump());
        let at_rest = dump.as_ref().map_or(stopped.data_dir(), |dump| dump.path());
        assert_eq!(found(at_rest, &marks), Vec::<String>::new(), "in the database, with {cipher}");
        for mark in &marks {
            assert!(!stopped.log().contains(mark.as_str()), "{mark} is in the log:\n{}", stopped.log());
        }
        assert!(stopped.log().contains("attempt ended"), "the log was read");
        assert_ne!(found(at_rest, &["step_completed".to_owned()]), Vec::<String>::new(), "event types are no secret");
    }
}

#[test]
fn the_search_finds_every_form() {
    let dir = tempfile::tempdir().unwrap();
    let (needle, needles) = (mark("needle"), [mark("needle")]);
    let written: Vec<Vec<u8>> = vec![
        format!("before {needle} behind").into_bytes(),
        needle.to_lowercase().into_bytes(),
        needle.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        needle.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes(),
        needle.bytes().map(|byte| format!("{byte:02X}")).collect::<String>().into_bytes(),
        STANDARD.encode(format!("{needle} behind")).into_bytes(),
        STANDARD.encode(format!("b{needle} behind")).into_bytes(),
        STANDARD.encode(format!("be{needle} behind")).into_bytes(),
        STANDARD.encode(format!("bef{needle}")).into_bytes(),
    ];
    for bytes in written {
        std::fs::write(dir.path().join("file"), &bytes).unwrap();
        assert_ne!(found(dir.path(), &needles), Vec::<String>::new(), "{}", String::from_utf8_lossy(&bytes));
    }
    std::fs::write(dir.path().join("file"), "something else").unwrap();
    assert_eq!(found(dir.path(), &needles), Vec::<String>::new());
}
