//! Sessions of people in browsers: opaque tokens, of which only hashes are kept.
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use secrecy::SecretString;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::fresh_cache::FreshCache;
use super::random;
use super::subjects::{HASH_BYTES, SessionRow, SubjectStore, SubjectsError};

/// A session ends by itself after a working day; signing in again is a minute's work.
pub const SESSION_LIFETIME_MS: i64 = 12 * 60 * 60 * 1000;
/// 256 random bits: nobody guesses them, so a plain hash of them is enough to keep.
const TOKEN_BYTES: usize = 32;
/// Sessions held in memory: more than are active at once, in a few megabytes.
const SESSIONS_CACHED_MAX: u64 = 20_000;
/// How long an end of the session on another node may go unnoticed. On this node it is seen at once.
const SESSION_AGE_MAX: Duration = Duration::from_secs(1);
/// What CSRF tokens are computed for.
const CSRF_LABEL: &str = "csrf";

/// What the session cookie holds. Whoever has it is signed in, so it is never printed or kept.
pub struct SessionToken(Zeroizing<[u8; TOKEN_BYTES]>);

impl SessionToken {
    /// Reads a cookie's value; anything but a token of ours is nothing.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        let length = BASE64URL.decode_slice(text, bytes.as_mut_slice()).ok()?;
        (length == TOKEN_BYTES).then_some(Self(bytes))
    }

    /// The value for the cookie: 43 characters of base64url.
    pub fn expose(&self) -> SecretString {
        BASE64URL.encode(self.0.as_slice()).into()
    }

    fn hash(&self) -> [u8; HASH_BYTES] {
        digest(&SHA256, self.0.as_slice()).as_ref().try_into().expect("SHA-256 gives 32 bytes")
    }
}

impl std::fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionToken([hidden])")
    }
}

/// A session as others may see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    pub id: Uuid,
    pub user_id: Uuid,
    pub created_at_ms: i64,
    pub expires_at_ms: i64,
}

impl From<SessionRow> for Session {
    fn from(row: SessionRow) -> Self {
        let SessionRow { id, user_id, created_at_ms, expires_at_ms, .. } = row;
        Self { id, user_id, created_at_ms, expires_at_ms }
    }
}

impl Session {
    fn is_over(&self, now_ms: i64) -> bool {
        self.expires_at_ms <= now_ms
    }
}

/// Opens, finds and ends sessions. What ended here is not found again, also not by requests that are under way.
#[derive(Debug)]
pub struct Sessions {
    store: Arc<dyn SubjectStore>,
    cache: FreshCache<[u8; HASH_BYTES], Session>,
}

impl Sessions {
    pub fn new(store: Arc<dyn SubjectStore>) -> Self {
        Self { store, cache: FreshCache::new(SESSIONS_CACHED_MAX, SESSION_AGE_MAX) }
    }

    /// Signs a person in: their password, or whatever proves them, was checked before.
    ///
    /// # Errors
    /// `UnknownUser` when the person was erased meanwhile.
    pub async fn open(&self, id: Uuid, user_id: Uuid, now_ms: i64) -> Result<(Session, SessionToken), SubjectsError> {
        let token = SessionToken(random::secret());
        let expires_at_ms = now_ms + SESSION_LIFETIME_MS;
        let row = SessionRow { id, user_id, token_hash: token.hash(), created_at_ms: now_ms, expires_at_ms };
        self.store.create_session(row.clone()).await?;
        Ok((row.into(), token))
    }

    /// The session of this token, unless it ended or expired.
    pub async fn find(&self, token: &SessionToken, now_ms: i64) -> Result<Option<Session>, SubjectsError> {
        let hash = token.hash();
        let session = match self.cache.get(&hash) {
            Some(session) => Some(session),
            None => self.read(hash).await?,
        };
        Ok(session.filter(|session| !session.is_over(now_ms)))
    }

    async fn read(&self, hash: [u8; HASH_BYTES]) -> Result<Option<Session>, SubjectsError> {
        let reading = self.cache.reading();
        let session = self.store.session_by_token(&hash).await?.map(Session::from);
        if let Some(session) = session {
            self.cache.fill(reading, hash, session);
        }
        Ok(session)
    }

    /// The person's sessions that are not over, newest first.
    pub async fn of_user(&self, user_id: Uuid, now_ms: i64) -> Result<Vec<Session>, SubjectsError> {
        let rows = self.store.sessions_of(user_id).await?;
        Ok(rows.into_iter().map(Session::from).filter(|session| !session.is_over(now_ms)).collect())
    }

    /// Ends one session; false when this person has no such session. Safe to repeat.
    pub async fn end(&self, user_id: Uuid, id: Uuid) -> Result<bool, SubjectsError> {
        let ended = self.store.end_session(user_id, id).await?;
        if let Some(row) = &ended {
            self.cache.evict(&row.token_hash);
        }
        Ok(ended.is_some())
    }

    /// Ends all of a person's sessions, as when they are disabled or erased, or change their password. Safe to repeat.
    pub async fn end_all(&self, user_id: Uuid) -> Result<(), SubjectsError> {
        for row in self.store.end_sessions_of(user_id).await? {
            self.cache.evict(&row.token_hash);
        }
        Ok(())
    }

    /// Removes what expired; returns how many.
    pub async fn purge(&self, now_ms: i64) -> Result<u64, SubjectsError> {
        self.store.purge_sessions(now_ms).await
    }

    /// The token that a request which changes something must carry beside its cookie. It follows from the session's
    /// token and a key of the instance, so it needs no place to be kept and can be shown again.
    pub fn csrf_token(&self, token: &SessionToken) -> String {
        BASE64URL.encode(self.store.hmac(CSRF_LABEL, token.0.as_slice()))
    }

