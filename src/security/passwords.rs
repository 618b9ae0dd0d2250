//! Hashes and checks passwords, a few at a time. Knows nothing of whose they are.
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::random;
use crate::error::FieldError;

/// Memory of one hash: with the two below, the first choice of OWASP's Password Storage Cheat Sheet for 2 passes.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Length that the PHC string format recommends.
const SALT_BYTES: usize = 16;
/// Hashes computed at once: sign-ins must not take every core, nor 19 MiB each without end.
const HASHES_AT_ONCE: usize = 2;
/// Hashes asked for at once, running ones included; beyond that callers are told to come back. About two seconds' work.
const QUEUE_MAX: usize = 64;

/// NIST SP 800-63B: at least eight characters, no rules of composition.
const PASSWORD_CHARACTERS_MIN: usize = 8;
/// NIST asks to accept 64 at least; beyond this it is no password, and hashing long input costs time.
const PASSWORD_CHARACTERS_MAX: usize = 200;

/// Checked when there is no such user, so that the answer takes as long as for a wrong password. It is random bytes.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$IBBquF6PCDV7Sd9Mhf6cGw$BrImnqyPDheVf68S5kTWcCzwLBoVGRJIf0gATSzAc2Q";

/// Why a password was neither hashed nor checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many are being checked. Try again in a moment.
    #[error("too many passwords are being checked")]
    Busy,
    /// The stored hash cannot be read; a new password mends it.
    #[error("the stored password hash is damaged")]
    DamagedHash,
    /// The work was cut off, as when the program stops.
    #[error("the password could not be checked")]
    Interrupted,
}

/// Argon2id on threads of its own, never more than a few at once.
#[derive(Debug, Clone)]
pub struct Passwords {
    queue: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { queue: Arc::new(Semaphore::new(QUEUE_MAX)), running: Arc::new(Semaphore::new(HASHES_AT_ONCE)) }
    }
}

impl Passwords {
    /// Hashes a password with a random salt, to a PHC string.
    ///
    /// # Errors
    /// `Busy` and `Interrupted`; repeating is safe.
    pub async fn hash(&self, password: SecretString) -> Result<String, PasswordError> {
        self.run(move || {
            let salt = random::bytes::<SALT_BYTES>();
            let hash = argon2().hash_password_with_salt(password.expose_secret().as_bytes(), &salt);
            hash.expect("parameters and salt are within Argon2's limits").to_string()
        })
        .await
    }

    /// Whether this is the password of `phc`; without one (no such user) it is not, after the same time.
    ///
    /// # Errors
    /// `Busy` and `Interrupted`, where repeating is safe, and `DamagedHash`.
    pub async fn verify(&self, password: SecretString, phc: Option<String>) -> Result<bool, PasswordError> {
        self.run(move || {
            let known = phc.is_some();
            let hash = PasswordHash::new(phc.as_deref().unwrap_or(NOBODY)).map_err(|_| PasswordError::DamagedHash)?;
            match argon2().verify_password(password.expose_secret().as_bytes(), &hash) {
                Ok(()) => Ok(known),
                Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
                Err(_) => Err(PasswordError::DamagedHash),
            }
        })
        .await?
    }

    /// The permits go with the work: who hangs up while it runs frees no place for more.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PasswordError> {
        let place = Arc::clone(&self.queue).try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let turn = Arc::clone(&self.running).acquire_owned().await.map_err(|_| PasswordError::Interrupted)?;
        spawn_blocking(move || {
            let result = work();
            drop((turn, place));
            result
        })
        .await
        .map_err(|_| PasswordError::Interrupted)
    }
}

fn argon2() -> Argon2<'static> {
    const PARAMS: Params = match Params::new(MEMORY_KIB, PASSES, LANES, None) {
        Ok(params) => params,
        Err(_) => panic!("parameters outside of Argon2's limits"),
    };
    Argon2::new(Algorithm::Argon2id, Version::V0x13, PARAMS)
}

