//! A registration that a crash cut short, between the key's row and the event, leaves the email free.
use marvin::security::{
    keyfile::MasterKey,
    subjects::{Registration, SqliteSubjects, SubjectStore},
};
use serde_json::json;
use std::{path::Path, sync::Arc};
use uuid::Uuid;

use super::support::{ADMIN_EMAIL, ADMIN_PASSWORD, Client, Launch, PASSWORD, Server, user};

/// Does the first half of a registration in the data of a stopped server; answers the id that it chose.
async fn half_registered(directory: &Path, email: &str) -> Uuid {
    let key = MasterKey::load_or_create(&directory.join("master.key"), false).unwrap();
    let subjects = SqliteSubjects::open(&directory.join("subjects.db"), Arc::new(key)).await.unwrap();
    let candidate = Uuid::now_v7();
    let registration = subjects.register(candidate, email, 0).await.unwrap();
    assert_eq!(registration, Registration::Created { user_id: candidate });
    candidate
}

#[tokio::test]
async fn an_email_whose_registration_was_cut_short_is_free() {
    let stopped = Server::start().stop();
    let id = half_registered(stopped.data_dir(), "left@example.org").await;
    let server = stopped.start();
    let admin = Client::admin(&server).await;
    let body = user("Left@Example.org", "Left", &["member"]);
    let created = admin.post("/api/v1/users", &body).await.expect(201);
    assert_eq!(created.id(), id.to_string(), "the row that stands is adopted with its key");
    let twice = admin.post("/api/v1/users", &body).await.problem(422);
    assert_eq!(twice["errors"][0]["pointer"], "/email");
    let left = Client::sign_in(&server, "left@example.org", PASSWORD).await;
    let seen = left.get_at(&format!("/api/v1/users/{id}"), created.position()).await.expect(200).json();
    assert_eq!(seen["display_name"], "Left");
}

#[tokio::test]
async fn a_set_up_that_was_cut_short_can_be_done_again() {
    let stopped = Launch::bare().start().stop();
    half_registered(stopped.data_dir(), ADMIN_EMAIL).await;
    let server = stopped.start();
    let stranger = Client::stranger(&server);
    let body = json!({
        "token": server.setup_token(), "email": ADMIN_EMAIL, "password": ADMIN_PASSWORD, "display_name": "Ada",
    });
    stranger.post("/api/v1/setup", &body).await.expect(200);
    Client::admin(&server).await;
}
