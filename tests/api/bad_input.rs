//! What nobody should send: each entrance refuses it with a complete problem document, and the log stays as it was.
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, Answer, Client, PASSWORD, Server, user};

/// Bytes of a body, and of a submission.
const BODY_BYTES_MAX: usize = 1024 * 1024;
const TASK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The administrator, and an agent of each kind.
struct House {
    server: Server,
    admin: Client,
    rules: String,
    insight: String,
    head: u64,
}

impl House {
    async fn build() -> Self {
        let server = Server::start();
        let admin = Client::admin(&server).await;
        let rules = admin.agent("rules", json!({ "rules": [] })).await;
        let insight = admin.agent("insight", json!({})).await;
        let head = admin.head().await;
        Self { server, admin, rules, insight, head }
    }

    /// Every call that takes a JSON body, with the most bytes that it takes and a body that it would take.
    fn entrances(&self) -> Vec<(Method, String, usize, Value)> {
        let agent = format!("/api/v1/agents/{}", self.rules);
        let set_up = json!({ "token": "x", "email": "x@example.org", "password": PASSWORD, "display_name": "X" });
        vec![
            (Method::POST, "/api/v1/setup".into(), BODY_BYTES_MAX, set_up),
            (Method::POST, "/api/v1/session".into(), BODY_BYTES_MAX, json!({ "email": ADMIN_EMAIL, "password": "" })),
            (Method::POST, "/api/v1/users".into(), BODY_BYTES_MAX, user("bob@example.org", "Bob", &["member"])),
            (Method::POST, "/api/v1/agents".into(), BODY_BYTES_MAX, self::agent(json!({ "rules": [] }))),
            (Method::PATCH, agent.clone(), BODY_BYTES_MAX, json!({ "name": "B" })),
            (Method::POST, format!("{agent}/try"), BODY_BYTES_MAX, json!({ "input": 1 })),
            (Method::POST, format!("{agent}/tasks"), TASK_BYTES_MAX, json!({ "input": 1 })),
        ]
    }

    async fn send(&self, method: &Method, path: &str, media_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.admin.request(method.clone(), path).header("content-type", media_type).body(body);
        self.admin.send(request).await
    }

    /// Nothing was appended, and the server still works.
    async fn is_untouched(&self) {
        assert_eq!(self.admin.head().await, self.head, "the log has the events that it had");
        let task = self.admin.task_done(&self.rules, json!(1)).await;
        assert_eq!(task["status"], "completed");
    }
}

fn agent(config: Value) -> Value {
    json!({ "name": "A", "kind": "rules", "config": config })
}

