//! Who calls: reads the session cookie, checks the CSRF token and the origin, and asks the log for the person's rights; begins the
//! commands that they give.
use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::{Method, header},
    web,
};
use chrono::Utc;
use marvin_domain::{
    Actor, ids,
    user::{Role, Standing, User},
};
use std::{
    future::{Ready, ready},
    sync::Arc,
};
use uuid::Uuid;

use super::{
    api::{Api, hex},
    conditional::IdempotencyKey,
    problem::Problem,
    route::{Access, Gate},
};
use crate::{
    accounts::user_stream,
    dispatch::CommandMeta,
    security::{
        permissions::{Permission, any_allows},
        sessions::{Session, SessionToken},
    },
};

/// Carries the token that a cookie request needs when it changes something.
const CSRF_HEADER: &str = "X-CSRF-Token";

/// A person who is signed in, with the rights they have now.
#[derive(Debug, Clone)]
pub struct Caller {
    pub user_id: Uuid,
    pub roles: Vec<Role>,
    pub session: Session,
    pub token: Arc<SessionToken>,
}

impl Caller {
    pub fn may(&self, permission: Permission) -> bool {
        any_allows(&self.roles, permission)
    }

    /// Whether something of `owner` may be seen or changed: what is one's own, or everyone's with `all`.
    pub fn reaches(&self, owner: Uuid, all: Permission) -> bool {
        owner == self.user_id || self.may(all)
    }
}

/// Filled by the gate; a handler of a route that lets strangers in cannot ask for it.
impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Self>().cloned();
        ready(caller.ok_or_else(|| Problem::unauthenticated("Sign in first.")))
    }
}

/// The name of the session cookie: bound to this host and to HTTPS where there is HTTPS.
pub fn cookie_name(public_url: &str) -> &'static str {
    if public_url.starts_with("https://") { "__Host-marvin_session" } else { "marvin_session" }
}

fn session_token(request: &HttpRequest, public_url: &str) -> Option<SessionToken> {
    let name = cookie_name(public_url);
    let cookies = request.headers().get_all(header::COOKIE).filter_map(|value| value.to_str().ok());
    let mut values = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| {
        let (found, value) = cookie.trim().split_once('=')?;
        (found == name).then_some(value)
    });
    values.find_map(SessionToken::parse)
}

/// Refuses a request that a page of another origin sent. Requests without `Origin` come from no page.
///
/// # Errors
/// 403.
pub fn check_origin(request: &HttpRequest, public_url: &str) -> Result<(), Problem> {
    match request.headers().get(header::ORIGIN) {
        Some(origin) if !same_origin(origin.to_str().unwrap_or_default(), public_url) => {
            Err(Problem::forbidden("The request comes from a page of another origin."))
        }
        _ => Ok(()),
    }
}

/// The public origin itself; on a machine of one's own, `localhost` and `127.0.0.1` are the same place.
fn same_origin(origin: &str, public_url: &str) -> bool {
    let loopback = |url: &str| {
        let rest = url.strip_prefix("http://")?;
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, "80"));
        ["localhost", "127.0.0.1", "[::1]"].contains(&host).then(|| port.to_owned())
    };
    origin == public_url || loopback(origin).is_some_and(|port| loopback(public_url) == Some(port))
}

/// Lets in who is signed in and holds what the route needs.
pub struct SessionGate(pub web::Data<Api>);

#[async_trait::async_trait(?Send)]
impl Gate<Permission> for SessionGate {
    async fn admit(&self, request: &HttpRequest, access: Access<Permission>) -> Result<(), Problem> {
        if access == Access::Public {
            return Ok(());
        }
        let caller = self.0.caller(request).await?;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            self.0.check_csrf(request, &caller)?;
        }
        if let Access::Needs(permission) = access
            && !caller.may(permission)
        {
            return Err(Problem::forbidden("Your roles do not allow this."));
        }
        request.extensions_mut().insert(caller);
        Ok(())
    }
}

impl Api {
    /// # Errors
    /// 401 without a session that stands, 503 when that cannot be told.
    async fn caller(&self, request: &HttpRequest) -> Result<Caller, Problem> {
        let unauthenticated = || Problem::unauthenticated("Sign in first.");
        let token = session_token(request, &self.public_url).ok_or_else(unauthenticated)?;
        self.identify(Arc::new(token)).await?.ok_or_else(unauthenticated)
    }

    /// Who this token belongs to now, with the rights they have now; nobody when the session or the account has ended.
    ///
    /// # Errors
    /// 503 when that cannot be told.
    pub async fn identify(&self, token: Arc<SessionToken>) -> Result<Option<Caller>, Problem> {
        let Some(session) = self.sessions.find(&token, Utc::now().timestamp_millis()).await? else { return Ok(None) };
        let loaded = self.dispatcher.load(user_stream(session.user_id)).await?;
        let user = <&User>::try_from(&loaded.state).ok().filter(|user| user.standing == Standing::Active);
        Ok(user.map(|user| Caller {
            user_id: session.user_id,
            roles: user.roles.iter().copied().collect(),
            session,
            token,
        }))
    }

    /// The command of a request that cannot be repeated under a key.
    pub fn meta(&self, caller: &Caller) -> CommandMeta {
        CommandMeta::new(Actor::User(caller.user_id))
    }

    /// The command of a POST, with the id and digest that follow from its `Idempotency-Key`, if it has one.
    ///
    /// # Errors
    /// 400 for a bad key, 503 when the caller's data key cannot be had.
    pub async fn keyed_meta(
        &self,
        request: &HttpRequest,
        caller: &Caller,
        body: &[u8],
    ) -> Result<CommandMeta, Problem> {
        let mut meta = self.meta(caller);
        if let Some(key) = IdempotencyKey::from_headers(request.headers())? {
            let keys = self.subjects.keys(&[caller.user_id]).await?;
            let data_key = keys.get(&caller.user_id).ok_or_else(|| Problem::unauthenticated("The account is gone."))?;
            meta.command_id = ids::keyed(caller.user_id, request.method().as_str(), request.path(), key.as_str());
            meta.digest = Some(hex(&data_key.mac("request digest", body)));
            meta.correlation = meta.command_id;
        }
        Ok(meta)
    }

    fn check_csrf(&self, request: &HttpRequest, caller: &Caller) -> Result<(), Problem> {
        check_origin(request, &self.public_url)?;
        let presented = request.headers().get(CSRF_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if self.sessions.csrf_matches(&caller.token, presented) {
            Ok(())
        } else {
            Err(Problem::forbidden("A request that changes something needs the session's X-CSRF-Token."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::same_origin;

    #[test]
    fn only_the_public_origin_is_ours_and_loopback_names_are_one_place() {
        assert!(same_origin("https://marvin.example", "https://marvin.example"));
        assert!(!same_origin("https://evil.example", "https://marvin.example"));
        assert!(!same_origin("http://marvin.example", "https://marvin.example"));
        assert!(same_origin("http://localhost:8080", "http://127.0.0.1:8080"));
        assert!(!same_origin("http://localhost:8081", "http://127.0.0.1:8080"));
        assert!(!same_origin("http://localhost.evil.example:8080", "http://127.0.0.1:8080"));
        assert!(!same_origin("null", "http://127.0.0.1:8080"));
    }
}
