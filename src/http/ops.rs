//! What an operator's probes ask: does the process live, and should it get traffic. Neither answer needs a token.
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use actix_web::{HttpResponse, web};
use serde::Serialize;
use serde_json::json;

use super::problem::{Problem, RETRY_AFTER_S};

/// What `/readyz` answers from. Whoever notices a change writes it here; one is shared by all of the process.
#[derive(Debug, Default)]
pub struct Readiness {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    database_lost: bool,
    degraded: BTreeMap<String, Reason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Starting,
    Serving,
    Draining,
}

#[derive(Debug, Clone, Serialize)]
struct Reason {
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
}

#[derive(Serialize)]
struct Degraded<'a> {
    name: &'a str,
    #[serde(flatten)]
    reason: &'a Reason,
}

impl Readiness {
    /// A process that starts; it is not ready before [`Readiness::serve`].
    pub fn starting() -> Self {
        Self::default()
    }

    /// The start is over. A process that drains stays so.
    pub fn serve(&self) {
        self.change(|state| {
            if state.phase == Phase::Starting {
                state.phase = Phase::Serving;
            }
        });
    }

    /// The process is about to end: what runs is finished, nothing new should come.
    pub fn drain(&self) {
        self.change(|state| state.phase = Phase::Draining);
    }

    /// Whether the database can be reached; assumed until told otherwise.
    pub fn database(&self, reachable: bool) {
        self.change(|state| state.database_lost = !reachable);
    }

    /// Names a part that is slow, behind, stopped or unreachable, why, and for a reader of the log how far it came.
    /// The same name again replaces what was said of it.
    pub fn degrade(&self, name: &str, reason: impl Into<String>, position: Option<u64>) {
        let reason = Reason { reason: reason.into(), position };
        self.change(|state| state.degraded.insert(name.to_owned(), reason));
    }

    /// The part named `name` is well again.
    pub fn recover(&self, name: &str) {
        self.change(|state| state.degraded.remove(name));
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn answer(&self) -> Result<HttpResponse, Problem> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let unready = |why: &str| Err(Problem::unavailable(why, RETRY_AFTER_S));
        match state.phase {
            Phase::Starting => unready("The server is starting."),
            Phase::Draining => unready("The server is about to end and takes no new work."),
            Phase::Serving if state.database_lost => unready("The database cannot be reached."),
            Phase::Serving => {
                let degraded: Vec<_> = state.degraded.iter().map(|(name, reason)| Degraded { name, reason }).collect();
                Ok(HttpResponse::Ok().json(json!({ "status": "ready", "degraded": degraded })))
            }
        }
    }
}

/// `GET /healthz`: 200 while the process lives.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`: 200 with what is degraded, or 503 while starting, draining or without the database.
pub async fn readyz(readiness: web::Data<Readiness>) -> Result<HttpResponse, Problem> {
    readiness.answer()
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

    async fn probe(readiness: Readiness, path: &str) -> (u16, Value) {
        let app = App::new().wrap(from_fn(describe)).app_data(web::Data::new(readiness)).configure(configure);
        let response = call_service(&init_service(app).await, TestRequest::get().uri(path).to_request()).await;
        let status = response.status().as_u16();
        assert_eq!(response.headers().contains_key(header::RETRY_AFTER), status == 503);
        (status, read_body_json(response).await)
    }

    #[actix_web::test]
    async fn a_living_process_is_healthy_even_before_it_is_ready() {
        assert_eq!(probe(Readiness::starting(), "/healthz").await, (200, json!({ "status": "ok" })));
    }

    #[rstest]
    #[case::starting(|_: &Readiness| {}, 503)]
    #[case::serving(|readiness: &Readiness| readiness.serve(), 200)]
    #[case::draining(|readiness: &Readiness| { readiness.serve(); readiness.drain() }, 503)]
    #[case::drained_for_good(|readiness: &Readiness| { readiness.drain(); readiness.serve() }, 503)]
    #[case::without_database(|readiness: &Readiness| { readiness.serve(); readiness.database(false) }, 503)]
    #[case::database_back(|readiness: &Readiness| { readiness.serve(); readiness.database(false); readiness.database(true) }, 200)]
    #[case::degraded(|readiness: &Readiness| { readiness.serve(); readiness.degrade("cache", "unreachable", None) }, 200)]
    #[actix_web::test]
    async fn only_starting_draining_or_a_lost_database_is_unready(#[case] given: fn(&Readiness), #[case] status: u16) {
        let readiness = Readiness::starting();
        given(&readiness);
        assert_eq!(probe(readiness, "/readyz").await.0, status);
    }

    #[actix_web::test]
    async fn a_ready_process_names_what_is_degraded() {
        let readiness = Readiness::starting();
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
