//! What every handler works with: the application's parts, and the shapes of answers that several resources share.
use actix_web::{HttpRequest, HttpResponse, http::header};
use marvin_projections::Projection;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

use super::{
    conditional::{IfMatch, MARVIN_POSITION, etag, min_position},
    problem::{Problem, RETRY_AFTER_S},
};
use crate::{
    accounts::Accounts,
    agent::{Kinds, lease::Leases, webhook::callback::Callbacks},
    dispatch::{DispatchError, Dispatcher},
    log::{EventLog, ReadError, Receipt, codec::Codec, tail::Tail},
    schedule::Firing,
    secrets::Secrets,
    security::{
        channels::ChannelKeys,
        passwords::Passwords,
        sessions::Sessions,
        subjects::{SubjectStore, SubjectsError},
        throttle::SignInThrottle,
    },
    setup::SetupTokens,
    store::StoreError,
    views::{ViewError, admin::Projections, query::Views},
};

/// The parts of the application, shared by all requests.
pub struct Api {
    /// `/marvin/<instance>`: the source of every CloudEvent.
    pub source: String,
    /// The history that the log tells: what clients keep of another one is of no use in it.
    pub incarnation: Uuid,
    /// The origin that people reach the server under.
    pub public_url: String,
    pub dispatcher: Dispatcher,
    pub views: Views,
    pub projections: Arc<Projections>,
    pub tail: Arc<Tail>,
    pub log: Arc<dyn EventLog>,
    pub codec: Codec,
    pub kinds: Kinds,
    pub leases: Arc<Leases>,
    /// Fires schedules that somebody triggers.
    pub firing: Firing,
    pub channels: ChannelKeys,
    pub subjects: Arc<dyn SubjectStore>,
    pub accounts: Accounts,
    pub passwords: Passwords,
    pub sessions: Sessions,
    pub throttle: SignInThrottle,
    pub setup: SetupTokens,
    pub secrets: Secrets,
    pub callbacks: Arc<Callbacks>,
}

