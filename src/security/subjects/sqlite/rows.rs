//! The rows of the SQLite file that hold wrapped keys.
use async_trait::async_trait;
use uuid::Uuid;

use super::{SqliteSubjects, all_scrubbed, secrets, statements};
use crate::security::subjects::SubjectsError;
use crate::security::subjects::keyring::{Replacement, StoredKey, WrappedRows};

#[async_trait]
impl WrappedRows for SqliteSubjects {
    async fn instance_keys(&self) -> Result<Vec<StoredKey>, SubjectsError> {
        self.run(|connection| statements::instance_keys(connection)).await
    }

    async fn wrapped_keys(&self, user_ids: Vec<Uuid>) -> Result<Vec<(Uuid, Vec<u8>)>, SubjectsError> {
        self.run(move |connection| statements::wrapped_keys(connection, &user_ids)).await
    }

    async fn wrapped_page(&self, after: Option<Uuid>, rows_max: u32) -> Result<Vec<(Uuid, Vec<u8>)>, SubjectsError> {
        self.run(move |connection| statements::wrapped_page(connection, after, rows_max)).await
    }

    async fn replace_instance_keys(&self, keys: Vec<Replacement<String>>) -> Result<(), SubjectsError> {
        self.run(move |connection| statements::replace_instance_keys(connection, &keys)).await
    }

    async fn replace_wrapped(&self, keys: Vec<Replacement<Uuid>>) -> Result<(), SubjectsError> {
        self.run(move |connection| statements::replace_wrapped(connection, &keys)).await
    }

    async fn wrapped_keys_of_secrets(&self) -> Result<Vec<(Uuid, Vec<u8>)>, SubjectsError> {
        self.run(|connection| secrets::wrapped(connection)).await
    }

    async fn replace_keys_of_secrets(&self, keys: Vec<Replacement<Uuid>>) -> Result<(), SubjectsError> {
        self.run(move |connection| secrets::replace_wrapped(connection, &keys)).await
    }

    async fn scrub_replaced(&self) -> Result<(), SubjectsError> {
        all_scrubbed(self.run(|connection| statements::scrub(connection)).await?)
    }
}
