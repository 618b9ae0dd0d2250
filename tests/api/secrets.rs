//! Named secrets over the API: set, replaced, listed, removed; no answer and no event holds a value.
use marvin::secrets::VALUE_BYTES_MAX;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Server};

async fn names(client: &Client) -> Vec<String> {
    let items = client.get("/api/v1/secrets").await.expect(200).items();
    items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

async fn secret_events(admin: &Client) -> Vec<Value> {
    let types = "secret.set,secret.removed";
    let path = format!("/api/v1/events?limit=1000&types={types}");
    admin.get_at(&path, admin.head().await).await.expect(200).json().as_array().unwrap().clone()
}

#[tokio::test]
async fn a_secret_is_set_replaced_listed_and_removed_and_each_is_an_event() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let made = admin.put("/api/v1/secrets/receiver-1", &json!({ "value": "first" })).await.expect(201);
    assert_eq!((made.header("location"), made.header("etag")), ("/api/v1/secrets/receiver-1", "\"1\""));
    admin.put("/api/v1/secrets/other.key", &json!({ "value": "x" })).await.expect(201);
    let replaced = admin.put("/api/v1/secrets/receiver-1", &json!({ "value": "second" })).await.expect(200);
    assert_eq!((replaced.id(), replaced.json()["sequence"].clone()), (made.id(), json!(2)));
    assert_eq!(names(&admin).await, ["receiver-1", "other.key"], "the one set last first");
    let listed = admin.get("/api/v1/secrets").await.expect(200).json();
    let fields: Vec<_> = listed["items"][0].as_object().unwrap().keys().cloned().collect();
    assert_eq!((fields, &listed["next_cursor"]), (vec!["name".to_owned(), "set_at".to_owned()], &Value::Null));
    admin.delete("/api/v1/secrets/receiver-1").await.expect(200);
    admin.delete("/api/v1/secrets/receiver-1").await.problem(404);
    assert_eq!(names(&admin).await, ["other.key"]);
    admin.put("/api/v1/secrets/receiver-1", &json!({ "value": "third" })).await.expect(201);
    let events = secret_events(&admin).await;
    let told: Vec<_> =
        events.iter().map(|event| (event["type"].as_str().unwrap(), &event["data"]["facts"]["name"])).collect();
    let (set, removed) = ("marvin.secret.set.v1", "marvin.secret.removed.v1");
    let one = json!("receiver-1");
    assert_eq!(told, [(set, &one), (set, &json!("other.key")), (set, &one), (removed, &one), (set, &one)]);
    let said = serde_json::to_string(&events).unwrap();
    assert!(!said.contains("first") && !said.contains("second") && !said.contains("third"));
}

#[tokio::test]
async fn secrets_outlive_a_restart_and_a_change_of_the_key_file() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    admin.put("/api/v1/secrets/kept", &json!({ "value": "a value" })).await.expect(201);
    let launch = server.launch().clone();
    let rotated = tokio::task::spawn_blocking(move || launch.run(&["keys", "rotate"])).await.unwrap();
    let said = String::from_utf8(rotated.stdout).unwrap();
    assert!(rotated.status.success() && said.starts_with("4 keys were rewrapped"), "{said}");
    let server = server.kill9().start();
    assert_eq!(names(&admin.at(&server)).await, ["kept"]);
}

#[tokio::test]
async fn a_stale_condition_removes_nothing() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    for _ in 0..2 {
        admin.put("/api/v1/secrets/kept", &json!({ "value": "a value" })).await;
    }
    let remove = |tag: &'static str| admin.request(Method::DELETE, "/api/v1/secrets/kept").header("if-match", tag);
    admin.send(remove("\"1\"")).await.problem(412);
    assert_eq!(names(&admin).await, ["kept"]);
    admin.send(remove("\"2\"")).await.expect(200);
}

#[tokio::test]
async fn a_wrong_name_or_value_is_refused_and_not_quoted() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let planted = "Qz7PlantedValue";
    for name in ["-a", "a%20b", "a%2Fb", "%C3%A4", "a%00", &"x".repeat(65), "..%2f.."] {
        let refused = admin.put(&format!("/api/v1/secrets/{name}"), &json!({ "value": planted })).await;
        assert!([404, 422].contains(&refused.status), "{name}: {}", refused.status);
        admin.delete(&format!("/api/v1/secrets/{name}")).await.problem(404);
    }
    let put = |body: String| {
        let request = admin.request(Method::PUT, "/api/v1/secrets/name").header("content-type", "application/json");
        admin.send(request.body(body))
    };
    for (body, status) in [
        (String::new(), 400),
        (format!("\"{planted}\""), 400),
        (format!("{{\"{planted}\": 1}}"), 400),
        (format!("{{\"value\": 1, \"{planted}\": 1}}"), 400),
        (format!("{{\"value\": [\"{planted}\"]}}"), 400),
        (format!("{{\"value\": \"{planted}"), 400),
        (format!("{planted}{{"), 400),
        ("{\"value\": \"\"}".into(), 422),
        (format!("{{\"value\": \"{planted}\\u0000\"}}"), 422),
        (json!({ "value": planted.repeat(VALUE_BYTES_MAX / planted.len() + 1) }).to_string(), 422),
        (json!({ "value": planted.repeat(100_000) }).to_string(), 413),
    ] {
        let refused = put(body.clone()).await;
        refused.problem(status);
        assert!(!String::from_utf8_lossy(&refused.body).contains(planted), "{status}");
    }
    put(json!({ "value": "x".repeat(VALUE_BYTES_MAX) }).to_string()).await.expect(201);
    assert_eq!(secret_events(&admin).await.len(), 1);
    assert!(!server.stop().log().contains(planted));
}

#[tokio::test]
async fn many_who_set_one_secret_at_once_leave_one_value() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let setting = (0..12).map(|n| {
        let admin = admin.clone();
        async move { admin.put("/api/v1/secrets/contested", &json!({ "value": format!("value {n}") })).await.status }
    });
    let statuses = futures_util::future::join_all(setting).await;
    assert!(statuses.iter().all(|status| [200, 201, 409].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&201));
    assert_eq!(names(&admin).await, ["contested"]);
    admin.delete("/api/v1/secrets/contested").await.expect(200);
    assert_eq!(names(&admin).await, Vec::<String>::new());
}
