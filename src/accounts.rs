//! Registers people and erases them: what the log says, together with what must be kept outside it.
use marvin_domain::{
    AggregateKind, Directed, Name, Refuse, StreamId, instance,
    instance::InstanceCommand,
    user::{Profile, Role, Standing, User, UserCommand, UserError},
};
use secrecy::SecretString;
use std::{collections::BTreeSet, sync::Arc};
use uuid::Uuid;

use crate::{
    dispatch::{CommandMeta, DispatchError, Dispatcher},
    log::Receipt,
    security::{
        passwords::{PasswordError, Passwords},
        subjects::{Credential, Registration, SubjectStore, SubjectsError},
    },
};

/// What a person is registered with. Everything in it has been checked.
#[derive(Debug)]
pub struct NewUser {
    pub email: String,
    pub display_name: Name,
    pub password: SecretString,
    pub roles: BTreeSet<Role>,
}

#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("this email is registered already")]
    EmailTaken,
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    #[error(transparent)]
    Subjects(#[from] SubjectsError),
    #[error(transparent)]
    Password(#[from] PasswordError),
}

#[derive(Clone)]
pub struct Accounts {
    dispatcher: Dispatcher,
    subjects: Arc<dyn SubjectStore>,
    passwords: Passwords,
}

pub fn user_stream(id: Uuid) -> StreamId {
    StreamId { kind: AggregateKind::User, id }
}

impl Accounts {
    pub fn new(dispatcher: Dispatcher, subjects: Arc<dyn SubjectStore>, passwords: Passwords) -> Self {
        Self { dispatcher, subjects, passwords }
    }

    /// Sets the instance up with its first administrator.
    ///
    /// # Errors
    /// `Refused` when it was set up before, also when two do it at once.
    pub async fn set_up(&self, meta: &CommandMeta, new: NewUser) -> Result<Receipt, AccountError> {
        self.register_with(meta, new, |administrator| vec![InstanceCommand::SetUp { administrator }]).await
    }

    /// Registers a person. Safe to repeat under the same command id.
    ///
    /// # Errors
    /// `EmailTaken`, also when two register one email at once.
    pub async fn register(&self, meta: &CommandMeta, new: NewUser) -> Result<Receipt, AccountError> {
        let is_administrator = new.roles.contains(&Role::Admin);
        self.register_with(meta, new, |user| {
            if is_administrator { vec![InstanceCommand::AddAdministrator { user }] } else { Vec::new() }
        })
        .await
    }

    /// The key and the credential are kept first, the event comes last: a crash between leaves an email that is free again.
    async fn register_with(
        &self,
        meta: &CommandMeta,
        new: NewUser,
        instance: impl FnOnce(Uuid) -> Vec<InstanceCommand>,
    ) -> Result<Receipt, AccountError> {
        if let Some(receipt) = self.dispatcher.first_result(meta).await? {
            return Ok(receipt);
        }
        let phc = self.passwords.hash(new.password).await?;
        let now_ms = meta.at.timestamp_millis();
        let user_id = match self.subjects.register(Uuid::now_v7(), &new.email, now_ms).await? {
            Registration::Created { user_id } => user_id,
            Registration::Existing { user_id } if self.standing(user_id).await? == Standing::Unknown => user_id,
            Registration::Existing { .. } => return self.repeated_or_taken(meta).await,
        };
        let credential = Uuid::now_v7();
        self.subjects.put_credential(Credential { id: credential, user_id, phc, created_at_ms: now_ms }).await?;
        let profile = Profile { email: new.email.trim().to_owned(), display_name: new.display_name };
        let mut commands =
            vec![Directed::new(user_id, UserCommand::Register { profile, roles: new.roles, credential })];
        commands.extend(instance(user_id).into_iter().map(|command| Directed::new(instance::STREAM.id, command)));
        match self.dispatcher.dispatch(meta, &commands).await {
            // Somebody else adopted the same row at the same time and was faster.
            Err(DispatchError::Refused(refusal)) if refusal.code == UserError::AlreadyRegistered.code() => {
                self.repeated_or_taken(meta).await
            }
            outcome => Ok(outcome?),
        }
    }

    async fn repeated_or_taken(&self, meta: &CommandMeta) -> Result<Receipt, AccountError> {
        self.dispatcher.first_result(meta).await?.ok_or(AccountError::EmailTaken)
    }

    async fn standing(&self, user_id: Uuid) -> Result<Standing, DispatchError> {
        let loaded = self.dispatcher.load(user_stream(user_id)).await?;
        Ok(<&User>::try_from(&loaded.state).map_or(Standing::Unknown, |user| user.standing))
    }

    /// Erases a person: the event now, their key and credentials as soon as the log is followed. Safe to repeat.
    ///
    /// # Errors
    /// `Refused` for the last administrator, and for an unknown user.
    pub async fn erase(
        &self,
        meta: &CommandMeta,
        user: Uuid,
        precondition: &(dyn Fn(u64) -> bool + Send + Sync),
    ) -> Result<Receipt, DispatchError> {
        let commands = [
            Directed::new(user, UserCommand::Erase),
            Directed::new(instance::STREAM.id, InstanceCommand::RemoveAdministrator { user }),
        ];
        self.dispatcher.dispatch_when(meta, &commands, precondition).await
    }
}
