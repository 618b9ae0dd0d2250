//! The data directory of embedded mode: its files, and the lock by which one process owns it.
use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Owned until it is dropped, and by the system's doing also when the process is killed.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("the data directory {} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error("the data directory {path} cannot be used", path = .path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl DataDir {
    /// Takes the directory, making it (0700) when there is none.
    ///
    /// # Errors
    /// `InUse` when another process has it, `Unusable` when it cannot be made or written.
    pub fn take(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let lock = path.join("marvin.lock");
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    pub fn log(&self) -> PathBuf {
        self.path.join("log.db")
    }

    pub fn subjects(&self) -> PathBuf {
        self.path.join("subjects.db")
    }

    pub fn views(&self) -> PathBuf {
        self.path.join("views.db")
    }

    pub fn key_file(&self) -> PathBuf {
        self.path.join("master.key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let owner = DataDir::take(&path).unwrap();
        assert!(matches!(DataDir::take(&path), Err(DataDirError::InUse(_))));
        drop(owner);
        DataDir::take(&path).unwrap();
    }

    #[test]
    fn a_path_that_is_a_file_is_refused_and_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(DataDir::take(file.path()), Err(DataDirError::Unusable { .. })));
    }
}
