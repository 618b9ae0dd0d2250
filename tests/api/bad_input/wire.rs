//! Headers, and bytes that are hardly HTTP; and what a refusal must not say.
use reqwest::Method;
use serde_json::json;
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use super::House;
use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, Client, Server, user};

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
