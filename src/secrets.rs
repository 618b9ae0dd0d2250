//! Named secrets: set, replaced, removed, and read by who uses them. The log says which value is in force, the store of subjects
//! keeps it.
//!
//! Values are never cached: every use asks the log's aggregate, which each node keeps fresh, and then the store, so a change is
//! heard on every node as soon as the log is.
use marvin_domain::secret::{Secret, SecretCommand, SecretName};
use secrecy::SecretString;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::warn;
use uuid::Uuid;

use crate::{
    dispatch::{CommandMeta, DispatchError, Dispatcher},
    log::Receipt,
    security::subjects::{KeptSecret, NewSecret, SubjectStore, SubjectsError},
};

/// Longest value, in bytes: a certificate chain or a service account's file fits.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Names at once: some for each of a few hundred agents, few enough to be listed whole.
pub const NAMES_MAX: u32 = 1_000;
/// How old a value must be that nobody brought into force before it is taken for left over: far longer than a command takes.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(10 * 60);
/// Within this every node has heard of a change: some times what the log's slow poll takes.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks for what another node has changed.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    #[error("there are {NAMES_MAX} secrets already")]
    TooMany,
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    #[error(transparent)]
    Subjects(#[from] SubjectsError),
}

/// A secret that is set, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub set_at_ms: i64,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    dispatcher: Dispatcher,
    subjects: Arc<dyn SubjectStore>,
}

impl Secrets {
    pub fn new(dispatcher: Dispatcher, subjects: Arc<dyn SubjectStore>) -> Self {
        Self { dispatcher, subjects }
    }

    /// Sets a secret, or replaces its value; answers whether there was none. The value is kept first: a crash before the event leaves
    /// the one before in force.
    ///
    /// # Errors
    /// `TooMany`; `Refused` when somebody else was faster.
    pub async fn set(
        &self,
        meta: &CommandMeta,
        name: SecretName,
        value: SecretString,
    ) -> Result<(Receipt, bool), SecretsError> {
        let is_new = self.in_force(&name).await?.is_none();
        let id = Uuid::now_v7();
        let new = NewSecret { id, name: name.as_str().to_owned(), value, kept_at_ms: meta.at.timestamp_millis() };
        if !self.subjects.put_secret(new, NAMES_MAX).await? {
            return Err(SecretsError::TooMany);
        }
        let set = SecretCommand::Set { name: name.clone(), value: id }.directed();
        let receipt = self.dispatcher.dispatch(meta, &[set]).await?;
        self.tidy(&name, before(id)).await;
        Ok((receipt, is_new))
    }

    /// Removes a secret. Who uses it from then on finds none.
    ///
    /// # Errors
    /// `Refused` when there is none, `Stale` where the precondition does not hold.
    pub async fn remove(
        &self,
        meta: &CommandMeta,
        name: SecretName,
        precondition: &(dyn Fn(u64) -> bool + Send + Sync),
    ) -> Result<Receipt, SecretsError> {
        let in_force = self.in_force(&name).await?;
        let remove = SecretCommand::Remove { name: name.clone() }.directed();
        let receipt = self.dispatcher.dispatch_when(meta, &[remove], precondition).await?;
        if let Some(value) = in_force {
            self.tidy(&name, value).await;
        }
        Ok(receipt)
    }

    /// The value in force; none when there is no such secret.
    ///
    /// # Errors
    /// When log or store cannot be read.
    pub async fn value(&self, name: &SecretName) -> Result<Option<SecretString>, SecretsError> {
        let begun = Instant::now();
        loop {
            let Some(id) = self.in_force(name).await? else { return Ok(None) };
            let found = self.subjects.secret(id).await?;
            // Another node may have replaced it, which this one hears of presently.
            if found.is_some() || begun.elapsed() > HEARD_WITHIN {
                return Ok(found);
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// The secrets that are set, the one set last first.
    ///
    /// # Errors
    /// When log or store cannot be read.
    pub async fn list(&self) -> Result<Vec<Listed>, SecretsError> {
        let mut listed = Vec::new();
        for (name, kept) in self.by_name().await? {
            let in_force = self.in_force(&name).await?;
            listed.extend(kept.into_iter().find(|kept| in_force == Some(kept.id)).map(|kept| (kept.id, kept)));
        }
        listed.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        Ok(listed.into_iter().map(|(_, kept)| Listed { name: kept.name, set_at_ms: kept.kept_at_ms }).collect())
    }

    /// Deletes values that a crash left behind: those that were replaced or removed, and those that never came into force.
    pub async fn tidy_all(&self) {
        let kept = match self.by_name().await {
            Ok(kept) => kept,
            Err(error) => return warn!(error = %error, "secrets could not be looked over"),
        };
        let now = Uuid::now_v7().get_timestamp().map_or(0, |now| now.to_unix().0);
        let recent = now.saturating_sub(LEFT_OVER_AFTER.as_secs());
        let is_left_over = |id: Uuid| id.get_timestamp().is_some_and(|kept| kept.to_unix().0 < recent);
        for (name, kept) in kept {
            match self.in_force(&name).await {
                Ok(Some(value)) => self.tidy(&name, before(value)).await,
                Ok(None) => {
                    if let Some(newest) = kept.iter().map(|kept| kept.id).filter(|id| is_left_over(*id)).max() {
                        self.tidy(&name, newest).await;
                    }
                }
                Err(error) => warn!(error = %error, "a secret could not be looked up"),
            }
        }
    }

    async fn tidy(&self, name: &SecretName, newest: Uuid) {
        if let Err(error) = self.subjects.delete_secrets(name.as_str(), newest).await {
            warn!(error = %error, "values that are not in force any more could not be deleted; the next start will");
        }
    }

    async fn by_name(&self) -> Result<BTreeMap<SecretName, Vec<KeptSecret>>, SubjectsError> {
        let mut by_name = BTreeMap::<_, Vec<_>>::new();
        for kept in self.subjects.secrets().await? {
            if let Ok(name) = SecretName::parse(&kept.name) {
                by_name.entry(name).or_default().push(kept);
            }
        }
        Ok(by_name)
    }

    /// The id of the value in force, as the log has it.
    async fn in_force(&self, name: &SecretName) -> Result<Option<Uuid>, DispatchError> {
        let loaded = self.dispatcher.load(name.stream()).await?;
        Ok(<&Secret>::try_from(&loaded.state).ok().and_then(|secret| secret.value))
    }
}

/// Everything older than this value.
fn before(value: Uuid) -> Uuid {
    Uuid::from_u128(value.as_u128().saturating_sub(1))
}
