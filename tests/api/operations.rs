//! What operators ask: metrics on a listener of their own, probes, and how the program starts and ends.
use serde_json::json;
use std::collections::BTreeSet;

use crate::support::{Answer, Client, Launch, Server, Stopped, eventually, metrics_url};

async fn get(url: &str) -> Answer {
    Answer::read(reqwest::get(url).await.unwrap()).await
}

#[tokio::test]
async fn the_metrics_listener_serves_metrics_and_nothing_else_and_the_api_serves_none() {
    let server = Launch::with_admin().set("MARVIN_METRICS_LISTEN", "127.0.0.1:0").start();
    let admin = Client::admin(&server).await;
    let url = metrics_url(&server);
    let text = get(&format!("{url}/metrics")).await.expect(200);
    assert_eq!(text.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(String::from_utf8_lossy(&text.body).contains("marvin_http_requests_total{"));
    for path in ["/", "/healthz", "/readyz", "/api/v1/session", "/api/v1/agents", "/metrics/x"] {
        get(&format!("{url}{path}")).await.problem(404);
    }
    admin.get("/metrics").await.problem(404);
    let posted = reqwest::Client::new().post(format!("{url}/metrics")).send().await.unwrap();
    assert_eq!(posted.status().as_u16(), 405);
}

#[tokio::test]
async fn labels_are_bounded_and_name_nobody() {
    let server = Launch::with_admin().set("MARVIN_METRICS_LISTEN", "127.0.0.1:0").start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let url = format!("{}/metrics", metrics_url(&server));
    for number in 0..20 {
        let id = uuid::Uuid::now_v7();
        admin.get(&format!("/api/v1/agents/{id}")).await;
        admin.get(&format!("/api/v1/nothing/{number}")).await;
        admin.get(&format!("/api/v1/tasks?agent_id={id}")).await;
        admin.send(admin.request(format!("BREW{number}").parse().unwrap(), "/api/v1/agents")).await;
    }
    admin.task_done(&agent, json!("words")).await;
    let gauges = eventually("the gauges are set", async || {
        let text = get(&url).await.expect(200);
        let text = String::from_utf8_lossy(&text.body).into_owned();
        text.contains("marvin_projection_lag_events").then_some(text)
    })
    .await;
    assert!(gauges.contains("marvin_log_position") && gauges.contains("marvin_tasks_running"), "{gauges}");
    let text = get(&url).await.expect(200);
    let text = String::from_utf8_lossy(&text.body).into_owned();
    let patterns = marvin::http::routes().iter().map(|resource| resource.path()).collect::<Vec<_>>();
    let routes: BTreeSet<&str> = patterns.into_iter().chain(["/healthz", "/readyz", "unmatched"]).collect();
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"].into();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        for (name, known) in [("route", &routes), ("method", &methods)] {
            let value = line.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split('"').next());
            assert!(value.is_none_or(|value| known.contains(value)), "{line}");
        }
        assert!(!line.contains(&agent) && !line.contains('@') && !line.contains("words"), "{line}");
    }
    for seen in [r#"route="unmatched",status="404""#, r#"method="other",route="/api/v1/agents",status="405""#] {
        assert!(text.contains(seen), "{seen} is not in\n{text}");
    }
}

#[tokio::test]
async fn the_probes_need_no_session_and_tell_that_all_is_well() {
    let server = Server::start();
    let stranger = Client::stranger(&server);
    assert_eq!(stranger.get("/healthz").await.expect(200).json(), json!({ "status": "ok" }));
    assert_eq!(stranger.get("/readyz").await.expect(200).json(), json!({ "status": "ready", "degraded": [] }));
}

#[tokio::test]
async fn every_answer_carries_the_security_headers_and_a_trace() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    for path in ["/", "/api/v1/agents", "/api/v1/nothing", "/healthz", "/setup"] {
        let answer = admin.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(answer.header("marvin-trace-id").len(), 32, "{path}");
        assert_eq!(answer.header("server"), "", "{path} does not say what runs");
    }
}

#[tokio::test]
async fn work_goes_on_behind_a_stop_and_behind_a_crash() {
    let server = Server::start();
    let mut admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let ends: [fn(Server) -> Stopped; 2] = [Server::stop, Server::kill9];
    let mut server = server;
    for end in ends {
        let mut tasks = Vec::new();
        for number in 0..20 {
            tasks.push(admin.submit(&agent, json!(number)).await.id());
        }
        server = end(server).start();
        admin = admin.at(&server);
        for task in tasks {
            assert_eq!(admin.task_ended(&task).await["status"], "completed");
        }
    }
}

#[tokio::test]
async fn a_data_directory_has_one_server_at_a_time() {
    let server = Server::start();
    let second = server.launch().run(&["serve"]);
    assert_eq!(second.status.code(), Some(1));
    let reason = String::from_utf8(second.stderr).unwrap();
    assert!(reason.contains("marvin: "), "{reason}");
    Client::admin(&server).await.get("/api/v1/session").await.expect(200);
}

#[test]
fn a_wrong_setting_stops_the_start_with_its_name() {
    for (name, value) in [
        ("MARVIN_LISTEN", "nowhere"),
        ("MARVIN_CIPHER", "rot13"),
        ("MARVIN_INSTANCE", "My Marvin"),
        ("MARVIN_PUBLIC_URL", "marvin"),
        ("MARVIN_METRICS_LISTEN", "yes"),
        ("MARVIN_LOG", "marvin=loud"),
        ("MARVIN_LOG_FORMAT", "xml"),
        ("MARVIN_DATABASE_URL", "postgres://localhost/marvin"),
        ("MARVIN_REDIS_URL", "localhost:6379"),
        ("MARVIN_AMQP_URL", "localhost:5672"),
        ("MARVIN_TLS_CERT", "cert.pem"),
    ] {
        let output = Launch::with_admin().set(name, value).run(&["serve"]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        let reason = String::from_utf8(output.stderr).unwrap();
        assert!(reason.contains(name), "{name} is not in {reason}");
    }
    let usage = Launch::bare().run(&["serve", "--colour", "red"]);
    assert_eq!(usage.status.code(), Some(2));
}