fn nested(levels: usize) -> String {
    format!("{{\"input\":{}1{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
}

#[tokio::test]
async fn a_body_that_is_not_the_json_that_is_expected_is_400_at_every_entrance() {
    let house = House::build().await;
    let deep = nested(65);
    let wide_open = "[".repeat(200_000);
    let bodies: Vec<(&str, &[u8])> = vec![
        ("empty", b""),
        ("blank", b" \n"),
        ("cut off", b"{\"input\": "),
        ("two documents", b"{}{}"),
        ("an array", b"[]"),
        ("null", b"null"),
        ("a text", b"\"input\""),
        ("a number", b"7"),
        ("NaN", b"{\"input\": NaN}"),
        ("Infinity", b"{\"input\": -Infinity}"),
        ("a number beyond doubles", b"{\"input\": 1e999}"),
        ("a leading zero", b"{\"input\": 01}"),
        ("single quotes", b"{'input': 1}"),
        ("a comment", b"{\"input\": 1 /* one */}"),
        ("a trailing comma", b"{\"input\": 1,}"),
        ("a byte order mark", b"\xef\xbb\xbf{\"input\": 1}"),
        ("not UTF-8", b"{\"input\": \"\xff\xfe\"}"),
        ("UTF-16", b"{\0\"\0i\0\"\0:\0\x31\0}\0"),
        ("a lone surrogate", b"{\"input\": \"\\ud800\"}"),
        ("a bare control character", b"{\"input\": \"a\x00b\"}"),
        ("65 levels", deep.as_bytes()),
        ("brackets without end", wide_open.as_bytes()),
        ("an unknown field", b"{\"input\": 1, \"inptu\": 2}"),
        ("a field twice", b"{\"input\": 1, \"input\": 2}"),
        ("form data", b"input=1&name=x"),
    ];
    for (method, path, _, _) in house.entrances() {
        for (what, body) in &bodies {
            let answer = house.send(&method, &path, "application/json", body.to_vec()).await;
            assert_eq!(answer.status, 400, "{what} at {method} {path}: {answer:?}");
            answer.problem(400);
        }
    }
    for (method, path, _, body) in house.entrances() {
        let mut more = body.clone();
        more["colour"] = json!("red");
        let refused = house.send(&method, &path, "application/json", more.to_string()).await;
        assert_eq!(refused.problem(400)["errors"][0]["pointer"], "/colour", "{method} {path}");
        // An input and a configuration may be any JSON; their kind judges them.
        for field in body.as_object().unwrap().keys().filter(|field| !["input", "config"].contains(&field.as_str())) {
            let mut wrong = body.clone();
            wrong[field] = json!([[1]]);
            let answer = house.send(&method, &path, "application/json", wrong.to_string()).await;
            assert_eq!(answer.status, 400, "{field} at {method} {path}: {answer:?}");
        }
    }
    let attempt = format!("/api/v1/agents/{}/try", house.rules);
    house.send(&Method::POST, &attempt, "application/json", nested(64)).await.expect(200);
    house.is_untouched().await;
}

#[tokio::test]
async fn a_body_of_another_media_type_is_415_at_every_entrance() {
    let house = House::build().await;
    for (method, path, _, body) in house.entrances() {
        for media_type in [
            "",
            "text/plain",
            "application/xml",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/jsonx",
            "application/json; charset=latin-1",
            "*/*",
            "json",
        ] {
            house.send(&method, &path, media_type, body.to_string()).await.problem(415);
        }
        let untyped = house.admin.request(method.clone(), &path).body(body.to_string());
        house.admin.send(untyped).await.problem(415);
        let packed = house.admin.request(method.clone(), &path).header("content-encoding", "gzip").json(&body);
        house.admin.send(packed).await.problem(415);
    }
    house.is_untouched().await;
}

#[tokio::test]
async fn a_body_one_byte_too_long_is_413_with_and_without_a_length() {
    let house = House::build().await;
    for (method, path, bytes_max, _) in house.entrances() {
        for count in [bytes_max + 1, bytes_max * 2] {
            let padded = format!("{{\"input\":1}}{}", " ".repeat(count - 11));
            house.send(&method, &path, "application/json", padded.clone()).await.problem(413);
            let chunks: Vec<_> =
                padded.as_bytes().chunks(64 * 1024).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
            let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
            house.send(&method, &path, "application/json", chunked).await.problem(413);
        }
    }
    let fits = format!("{{\"input\":1}}{}", " ".repeat(BODY_BYTES_MAX - 11));
    house
        .send(&Method::POST, &format!("/api/v1/agents/{}/try", house.rules), "application/json", fits)
        .await
        .expect(200);
    house.is_untouched().await;
}

#[tokio::test]
async fn values_outside_their_bounds_are_422_and_pointed_at() {
    let house = House::build().await;
    let person = |field: &str, value: Value| {
        let mut person = user("bob@example.org", "Bob", &["member"]);
        person[field] = value;
        ("/api/v1/users".to_owned(), person, format!("/{field}"))
    };
    let named = |field: &str, value: Value| {
        let mut body = agent(json!({ "rules": [] }));
        body[field] = value;
        ("/api/v1/agents".to_owned(), body, format!("/{field}"))
    };
    let mut cases = vec![
        person("email", json!("")),
        person("email", json!("bob")),
        person("email", json!("bob@")),
        person("email", json!("bob\0@example.org")),
        person("email", json!("bob\n@example.org")),
        person("email", json!(format!("{}@example.org", "b".repeat(300)))),
        person("display_name", json!("")),
        person("display_name", json!(" \t ")),
        person("display_name", json!("Bob\0")),
        person("display_name", json!("ä".repeat(201))),
        person("password", json!("short")),
        person("password", json!("p".repeat(201))),
        person("roles", json!([])),
        named("name", json!("")),
        named("name", json!("A\0")),
        named("name", json!("A\u{7f}")),
        named("name", json!("x".repeat(201))),
        named("description", json!("d".repeat(4_001))),
        named("description", json!("a\0b")),
        named("kind", json!("rules\0")),
        named("kind", json!("k".repeat(100_000))),
    ];
    for (input, pointer) in [
        (json!({ "values": vec![1; 7] }), "/input/values"),
        (json!({ "values": vec![1; 100_001] }), "/input/values"),
        (json!({ "values": vec!["1"; 8] }), "/input/values/0"),
        (json!({ "values": [1, 2, 3, 4, 5, 6, 7, 1e16] }), "/input/values/7"),
        (json!({ "values": [1, 2, 3, 4, 5, 6, 7, [8]] }), "/input/values/7"),
        (json!({ "values": vec![Value::Null; 8] }), "/input/values"),
        (json!({ "values": vec![1; 8], "horizon": 0 }), "/input/horizon"),
        (json!({ "values": vec![1; 8], "horizon": 1001 }), "/input/horizon"),
        (json!({ "values": vec![1; 8], "horizon": 1e308 }), "/input/horizon"),
        (json!({ "values": vec![1; 8], "level": 1 }), "/input/level"),
        (json!({ "values": vec![1; 8], "season": -1 }), "/input/season"),
        (json!("values"), "/input"),
    ] {
        for call in ["tasks", "try"] {
            let path = format!("/api/v1/agents/{}/{call}", house.insight);
            cases.push((path, json!({ "input": input }), pointer.to_owned()));
        }
    }
    for (path, body, pointer) in cases {
        let refused = house.admin.post(&path, &body).await;
        assert_eq!(refused.status, 422, "{pointer} at {path}: {refused:?}");
        refused.problem(422);
        assert_eq!(refused.pointers()[0], pointer, "{path}");
    }
    house.is_untouched().await;
}

#[tokio::test]
async fn hostile_rules_are_refused_at_once() {
    let house = House::build().await;
    let chain = format!("input{}", ".a".repeat(2_000));
    let sum = format!("1{} == 1", " + 1".repeat(4_000));
    let hostile = [
        String::new(),
        " ".to_owned(),
        "1 +".to_owned(),
        "input.a ===".to_owned(),
        "\0".to_owned(),
        "\"unclosed".to_owned(),
        "\"\\x\"".to_owned(),
        "(".repeat(4_000),
        format!("{}1{}", "(".repeat(2_000), ")".repeat(2_000)),
        format!("{}1{}", "[".repeat(2_000), "]".repeat(2_000)),
        format!("{}true", "!".repeat(4_000)),
        format!("{}1 == 1", "-".repeat(4_000)),
        format!("{}1{}", "{1:".repeat(1_000), "}".repeat(1_000)),
        format!("{}true{}", "true ? ".repeat(500), " : false".repeat(500)),
        "x".repeat(4_097),
        chain,
        sum,
        "[1].all(a, [1].all(b, [1].all(c, true)))".to_owned(),
        "input.matches('(a+)+$') && input.matches('[')".to_owned(),
        "system('rm')".to_owned(),
        "1 == 99999999999999999999".to_owned(),
    ];
    for when in hostile {
        let shown: String = when.chars().take(40).collect();
        let rule = json!([{ "name": "r", "when": when, "then": [] }]);
        let refused = house.admin.post("/api/v1/agents", &agent(json!({ "rules": rule }))).await;
        assert_eq!(refused.status, 422, "{shown}: {refused:?}");
        refused.problem(422);
        assert_eq!(refused.pointers()[0], "/config/rules/0/when", "{shown}");
    }
    let many = vec![json!({ "name": "r", "when": "true", "then": [] }); 201];
    let actions = vec![json!({ "output": 1 }); 21];
    for (rules, pointer) in [
        (json!(many), "/config/rules"),
        (json!([{ "name": "r", "when": "true", "then": actions }]), "/config/rules/0/then"),
        (json!([{ "name": "n".repeat(201), "when": "true", "then": [] }]), "/config/rules/0/name"),
        (
            json!([{ "name": "r", "when": "true", "then": [{ "output": "{{ ".repeat(100) }] }]),
            "/config/rules/0/then/0/output",
        ),
    ] {
        let refused = house.admin.post("/api/v1/agents", &agent(json!({ "rules": rules }))).await;
        refused.problem(422);
        assert_eq!(refused.pointers()[0], pointer);
    }
    house.is_untouched().await;
}

#[tokio::test]
async fn what_is_no_id_or_nobodys_id_is_404_in_every_path() {
    let house = House::build().await;
    let id = &house.rules;
    let long = "a".repeat(5_000);
    let ids = [
        uuid::Uuid::now_v7().to_string(),
        id.to_uppercase(),
        id.replace('-', ""),
        format!("%7B{id}%7D"),
        format!("urn:uuid:{id}"),
        format!("{id}%00"),
        format!("%20{id}"),
        "00000000-0000-0000-0000-000000000000".to_owned(),
        "01234567-89ab-4def-8123-456789abcdef".to_owned(),
        "%00".to_owned(),
        "..%2fsession".to_owned(),
        "latest".to_owned(),
        "-1".to_owned(),
        "1".to_owned(),
        "'%20OR%201=1--".to_owned(),
        "%F0%9F%8C%B7".to_owned(),
        "%ff".to_owned(),
        "%zz".to_owned(),
        "*".to_owned(),
        long,
    ];
    for resource in marvin::http::routes() {
        for (method, _) in resource.methods().iter().filter(|_| resource.path().contains("{id}")) {
            for id in &ids {
                let method: Method = method.as_str().parse().unwrap();
                let request = house.admin.request(method.clone(), &resource.path().replace("{id}", id));
                let request = match (method.as_str(), resource.path().rsplit('/').next()) {
                    ("POST", Some("tasks" | "try")) => request.json(&json!({ "input": 1 })),
                    ("PATCH", _) => request.json(&json!({ "name": "B" })),
                    _ => request,
                };
                let answer = house.admin.send(request).await;
                assert_eq!(answer.status, 404, "{method} {} with {id}: {answer:?}", resource.path());
                answer.problem(404);
            }
        }
    }
    for path in [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v2/agents",
        "/api/v1/agents/",
        "/api/v1//agents",
        "/api/v1/Agents",
        "/api/v1/webhooks",
        "/oauth/token",
        "/.well-known/jwks.json",
        "/metrics",
        "/api/v1/agents%00",
        "/assets/none.js",
    ] {
        house.admin.get(path).await.problem(404);
    }
    house.is_untouched().await;
}

#[tokio::test]
async fn a_method_that_a_path_does_not_answer_is_405_with_what_it_does() {
    let house = House::build().await;
    for resource in marvin::http::routes() {
        let mut allowed: Vec<&str> = resource.methods().iter().map(|(method, _)| method.as_str()).collect();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            if allowed.contains(&method) {
                continue;
            }
            let path = resource.path().replace("{id}", &house.rules);
            let answer = house.admin.send(house.admin.request(method.parse().unwrap(), &path)).await;
            answer.problem(405);
            let mut named: Vec<&str> = answer.header("allow").split(", ").filter(|name| *name != "HEAD").collect();
            named.sort_unstable();
            allowed.sort_unstable();
            assert_eq!(named, allowed, "{method} {path}");
        }
    }
    house.is_untouched().await;
}

