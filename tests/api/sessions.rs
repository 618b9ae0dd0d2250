//! Signing in and out, what a session's cookie and CSRF token must be, and how sessions end.
use reqwest::Method;
use serde_json::json;
use std::time::{Duration, Instant};

use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, Answer, Client, Launch, PASSWORD, Server};

async fn sign_in(server: &Server, email: &str, password: &str) -> Answer {
    Client::stranger(server).post("/api/v1/session", &json!({ "email": email, "password": password })).await
}

#[tokio::test]
async fn a_session_lasts_from_sign_in_to_sign_out() {
    let server = Server::start();
    let answer = sign_in(&server, ADMIN_EMAIL, ADMIN_PASSWORD).await.expect(200);
    let admin = Client::stranger(&server).holding(&answer);
    let (opened, me) = (answer.json(), admin.get("/api/v1/session").await.expect(200).json());
    assert_eq!(opened, me, "who am I answers what the sign-in answered");
    assert_eq!(me["user"]["status"], "active");
    assert!(chrono::DateTime::parse_from_rfc3339(me["expires_at"].as_str().unwrap()).unwrap() > chrono::Utc::now());
    let out = admin.delete("/api/v1/session").await.expect(204);
    assert!(out.header("set-cookie").contains("Max-Age=0"), "{}", out.header("set-cookie"));
    admin.get("/api/v1/session").await.problem(401);
    admin.get("/api/v1/agents").await.problem(401);
    admin.delete("/api/v1/session").await.problem(401);
}

#[tokio::test]
async fn a_session_survives_a_restart() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let server = server.stop().start();
    let admin = admin.at(&server);
    assert_eq!(admin.get("/api/v1/session").await.expect(200).json()["csrf_token"], admin.csrf());
    admin.agent("rules", json!({ "rules": [] })).await;
}

#[tokio::test]
async fn the_cookie_is_out_of_reach_of_scripts_and_other_sites() {
    let server = Server::start();
    let answer = sign_in(&server, ADMIN_EMAIL, ADMIN_PASSWORD).await.expect(200);
    let cookie = answer.header("set-cookie");
    let attributes: Vec<&str> = cookie.split("; ").skip(1).collect();
    assert!(cookie.starts_with("marvin_session="), "{cookie}");
    for wanted in ["Path=/", "HttpOnly", "SameSite=Lax", "Max-Age=43200"] {
        assert!(attributes.contains(&wanted), "{wanted} of {cookie}");
    }
    assert!(!attributes.contains(&"Secure"), "without HTTPS no browser would send it back");
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn behind_https_the_cookie_is_bound_to_host_and_tls() {
    let server = Launch::with_admin().public_url("https://marvin.example.org").start();
    let answer = sign_in(&server, ADMIN_EMAIL, ADMIN_PASSWORD).await.expect(200);
    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with("__Host-marvin_session=") && cookie.contains("; Secure"), "{cookie}");
    assert!(cookie.contains("; Path=/;") && !cookie.contains("Domain"), "{cookie}");
    let admin = Client::stranger(&server).holding(&answer);
    admin.get("/api/v1/session").await.expect(200);
    let renamed = admin.cookie().trim_start_matches("__Host-").to_owned();
    admin.send(admin.bare(Method::GET, "/api/v1/session").header("cookie", renamed)).await.problem(401);
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_are_refused_alike() {
    let server = Server::start();
    let mut refusals = Vec::new();
    for (email, password) in
        [(ADMIN_EMAIL, "wrong password"), ("nobody@example.org", "wrong password"), ("not an email", ""), ("", "")]
    {
        let answer = sign_in(&server, email, password).await;
        let mut problem = answer.problem(401);
        problem.as_object_mut().unwrap().remove("trace_id");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
        assert_eq!(answer.header("set-cookie"), "");
        refusals.push(problem);
    }
    refusals.dedup();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
}

#[tokio::test]
async fn an_email_signs_in_in_any_letter_case() {
    let server = Server::start();
    sign_in(&server, &ADMIN_EMAIL.to_uppercase(), ADMIN_PASSWORD).await.expect(200);
    sign_in(&server, &format!(" {ADMIN_EMAIL} "), ADMIN_PASSWORD).await.expect(200);
}

#[tokio::test]
async fn from_the_sixth_failure_on_an_account_is_throttled_and_others_are_not() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    admin.colleague("bob", &["member"]).await;
    for _ in 0..5 {
        sign_in(&server, "bob@example.org", "wrong password").await.problem(401);
    }
    for password in ["wrong password", "wrong password", PASSWORD] {
        let answer = sign_in(&server, "Bob@Example.org", password).await;
        answer.problem(429);
        let wait_s: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=900).contains(&wait_s), "{wait_s}");
    }
    sign_in(&server, ADMIN_EMAIL, ADMIN_PASSWORD).await.expect(200);
}

