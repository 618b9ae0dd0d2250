//! The first administrator: by the printed link, or from the environment.
use serde_json::{Value, json};

use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, Client, Launch, PASSWORD, Server};

fn ada(token: &str) -> Value {
    json!({ "token": token, "email": "ada@example.org", "password": PASSWORD, "display_name": "Ada" })
}

async fn set_up(server: &Server, body: &Value) -> crate::support::Answer {
    Client::stranger(server).post("/api/v1/setup", body).await
}

#[tokio::test]
async fn the_setup_link_signs_the_first_administrator_in_and_works_once() {
    let server = Launch::bare().start();
    let token = server.setup_token();
    let before = Client::stranger(&server).get("/api/v1/session").await;
    before.problem(401);
    let answer = set_up(&server, &ada(&token)).await.expect(200);
    let ada = Client::stranger(&server).holding(&answer);
    assert!(answer.position() >= 2, "the registration and the set-up are events");
    let me = ada.get("/api/v1/session").await.expect(200).json();
    assert_eq!((&me["user"]["email"], &me["user"]["roles"]), (&json!("ada@example.org"), &json!(["admin"])));
    ada.get("/api/v1/users").await.expect(200);
    let head = ada.head().await;
    set_up(&server, &self::ada(&token)).await.problem(409);
    assert_eq!(ada.head().await, head);
}

#[tokio::test]
async fn a_wrong_empty_or_absent_token_sets_nothing_up() {
    let server = Launch::bare().start();
    let token = server.setup_token();
    for wrong in ["", "x", &token[1..], &format!("{token}x"), &token.to_lowercase().replace('a', "b")] {
        set_up(&server, &ada(wrong)).await.problem(403);
    }
    let mut absent = ada("");
    absent.as_object_mut().unwrap().remove("token");
    set_up(&server, &absent).await.problem(400);
    set_up(&server, &ada(&token)).await.expect(200);
}

#[tokio::test]
async fn a_set_up_with_refused_values_leaves_the_link_good() {
    let server = Launch::bare().start();
    let token = server.setup_token();
    for (field, value) in [("email", "nobody"), ("password", "short"), ("display_name", "\u{7}")] {
        let mut body = ada(&token);
        body[field] = json!(value);
        let refused = set_up(&server, &body).await;
        refused.problem(422);
        assert_eq!(refused.pointers(), [format!("/{field}")]);
    }
    set_up(&server, &ada(&token)).await.expect(200);
}

#[tokio::test]
async fn of_set_ups_at_once_exactly_one_wins() {
    let server = Launch::bare().start();
    let token = server.setup_token();
    let attempts = (0..4).map(|number| {
        let mut body = ada(&token);
        body["email"] = json!(format!("ada{number}@example.org"));
        let stranger = Client::stranger(&server);
        tokio::spawn(async move { (stranger.post("/api/v1/setup", &body).await, stranger) })
    });
    let mut winners = Vec::new();
    for attempt in attempts.collect::<Vec<_>>() {
        let (answer, stranger) = attempt.await.unwrap();
        match answer.status {
            200 => winners.push(stranger.holding(&answer)),
            403 | 409 => drop(answer.problem(answer.status)),
            other => panic!("{other}: {answer:?}"),
        }
    }
    let [winner] = &winners[..] else { panic!("{} set-ups won", winners.len()) };
    assert_eq!(winner.get("/api/v1/users").await.expect(200).items().len(), 1);
}

#[tokio::test]
async fn each_start_without_a_user_draws_another_link() {
    let server = Launch::bare().start();
    let first = server.setup_token();
    let server = server.stop().start();
    let second = server.setup_token();
    assert_ne!(first, second);
    set_up(&server, &ada(&first)).await.problem(403);
    set_up(&server, &ada(&second)).await.expect(200);
}

#[tokio::test]
async fn the_administrator_of_the_environment_is_created_once_and_left_alone() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let head = admin.head().await;
    let launch = server.stop().launch().clone();
    let changed = launch.set("MARVIN_ADMIN_EMAIL", "other@example.org").set("MARVIN_ADMIN_PASSWORD", "another one");
    let server = changed.start();
    let admin = Client::sign_in(&server, ADMIN_EMAIL, ADMIN_PASSWORD).await;
    assert_eq!(admin.head().await, head, "the second start appended nothing");
    let other = json!({ "email": "other@example.org", "password": "another one" });
    Client::stranger(&server).post("/api/v1/session", &other).await.problem(401);
}

#[test]
fn an_administrator_that_cannot_be_created_stops_the_start_with_the_reason() {
    let output = Launch::with_admin().set("MARVIN_ADMIN_PASSWORD", "short").run(&["serve"]);
    assert_eq!(output.status.code(), Some(1));
    let reason = String::from_utf8(output.stderr).unwrap();
    assert!(reason.contains("MARVIN_ADMIN_PASSWORD"), "{reason}");
    let output = Launch::with_admin().unset("MARVIN_ADMIN_PASSWORD").run(&["serve"]);
    assert_eq!(output.status.code(), Some(1));
}