#[tokio::test]
async fn a_parameter_that_is_unknown_twice_or_out_of_bounds_is_400_and_named() {
    let house = House::build().await;
    house.admin.agent("rules", json!({ "rules": [] })).await;
    let cursor = house.admin.get("/api/v1/agents?limit=1").await.expect(200).json()["next_cursor"].clone();
    let foreign = cursor.as_str().unwrap();
    for list in ["users", "agents", "tasks", "notifications"] {
        for (query, pointer) in [
            ("limit=0", "/limit"),
            ("limit=201", "/limit"),
            ("limit=-1", "/limit"),
            ("limit=", "/limit"),
            ("limit=ten", "/limit"),
            ("limit=1.5", "/limit"),
            ("limit=99999999999999999999", "/limit"),
            ("limit=1&limit=2", "/limit"),
            ("cursor=", "/cursor"),
            ("cursor=x", "/cursor"),
            ("cursor=%00", "/cursor"),
            (&format!("cursor={}", "A".repeat(5_000)), "/cursor"),
            ("colour=red", "/colour"),
            ("Limit=1", "/Limit"),
            ("%zz=1", ""),
            ("limit=%ff", "/limit"),
        ] {
            let refused = house.admin.get(&format!("/api/v1/{list}?{query}")).await;
            refused.problem(400);
            assert_eq!(refused.pointers(), [pointer], "{list}?{query}");
        }
        if list != "agents" {
            house.admin.get(&format!("/api/v1/{list}?cursor={foreign}")).await.problem(400);
        }
    }
    for query in [
        "agents?status=asleep",
        "agents?status=",
        "agents?kind=",
        "tasks?status=asleep",
        "tasks?status=Queued",
        "tasks?agent_id=x",
        "tasks?agent_id=",
        "tasks?conversation_id=x",
        "notifications?unread=1",
        "notifications?unread=",
    ] {
        let status = house.admin.get(&format!("/api/v1/{query}")).await;
        // A kind that is not there is no mistake: it has no agents.
        if query == "agents?kind=" {
            status.expect(200)
        } else {
            status.problem(400);
            status
        };
    }
    let (agent, person) = (format!("agents/{}", house.rules), format!("users/{}", house.admin.user_id()));
    for path in [&agent, &format!("{agent}/history"), &person, "session", "sessions", "agent-kinds"] {
        house.admin.get(&format!("/api/v1/{path}?at=1")).await.problem(400);
    }
    assert_eq!(house.admin.head().await, house.head + 1, "one agent was made");
}

