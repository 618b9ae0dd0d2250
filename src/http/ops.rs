//! What an operator's probes ask: does the process live, and should it get traffic. Neither answer needs a token.
use actix_web::{HttpResponse, web};
use serde_json::json;

use super::problem::{Problem, RETRY_AFTER_S};
use crate::health::{Health, Phase};

/// `GET /healthz`: 200 while the process lives.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`: 200 with what is degraded, or 503 while starting, draining or without the database.
///
/// # Errors
/// 503 with `Retry-After`.
pub async fn readyz(health: web::Data<Health>) -> Result<HttpResponse, Problem> {
    let unready = |why: &str| Err(Problem::unavailable(why, RETRY_AFTER_S));
    match health.phase() {
        Phase::Starting => unready("The server is starting."),
        Phase::Draining => unready("The server is about to end and takes no new work."),
        Phase::Serving if health.is_database_lost() => unready("The database cannot be reached."),
        Phase::Serving => Ok(HttpResponse::Ok().json(json!({ "status": "ready", "degraded": health.degraded() }))),
    }
}

/// Registers both probes. They bypass the gate: a probe must not fail because sign-in does.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/healthz").get(healthz).head(healthz))
        .service(web::resource("/readyz").get(readyz).head(readyz));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::describe::describe;
    use actix_web::App;
    use actix_web::http::header;
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
    use rstest::rstest;
    use serde_json::Value;

    async fn probe(readiness: Health, path: &str) -> (u16, Value) {
        let app = App::new().wrap(from_fn(describe)).app_data(web::Data::new(readiness)).configure(configure);
        let response = call_service(&init_service(app).await, TestRequest::get().uri(path).to_request()).await;
        let status = response.status().as_u16();
        assert_eq!(response.headers().contains_key(header::RETRY_AFTER), status == 503);
        (status, read_body_json(response).await)
    }

    #[actix_web::test]
    async fn a_living_process_is_healthy_even_before_it_is_ready() {
        assert_eq!(probe(Health::default(), "/healthz").await, (200, json!({ "status": "ok" })));
    }

    #[rstest]
    #[case::starting(|_: &Health| {}, 503)]
    #[case::serving(|readiness: &Health| readiness.serve(), 200)]
    #[case::draining(|readiness: &Health| { readiness.serve(); readiness.drain() }, 503)]
    #[case::drained_for_good(|readiness: &Health| { readiness.drain(); readiness.serve() }, 503)]
    #[case::without_database(|readiness: &Health| { readiness.serve(); readiness.database(false) }, 503)]
    #[case::database_back(|readiness: &Health| { readiness.serve(); readiness.database(false); readiness.database(true) }, 200)]
    #[case::degraded(|readiness: &Health| { readiness.serve(); readiness.degrade("cache", "unreachable", None) }, 200)]
    #[actix_web::test]
    async fn only_starting_draining_or_a_lost_database_is_unready(#[case] given: fn(&Health), #[case] status: u16) {
        let readiness = Health::default();
        given(&readiness);
        assert_eq!(probe(readiness, "/readyz").await.0, status);
    }

    #[actix_web::test]
    async fn a_ready_process_names_what_is_degraded() {
        let readiness = Health::default();
        readiness.serve();
        readiness.degrade("broker", "unreachable", None);
        readiness.degrade("inbox", "behind", Some(3));
        readiness.degrade("inbox", "stopped", Some(41));
        readiness.degrade("cache", "slow", None);
        readiness.recover("cache");
        let degraded = json!([
            { "name": "broker", "reason": "unreachable" },
            { "name": "inbox", "reason": "stopped", "position": 41 },
        ]);
        assert_eq!(probe(readiness, "/readyz").await.1, json!({ "status": "ready", "degraded": degraded }));
    }

    #[actix_web::test]
    async fn a_probe_that_posts_is_405() {
        let app = App::new().wrap(from_fn(describe)).configure(configure);
        let response = call_service(&init_service(app).await, TestRequest::post().uri("/readyz").to_request()).await;
        assert_eq!(response.status().as_u16(), 405);
        assert_eq!(response.headers().get(header::ALLOW).unwrap(), "GET, HEAD");
    }
}