impl Api {
    /// Waits until the view has reached what the request asks for, and answers how far it is.
    ///
    /// # Errors
    /// 400 for a bad `Marvin-Min-Position`, 503 when the view does not get there in time.
    pub async fn reach<P: Projection>(&self, request: &HttpRequest) -> Result<u64, Problem> {
        if let Some(position) = min_position(request.headers())? {
            self.views.wait::<P>(position).await.map_err(|behind| {
                Problem::unavailable(format!("The view has reached position {}.", behind.reached), RETRY_AFTER_S)
            })?;
        }
        Ok(self.views.reached::<P>())
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The `If-Match` of a request as a condition on the sequence; absent, any sequence will do.
pub(super) fn precondition(request: &HttpRequest) -> Result<impl Fn(u64) -> bool + Send + Sync + use<>, Problem> {
    let condition = IfMatch::from_headers(request.headers())?;
    Ok(move |sequence| condition.as_ref().is_none_or(|condition| condition.matches(sequence)))
}

fn receipt_body(receipt: &Receipt) -> serde_json::Value {
    json!({ "id": receipt.stream.id, "sequence": receipt.sequence, "position": receipt.position })
}

fn answered(mut response: actix_web::HttpResponseBuilder, receipt: &Receipt) -> HttpResponse {
    response
        .insert_header((MARVIN_POSITION, receipt.position.to_string()))
        .insert_header((header::ETAG, etag(receipt.sequence)))
        .json(receipt_body(receipt))
}

/// 200 with where the command's events stand.
pub(super) fn done(receipt: &Receipt) -> HttpResponse {
    answered(HttpResponse::Ok(), receipt)
}

/// 201 with the address of what was made.
pub(super) fn created(receipt: &Receipt, collection: &str) -> HttpResponse {
    let mut response = HttpResponse::Created();
    response.insert_header((header::LOCATION, format!("/api/v1/{collection}/{}", receipt.stream.id)));
    answered(response, receipt)
}

/// 202 with the address of what was taken on.
pub(super) fn accepted(receipt: &Receipt, collection: &str) -> HttpResponse {
    let mut response = HttpResponse::Accepted();
    response.insert_header((header::LOCATION, format!("/api/v1/{collection}/{}", receipt.stream.id)));
    answered(response, receipt)
}

/// One resource as of `position`.
pub(super) fn resource(position: u64, sequence: u64, body: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((MARVIN_POSITION, position.to_string()))
        .insert_header((header::ETAG, etag(sequence)))
        .json(body)
}

/// A list, or what is no resource of its own, as of `position`.
pub(super) fn list(position: u64, body: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((MARVIN_POSITION, position.to_string())).json(body)
}

/// Reads an optional id of a filter; an id in another form finds nothing, so it is refused as a bad filter.
pub(super) fn id_filter(name: &str, text: Option<&str>) -> Result<Option<Uuid>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let id = super::path::PathId::parse(text)
        .ok_or_else(|| super::query::refused(vec![crate::error::FieldError::new(format!("/{name}"), "not an id")]))?;
    Ok(Some(id.0))
}

impl From<DispatchError> for Problem {
    fn from(error: DispatchError) -> Self {
        use marvin_domain::RefusalKind::{Absent, Late, Rule};
        match error {
            DispatchError::Refused(refusal) => match refusal.kind {
                Absent => Self::not_found(),
                Rule => Self::unprocessable(sentence(&refusal.reason), Vec::new()),
                Late => Self::conflict(sentence(&refusal.reason)),
            },
            DispatchError::Stale { sequence } => {
                Self::precondition_failed(format!("The resource is at sequence {sequence} by now."))
            }
            DispatchError::Contended => Self::conflict("Others changed the resource at the same time. Try again."),
            DispatchError::TimedOut => {
                Self::unavailable(format!("The command has not finished in time. {AGAIN}"), RETRY_AFTER_S)
            }
            DispatchError::Reused => Self::unprocessable("This key was used for another request.", Vec::new()),
            DispatchError::TooLarge(reason) => Self::unprocessable(sentence(&reason), Vec::new()),
            DispatchError::Unavailable(error) => Self::not_recorded(error),
            DispatchError::Keys(_) => Self::unavailable(format!("{NO_KEYS} {AGAIN}"), RETRY_AFTER_S),
            error @ DispatchError::Corrupt(_) => Self::internal(error),
        }
    }
}

const NO_KEYS: &str = "The keys that the log is sealed with cannot be had.";
/// An earlier attempt of the same command may stand all the same.
const AGAIN: &str = "It may have been carried out all the same: sent again under its Idempotency-Key it is carried out once, and \
                     without one, look first.";

impl Problem {
    /// Why the log did not acknowledge a change, and what to do. None of these says that nothing was written: an attempt whose answer
    /// was lost may have been, before the one that failed in this way.
    fn not_recorded(error: StoreError) -> Self {
        let why = match &error {
            StoreError::Full(_) => "The disk of the log is full.",
            StoreError::Busy(_) => "The log is being held by somebody else.",
            StoreError::Refused(_) => "The database of the log refused.",
            StoreError::Unreachable(_) | StoreError::Commit(_) | StoreError::Closed => "The log cannot be reached.",
        };
        Self::unavailable(format!("{why} {AGAIN}"), RETRY_AFTER_S).because(error)
    }
}

impl From<ViewError> for Problem {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Unavailable(_) | ViewError::Gone | ViewError::SetBack { .. } => {
                Self::unavailable("The views cannot be reached.", RETRY_AFTER_S)
            }
            building @ ViewError::Building { .. } => Self::unavailable(sentence(&building.to_string()), RETRY_AFTER_S),
            error => Self::internal(error),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(error) => Self::unavailable("The log cannot be read.", RETRY_AFTER_S).because(error),
            ReadError::Keys(_) => Self::unavailable(format!("{NO_KEYS} Try again."), RETRY_AFTER_S),
            error @ ReadError::Corrupt { .. } => Self::internal(error),
        }
    }
}

impl From<SubjectsError> for Problem {
    fn from(error: SubjectsError) -> Self {
        match error {
            SubjectsError::Unavailable(_) => Self::unavailable("Accounts cannot be reached.", RETRY_AFTER_S),
            error => Self::internal(error),
        }
    }
}

/// Refusals are written for the middle of a sentence; an answer begins with a capital and ends with a full stop.
pub(super) fn sentence(reason: &str) -> String {
    let mut letters = reason.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::io;

    fn told() -> Arc<io::Error> {
        Arc::new(io::Error::other("on /dev/sda1"))
    }

    #[rstest]
    #[case::full(StoreError::Full(told()), "The disk of the log is full.")]
    #[case::busy(StoreError::Busy(told()), "The log is being held by somebody else.")]
    #[case::refused(StoreError::Refused(told()), "The database of the log refused.")]
    #[case::unreachable(StoreError::Unreachable(told()), "The log cannot be reached.")]
    fn a_command_that_was_not_acknowledged_says_what_became_of_it(#[case] error: StoreError, #[case] says: &str) {
        let problem = Problem::from(DispatchError::Unavailable(error));
        assert_eq!(problem.status().as_u16(), 503);
        let detail = problem.detail().unwrap();
        assert_eq!(detail, format!("{says} {AGAIN}"));
        assert!(problem.causes().join(": ").contains("sda1"), "the log is told why");
    }

    #[test]
    fn missing_keys_are_not_taken_for_a_log_that_is_away() {
        let (written, read) = (DispatchError::Keys("no".into()), ReadError::Keys("no".into()));
        for (problem, help) in [(Problem::from(written), AGAIN), (Problem::from(read), "Try again.")] {
            let told = format!("{NO_KEYS} {help}");
            assert_eq!((problem.status().as_u16(), problem.detail()), (503, Some(&*told)));
        }
    }
}