#[tokio::test]
async fn a_success_forgets_the_failures_before_it() {
    let server = Server::start();
    for _ in 0..2 {
        for _ in 0..5 {
            sign_in(&server, ADMIN_EMAIL, "wrong password").await.problem(401);
        }
        sign_in(&server, ADMIN_EMAIL, ADMIN_PASSWORD).await.expect(200);
    }
}

#[tokio::test]
async fn what_changes_something_needs_the_csrf_token_of_its_own_session() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let other = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let head = admin.head().await;
    let one = format!("/api/v1/agents/{agent}");
    let changes = [
        (Method::POST, "/api/v1/agents".to_owned()),
        (Method::PATCH, one.clone()),
        (Method::DELETE, one.clone()),
        (Method::POST, format!("{one}/pause")),
        (Method::POST, format!("{one}/tasks")),
        (Method::DELETE, "/api/v1/session".to_owned()),
    ];
    for (method, path) in changes {
        for token in [None, Some(""), Some("x"), Some(other.csrf()), Some(&admin.csrf()[1..])] {
            let request = admin.bare(method.clone(), &path).header("cookie", admin.cookie());
            let request = token.into_iter().fold(request, |request, token| request.header("x-csrf-token", token));
            admin.send(request.json(&json!({}))).await.problem(403);
        }
    }
    assert_eq!(admin.head().await, head, "a refused request appends nothing");
    admin.get("/api/v1/session").await.expect(200);
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused_and_the_own_one_is_not() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let credentials = json!({ "email": ADMIN_EMAIL, "password": ADMIN_PASSWORD });
    let agent = json!({ "name": "Agent", "kind": "rules", "config": { "rules": [] } });
    let set_up = json!({ "token": "x", "email": "x@example.org", "password": PASSWORD, "display_name": "X" });
    for foreign in ["https://evil.example", "null", "http://127.0.0.1:1", "", "http://127.0.0.1.evil.example"] {
        for (path, body) in [("/api/v1/agents", &agent), ("/api/v1/session", &credentials), ("/api/v1/setup", &set_up)]
        {
            let request = admin.request(Method::POST, path).header("origin", foreign).json(body);
            admin.send(request).await.problem(403);
        }
    }
    let own = admin.request(Method::POST, "/api/v1/agents").header("origin", server.url()).json(&agent);
    admin.send(own).await.expect(201);
}

#[tokio::test]
async fn no_cookie_but_a_living_sessions_is_let_in() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let (name, token) = admin.cookie().split_once('=').unwrap();
    let mut other = token.to_owned();
    other.replace_range(..1, if token.starts_with('A') { "B" } else { "A" });
    for cookie in [String::new(), format!("{name}="), format!("{name}={other}"), format!("{name}={}", &token[1..])] {
        let answer = admin.send(admin.bare(Method::GET, "/api/v1/session").header("cookie", &cookie)).await;
        answer.problem(401);
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    let among = format!("theme=dark; {name}={token}; x");
    admin.send(admin.bare(Method::GET, "/api/v1/session").header("cookie", among)).await.expect(200);
}

#[tokio::test]
async fn people_list_their_own_sessions_and_end_one_at_once() {
    let server = Server::start();
    let (admin, elsewhere) = (Client::admin(&server).await, Client::admin(&server).await);
    let bob = admin.colleague("bob", &["member"]).await;
    assert_eq!(bob.get("/api/v1/sessions").await.expect(200).items().len(), 1);
    let listed = admin.get("/api/v1/sessions").await.expect(200).items();
    assert_eq!(listed.len(), 2);
    let current: Vec<_> = listed.iter().map(|session| session["current"].as_bool().unwrap()).collect();
    assert_eq!(current, [false, true], "newest first");
    let id = listed[0]["id"].as_str().unwrap();
    elsewhere.get("/api/v1/session").await.expect(200);
    bob.delete(&format!("/api/v1/sessions/{id}")).await.problem(404);
    admin.delete(&format!("/api/v1/sessions/{id}")).await.expect(204);
    elsewhere.get("/api/v1/session").await.problem(401);
    admin.delete(&format!("/api/v1/sessions/{id}")).await.problem(404);
    assert_eq!(admin.get("/api/v1/sessions").await.expect(200).items().len(), 1);
}

#[tokio::test]
async fn an_erased_person_is_a_stranger_within_a_second() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let bob = admin.colleague("bob", &["member"]).await;
    bob.get("/api/v1/session").await.expect(200);
    admin.delete(&format!("/api/v1/users/{}", bob.user_id())).await.expect(200);
    let begun = Instant::now();
    while bob.get("/api/v1/agents").await.status != 401 {
        assert!(begun.elapsed() < Duration::from_secs(1), "still let in");
    }
    bob.get("/api/v1/session").await.problem(401);
    sign_in(&server, "bob@example.org", PASSWORD).await.problem(401);
}