/// Checks a new password. Characters are counted as people see them typed: Unicode code points.
///
/// # Errors
/// What is wrong with it, pointing at `/password`; never the password itself.
pub fn check_policy(password: &SecretString) -> Result<(), FieldError> {
    let password = password.expose_secret();
    let refused = |detail: String| Err(FieldError::new("/password", detail));
    let characters = password.chars().count();
    if characters < PASSWORD_CHARACTERS_MIN {
        return refused(format!("must have at least {PASSWORD_CHARACTERS_MIN} characters"));
    }
    if characters > PASSWORD_CHARACTERS_MAX {
        return refused(format!("must have at most {PASSWORD_CHARACTERS_MAX} characters"));
    }
    if password.chars().any(char::is_control) {
        return refused("must not contain control characters".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    #[tokio::test]
    async fn only_the_right_password_is_accepted() {
        let passwords = Passwords::default();
        let phc = passwords.hash(secret("correct horse")).await.unwrap();
        assert!(passwords.verify(secret("correct horse"), Some(phc.clone())).await.unwrap());
        assert!(!passwords.verify(secret("correct horsf"), Some(phc.clone())).await.unwrap());
        assert!(!passwords.verify(secret(""), Some(phc)).await.unwrap());
    }

    #[tokio::test]
    async fn a_hash_names_its_parameters_and_never_repeats() {
        let passwords = Passwords::default();
        let (one, two) = tokio::join!(passwords.hash(secret("correct horse")), passwords.hash(secret("correct horse")));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, two);
    }

    #[tokio::test]
    async fn an_unknown_user_costs_the_same_work_and_is_refused() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let real = argon2().hash_password_with_salt(b"correct horse", &[7; SALT_BYTES]).unwrap();
        assert_eq!((nobody.algorithm, nobody.version, &nobody.params), (real.algorithm, real.version, &real.params));
        assert_eq!(nobody.salt.map(|salt| salt.len()), real.salt.map(|salt| salt.len()));
        assert_eq!(nobody.hash.map(|hash| hash.len()), real.hash.map(|hash| hash.len()));
        assert!(!Passwords::default().verify(secret("correct horse"), None).await.unwrap());
    }

    #[tokio::test]
    async fn a_damaged_hash_is_an_error_and_not_a_wrong_password() {
        for phc in ["", "plain", "$argon2id$v=19$m=19456,t=2,p=1$short"] {
            let answer = Passwords::default().verify(secret("correct horse"), Some(phc.into())).await;
            assert!(!matches!(answer, Ok(true)), "{phc}");
        }
        let answer = Passwords::default().verify(secret("correct horse"), Some("plain".into())).await;
        assert!(matches!(answer, Err(PasswordError::DamagedHash)));
    }

    #[tokio::test]
    async fn a_full_queue_answers_busy_and_empties_again() {
        let passwords = Passwords::default();
        let places: Vec<_> = (0..QUEUE_MAX).map(|_| passwords.queue.clone().try_acquire_owned().unwrap()).collect();
        assert!(matches!(passwords.hash(secret("correct horse")).await, Err(PasswordError::Busy)));
        drop(places);
        assert!(passwords.hash(secret("correct horse")).await.is_ok());
        assert_eq!(passwords.queue.available_permits(), QUEUE_MAX);
        assert_eq!(passwords.running.available_permits(), HASHES_AT_ONCE);
    }

    #[tokio::test]
    async fn no_more_than_two_hashes_run_at_once() {
        let passwords = Passwords::default();
        let turns: Vec<_> =
            (0..HASHES_AT_ONCE).map(|_| passwords.running.clone().try_acquire_owned().unwrap()).collect();
        let mut third = std::pin::pin!(passwords.hash(secret("correct horse")));
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        assert_eq!(passwords.queue.available_permits(), QUEUE_MAX - 1, "it waits in the queue");
        drop(turns);
        assert!(third.await.is_ok());
    }

    #[test]
    fn a_password_has_8_to_200_characters_of_any_kind() {
        for good in ["12345678", "pässwörd", "a b c d ", &"x".repeat(200), &"🦀".repeat(8)] {
            assert_eq!(check_policy(&secret(good)), Ok(()), "{good}");
        }
        for bad in ["1234567", "", &"x".repeat(201), "nul\0inside", "line\nfeed!", &"ä".repeat(7)] {
            let error = check_policy(&secret(bad)).unwrap_err();
            assert_eq!(error.pointer, "/password");
            assert!(bad.is_empty() || !error.detail.contains(bad));
        }
    }
}
