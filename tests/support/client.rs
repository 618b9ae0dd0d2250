//! A person at the API: holds a session, shows its CSRF token, reads its own writes.
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{
    answer::Answer,
    server::{ADMIN_EMAIL, ADMIN_PASSWORD, Server},
    wait::eventually,
};

/// What everybody but the administrator signs in with.
pub const PASSWORD: &str = "another password for tests";

#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    session: Option<Session>,
}

#[derive(Debug, Clone)]
struct Session {
    user_id: String,
    cookie: String,
    csrf: String,
}

impl Client {
    /// Somebody who is not signed in.
    pub fn stranger(server: &Server) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        Self { http: http.expect("a client can be built"), url: server.url().to_owned(), session: None }
    }

    /// The administrator of [`super::Launch::with_admin`].
    pub async fn admin(server: &Server) -> Self {
        Self::sign_in(server, ADMIN_EMAIL, ADMIN_PASSWORD).await
    }

    /// # Panics
    /// When it is refused.
    pub async fn sign_in(server: &Server, email: &str, password: &str) -> Self {
        let stranger = Self::stranger(server);
        let answer = stranger.post("/api/v1/session", &json!({ "email": email, "password": password })).await;
        stranger.holding(&answer.expect(200))
    }

    /// The same person after an answer that opened a session.
    #[must_use]
    pub fn holding(mut self, signed_in: &Answer) -> Self {
        let (body, cookie) = (signed_in.json(), signed_in.header("set-cookie"));
        let text = |value: &Value| value.as_str().expect("a session names its user and its token").to_owned();
        self.session = Some(Session {
            user_id: text(&body["user"]["id"]),
            cookie: cookie.split(';').next().unwrap_or_default().to_owned(),
            csrf: text(&body["csrf_token"]),
        });
        self
    }

    /// The same person at another server, as after a restart.
    #[must_use]
    pub fn at(&self, server: &Server) -> Self {
        Self { url: server.url().to_owned(), ..self.clone() }
    }

    /// Registers somebody with these roles and signs them in.
    pub async fn colleague(&self, name: &str, roles: &[&str]) -> Self {
        let email = format!("{name}@example.org");
        let created = self.post("/api/v1/users", &user(&email, name, roles)).await.expect(201);
        let other = Self { session: None, ..self.clone() };
        let answer = other.post("/api/v1/session", &json!({ "email": email, "password": PASSWORD })).await.expect(200);
        let other = other.holding(&answer);
        assert_eq!(other.user_id(), created.id());
        other
    }

    /// # Panics
    /// For a stranger.
    pub fn user_id(&self) -> &str {
        &self.session.as_ref().expect("somebody who is signed in").user_id
    }

    pub fn csrf(&self) -> &str {
        self.session.as_ref().map_or("", |session| &session.csrf)
    }

    /// `name=value`, as it goes into a `Cookie` header.
    pub fn cookie(&self) -> &str {
        self.session.as_ref().map_or("", |session| &session.cookie)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// A request with the session's cookie and, where it changes something, its CSRF token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.bare(method.clone(), path);
        match &self.session {
            Some(session) if method != Method::GET && method != Method::HEAD => {
                request.header("cookie", &session.cookie).header("x-csrf-token", &session.csrf)
            }
            Some(session) => request.header("cookie", &session.cookie),
            None => request,
        }
    }

    /// A request that shows nothing of the session.
    pub fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        Answer::read(request.send().await.expect("the server answers")).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// Reads no earlier than `position`.
    pub async fn get_at(&self, path: &str, position: u64) -> Answer {
        self.send(self.request(Method::GET, path).header("marvin-min-position", position)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// A POST without a body, such as a cancellation.
    pub async fn order(&self, path: &str) -> Answer {
        self.send(self.request(Method::POST, path)).await
    }

    pub async fn post_keyed(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).header("idempotency-key", key).json(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Makes an agent of this kind and configuration; answers its id.
    pub async fn agent(&self, kind: &str, config: Value) -> String {
        self.post("/api/v1/agents", &json!({ "name": "Agent", "kind": kind, "config": config })).await.expect(201).id()
    }

    /// Makes a schedule that does not fire while a test runs; answers its id.
    pub async fn schedule(&self, agent: &str) -> String {
        let body = json!({ "name": "Schedule", "agent_id": agent, "input": 1, "cron": "0 0 1 1 *" });
        self.post("/api/v1/schedules", &body).await.expect(201).id()
    }

    /// Gives an agent a task; answers the receipt.
    pub async fn submit(&self, agent: &str, input: Value) -> Answer {
        self.post(&format!("/api/v1/agents/{agent}/tasks"), &json!({ "input": input })).await.expect(202)
    }

    /// Gives an agent a task and waits for its end; answers the task.
    pub async fn task_done(&self, agent: &str, input: Value) -> Value {
        let receipt = self.submit(agent, input).await;
        self.task_ended(&receipt.id()).await
    }

    /// How many unread notifications the inbox has, on all its pages.
    pub async fn unread(&self) -> usize {
        let (mut count, mut cursor) = (0, String::new());
        loop {
            let page = self.get(&format!("/api/v1/notifications?unread=true&limit=200{cursor}")).await.expect(200);
            count += page.items().len();
            let Some(next) = page.json()["next_cursor"].as_str().map(str::to_owned) else { return count };
            cursor = format!("&cursor={next}");
        }
    }

    /// The task as soon as it is completed, failed, cancelled or dead.
    pub async fn task_ended(&self, id: &str) -> Value {
        let path = format!("/api/v1/tasks/{id}");
        eventually(&format!("task {id} ends"), async || {
            let task = self.get(&path).await;
            // A view that has not heard of the task yet has none, and one that is being built does not answer.
            let task = (![404, 503].contains(&task.status)).then(|| task.expect(200).json())?;
            let ended = ["completed", "failed", "cancelled", "dead"];
            ended.contains(&task["status"].as_str().unwrap_or_default()).then_some(task)
        })
        .await
    }

    /// How far the log is.
    pub async fn head(&self) -> u64 {
        let beyond = self.get(&format!("/api/v1/events?after={}", u64::MAX)).await.problem(400);
        let detail = beyond["errors"][0]["detail"].as_str().unwrap_or_default().to_owned();
        detail.rsplit(' ').next().and_then(|head| head.parse().ok()).expect("the refusal says where the log ends")
    }
}

/// The body of a registration.
pub fn user(email: &str, name: &str, roles: &[&str]) -> Value {
    json!({ "email": email, "display_name": name, "password": PASSWORD, "roles": roles })
}