    /// Compares in constant time.
    pub fn csrf_matches(&self, token: &SessionToken, presented: &str) -> bool {
        verify_slices_are_equal(self.csrf_token(token).as_bytes(), presented.as_bytes()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::security::keyfile::MasterKey;
    use crate::security::subjects::SqliteSubjects;

    const NOW: i64 = 1_790_000_000_000;
    const ADA: Uuid = Uuid::from_u128(1);
    const BOB: Uuid = Uuid::from_u128(2);

    async fn sessions() -> (tempfile::TempDir, Sessions) {
        let dir = tempfile::tempdir().unwrap();
        let key = MasterKey::load_or_create(&dir.path().join("master.key"), true).unwrap();
        let store = SqliteSubjects::open(&dir.path().join("subjects.db"), Arc::new(key)).await.unwrap();
        for (id, email) in [(ADA, "ada@example.org"), (BOB, "bob@example.org")] {
            store.register(id, email, NOW).await.unwrap();
        }
        (dir, Sessions::new(Arc::new(store)))
    }

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(100 + n)
    }

    #[tokio::test]
    async fn a_session_is_found_by_its_cookie() {
        let (_dir, sessions) = sessions().await;
        let (session, token) = sessions.open(id(1), ADA, NOW).await.unwrap();
        let cookie = token.expose();
        assert_eq!(cookie.expose_secret().len(), 43);
        let returned = SessionToken::parse(cookie.expose_secret()).unwrap();
        for _ in 0..2 {
            assert_eq!(sessions.find(&returned, NOW).await.unwrap(), Some(session));
        }
        assert_eq!((session.user_id, session.expires_at_ms), (ADA, NOW + SESSION_LIFETIME_MS));
    }

    #[tokio::test]
    async fn another_token_finds_nothing() {
        let (_dir, sessions) = sessions().await;
        sessions.open(id(1), ADA, NOW).await.unwrap();
        let other = SessionToken(random::secret());
        assert_eq!(sessions.find(&other, NOW).await.unwrap(), None);
    }

    #[test]
    fn what_is_no_token_is_not_taken_for_one() {
        let good = "A".repeat(43);
        assert!(SessionToken::parse(&good).is_some());
        for bad in ["", "A", &"A".repeat(42), &"A".repeat(44), &format!("{good}="), &"!".repeat(43), &"A".repeat(4000)]
        {
            assert!(SessionToken::parse(bad).is_none(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_session_expires_to_the_millisecond_even_from_the_cache() {
        let (_dir, sessions) = sessions().await;
        let (_, token) = sessions.open(id(1), ADA, NOW).await.unwrap();
        assert!(sessions.find(&token, NOW + SESSION_LIFETIME_MS - 1).await.unwrap().is_some());
        assert!(sessions.find(&token, NOW + SESSION_LIFETIME_MS).await.unwrap().is_none());
        assert!(sessions.of_user(ADA, NOW + SESSION_LIFETIME_MS).await.unwrap().is_empty());
        assert_eq!(sessions.purge(NOW + SESSION_LIFETIME_MS).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn an_ended_session_is_over_at_once() {
        let (_dir, sessions) = sessions().await;
        let (session, token) = sessions.open(id(1), ADA, NOW).await.unwrap();
        sessions.find(&token, NOW).await.unwrap();
        assert!(!sessions.end(BOB, session.id).await.unwrap(), "not Bob's to end");
        assert!(sessions.find(&token, NOW).await.unwrap().is_some());
        assert!(sessions.end(ADA, session.id).await.unwrap());
        assert_eq!(sessions.find(&token, NOW).await.unwrap(), None);
        assert!(!sessions.end(ADA, session.id).await.unwrap());
    }

    #[tokio::test]
    async fn ending_all_spares_other_people() {
        let (_dir, sessions) = sessions().await;
        let (_, first) = sessions.open(id(1), ADA, NOW).await.unwrap();
        let (_, second) = sessions.open(id(2), ADA, NOW + 1).await.unwrap();
        let (_, bobs) = sessions.open(id(3), BOB, NOW).await.unwrap();
        for token in [&first, &second, &bobs] {
            assert!(sessions.find(token, NOW).await.unwrap().is_some());
        }
        let listed = sessions.of_user(ADA, NOW).await.unwrap();
        assert_eq!(listed.iter().map(|session| session.id).collect::<Vec<_>>(), [id(2), id(1)]);
        sessions.end_all(ADA).await.unwrap();
        assert_eq!(sessions.find(&first, NOW).await.unwrap(), None);
        assert_eq!(sessions.find(&second, NOW).await.unwrap(), None);
        assert!(sessions.find(&bobs, NOW).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_csrf_token_fits_its_session_only() {
        let (_dir, sessions) = sessions().await;
        let (_, first) = sessions.open(id(1), ADA, NOW).await.unwrap();
        let (_, second) = sessions.open(id(2), ADA, NOW).await.unwrap();
        let csrf = sessions.csrf_token(&first);
        assert!(sessions.csrf_matches(&first, &csrf));
        assert!(!sessions.csrf_matches(&second, &csrf));
        assert!(!sessions.csrf_matches(&first, ""));
        assert_ne!(csrf, first.expose().expose_secret());
    }

    #[tokio::test]
    async fn no_file_holds_a_token_and_no_log_shows_it() {
        let (dir, sessions) = sessions().await;
        let (_, token) = sessions.open(id(1), ADA, NOW).await.unwrap();
        let text = token.expose();
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let content = std::fs::read(entry.unwrap().path()).unwrap();
            for secret in [token.0.as_slice(), text.expose_secret().as_bytes()] {
                assert!(!content.windows(secret.len()).any(|window| window == secret));
            }
        }
        assert_eq!(format!("{token:?}"), "SessionToken([hidden])");
    }
}
