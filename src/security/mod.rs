//! Who may do what, and who can read what was stored.
//!
//! Owns the sealing of stored bytes, the keys that seal them, and what proves a person's identity: passwords, sessions,
//! rights. It refuses to keep any of that in the event log, to hand out a key in clear text that can be printed, and to
//! answer "yes" where a rule is silent.
pub mod channels;
pub mod cipher;
mod fresh_cache;
pub mod keyfile;
pub mod passwords;
pub mod permissions;
pub(crate) mod random;
pub mod sealer;
pub mod sessions;
pub mod subjects;
pub mod throttle;