#[tokio::test]
async fn an_if_match_that_is_no_list_of_tags_is_400() {
    let house = House::build().await;
    let agent = format!("/api/v1/agents/{}", house.rules);
    let person = format!("/api/v1/users/{}", house.admin.user_id());
    for bad in ["", "1", "\"1", "1\"", "W/1", "w/\"1\"", "\"1\" \"2\"", "\"a b\"", ",", "**"] {
        for (method, path) in [(Method::PATCH, &agent), (Method::DELETE, &agent), (Method::DELETE, &person)] {
            let request = house.admin.request(method.clone(), path).header("if-match", bad);
            let request = if method == Method::PATCH { request.json(&json!({ "name": "B" })) } else { request };
            let answer = house.admin.send(request).await;
            assert_eq!(answer.status, 400, "{bad:?} at {method} {path}");
            answer.problem(400);
        }
    }
    house.is_untouched().await;
}

/// Sends bytes below HTTP; answers what comes back until the server has nothing more to say.
fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // The server may hang up before it has read all of it.
    stream.write_all(bytes).ok();
    stream.shutdown(std::net::Shutdown::Write).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_is_hardly_http_gets_no_answer_or_a_refusal_and_the_server_goes_on() {
    let house = House::build().await;
    let huge = "x".repeat(300_000);
    let many = (0..5_000).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    let get = "GET /api/v1/agents HTTP/1.1\r\nhost: x\r\n";
    let post = "POST /api/v1/agents HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    for bytes in [
        "\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\0\u{5}".to_owned(),
        format!("{get}x: {huge}\r\n\r\n"),
        format!("{get}{many}\r\n"),
        format!("GET /{huge} HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("{get}x: a\0b\r\n\r\n"),
        format!("{get}x y: z\r\n\r\n"),
        format!("{post}content-length: 5\r\ncontent-length: 6\r\n\r\n{{}}"),
        format!("{post}content-length: -1\r\n\r\n{{}}"),
        format!("{post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}transfer-encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n"),
        format!("{post}transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n{{}}"),
        format!("{post}content-length: 100\r\n\r\n{{"),
    ] {
        let answer = raw(&house.server, bytes.as_bytes());
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let refused = ["", "400", "401", "404", "408", "413", "414", "431", "501", "505"].contains(&status);
        assert!(refused, "{:?} got {}", &bytes[..bytes.len().min(80)], &answer[..answer.len().min(200)]);
    }
    assert!(raw(&house.server, format!("{get}connection: close\r\n\r\n").as_bytes()).starts_with("HTTP/1.1 401"));
    house.is_untouched().await;
}

#[tokio::test]
async fn a_refusal_says_neither_what_was_sent_nor_what_is_inside() {
    let house = House::build().await;
    let secret = "Zw4nzig-Geheimnis";
    let answers = [
        house.admin.post("/api/v1/session", &json!({ "email": secret, "password": secret })).await,
        house.admin.post("/api/v1/users", &user("bob", "Bob", &["member"])).await,
        house
            .admin
            .post("/api/v1/users", &json!({ "password": secret, "email": [], "display_name": "B", "roles": [] }))
            .await,
        house.admin.get(&format!("/api/v1/agents/{secret}?ticket={secret}")).await,
        house.admin.get("/api/v1/nothing").await,
    ];
    for answer in answers {
        let mut problem = answer.problem(answer.status);
        problem.as_object_mut().unwrap().remove("instance");
        let text = problem.to_string();
        for inside in [secret, "src/", "panicked", "rusqlite", "SELECT", "actix", "serde"] {
            assert!(!text.contains(inside), "{inside} in {text}");
        }
    }
    Client::sign_in(&house.server, ADMIN_EMAIL, ADMIN_PASSWORD).await;
}
