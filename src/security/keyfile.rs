//! The key-encryption key that wraps every other key, and the file it is kept in.
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use aws_lc_rs::digest::{self, SHA256};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::cipher::{self, DataKey, KEY_BYTES, OpenError, Suite};
use super::random;

/// Begins the one line of a key file; another layout would begin otherwise.
const TAG: &str = "marvin-key-v1";
/// Longest key file that is read: one line takes 59 bytes, and nothing else may stand there.
const FILE_BYTES_MAX: u64 = 256;
/// The owner alone reads and writes the file.
const MODE: u32 = 0o600;
/// Permission bits of the group and of everyone else.
const OTHERS: u32 = 0o077;
/// Sets wrapped keys apart from everything else that could be sealed under this key.
const SCOPE: &[u8] = b"marvin wrapped key";

/// Wraps keys under a key-encryption key that is kept elsewhere. A `context` says which key it is; a wrapped key
/// unwraps only under the context it was wrapped for, so rows cannot be swapped.
#[async_trait]
pub trait KeyWrap: Send + Sync + std::fmt::Debug {
    /// # Errors
    /// `Unavailable` when the service that holds the key cannot be reached.
    async fn wrap_key(&self, context: &[u8], key: &[u8; KEY_BYTES]) -> Result<Vec<u8>, WrapError>;

    /// # Errors
    /// `WrongKey` when it was wrapped under another key-encryption key, `Altered` when a byte or the context differs.
    async fn unwrap_key(&self, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, WrapError>;
}

/// Why a key could not be wrapped or unwrapped.
#[derive(Debug, thiserror::Error)]
pub enum WrapError {
    /// Bring the key-encryption key that this data was made with.
    #[error("wrapped under another key-encryption key")]
    WrongKey,
    /// The wrapped key was changed, cut, or moved to another row.
    #[error("the wrapped key was altered or does not belong here")]
    Altered,
    /// Try again later.
    #[error("the key-encryption key is not reachable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why the key file cannot be used. Nothing was changed on disk in any of these cases.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("the data directory holds data but {} is missing: put the key file back; nothing was changed", .0.display())]
    Missing(PathBuf),
    #[error("{} can be read by others (mode {mode:03o}): run chmod 600 on it and make sure nobody copied it", .path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} is not a Marvin key file ({reason}): put the right file back; nothing was changed", .path.display())]
    Malformed { path: PathBuf, reason: &'static str },
    #[error("cannot read or write {}", .path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The key-encryption key from a key file.
#[derive(Debug)]
pub struct MasterKey(DataKey);

impl MasterKey {
    /// Reads the key file, or makes one when there is none and `store_is_empty`. An existing file is never written to.
    ///
    /// Repeating is safe: the second call reads what the first one made.
    ///
    /// # Errors
    /// Every variant of [`KeyFileError`]; each message says what to do.
    pub fn load_or_create(path: &Path, store_is_empty: bool) -> Result<Self, KeyFileError> {
        match File::open(path) {
            Ok(file) => Self::load(path, file),
            Err(error) if error.kind() == ErrorKind::NotFound && store_is_empty => Self::create(path),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(KeyFileError::Missing(path.to_owned())),
            Err(source) => Err(KeyFileError::Io { path: path.to_owned(), source }),
        }
    }

    fn load(path: &Path, file: File) -> Result<Self, KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.to_owned(), source };
        let metadata = file.metadata().map_err(io)?;
        let malformed = |reason| KeyFileError::Malformed { path: path.to_owned(), reason };
        if !metadata.is_file() {
            return Err(malformed("it is not a regular file"));
        }
        if metadata.mode() & OTHERS != 0 {
            return Err(KeyFileError::Exposed { path: path.to_owned(), mode: metadata.mode() & 0o777 });
        }
        let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize));
        match file.take(FILE_BYTES_MAX).read_to_string(&mut text) {
            Ok(_) => Self::parse(&text).map_err(malformed),
            Err(error) if error.kind() == ErrorKind::InvalidData => Err(malformed("it is not text")),
            Err(error) => Err(io(error)),
        }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        if line.is_empty() {
            return Err("it is empty");
        }
        let (tag, encoded) = line.split_once(' ').ok_or("it is not one line of a tag and a key")?;
        if tag != TAG {
            return Err("its first word is not marvin-key-v1");
        }
        let bytes = Zeroizing::new(BASE64.decode(encoded).map_err(|_| "its key is not base64")?);
        let key: [u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| "its key does not have 32 bytes")?;
        Ok(Self::from_bytes(Zeroizing::new(key)))
    }

    /// Written and synced with its directory before anything is wrapped under it: data must never outlive its key.
    fn create(path: &Path) -> Result<Self, KeyFileError> {
        let key = random::secret();
        let line = Zeroizing::new(format!("{TAG} {}\n", *Zeroizing::new(BASE64.encode(key.as_slice()))));
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(MODE).open(path) {
            Ok(file) => file,
            Err(source) => return Err(KeyFileError::Io { path: path.to_owned(), source }),
        };
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let written = file
            .write_all(line.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(directory)?.sync_all());
        if let Err(source) = written {
            // This call made the file and nothing was wrapped under it yet, so half a key need not stay behind.
            let _ = fs::remove_file(path);
            return Err(KeyFileError::Io { path: path.to_owned(), source });
        }
        Ok(Self::from_bytes(key))
    }

    /// The id is a fingerprint of the key, so a wrapped key tells a wrong key file from a damaged row.
    fn from_bytes(key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let mut fingerprint = digest::Context::new(&SHA256);
        fingerprint.update(TAG.as_bytes());
        fingerprint.update(key.as_slice());
        let id = Uuid::from_slice(&fingerprint.finish().as_ref()[..16]).expect("an id has 16 bytes");
        Self(DataKey::from_bytes(id, key))
    }
}

#[async_trait]
impl KeyWrap for MasterKey {
    async fn wrap_key(&self, context: &[u8], key: &[u8; KEY_BYTES]) -> Result<Vec<u8>, WrapError> {
        Ok(cipher::seal(Suite::XChaCha20Poly1305, &self.0, SCOPE, context, key))
    }

    async fn unwrap_key(&self, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, WrapError> {
        let clear = Zeroizing::new(cipher::open(&self.0, SCOPE, context, wrapped).map_err(|error| match error {
            OpenError::WrongKey { .. } => WrapError::WrongKey,
            _ => WrapError::Altered,
        })?);
        let key = clear.as_slice().try_into().map_err(|_| WrapError::Altered)?;
        Ok(Zeroizing::new(key))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        (dir, path)
    }

    fn write(path: &Path, text: &[u8], mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[tokio::test]
    async fn a_key_made_once_is_read_again_and_unwraps_what_it_wrapped() {
        let (_dir, path) = place();
        let wrapped = MasterKey::load_or_create(&path, true).unwrap().wrap_key(b"ctx", &[9; KEY_BYTES]).await.unwrap();
        let again = MasterKey::load_or_create(&path, false).unwrap();
        assert_eq!(*again.unwrap_key(b"ctx", &wrapped).await.unwrap(), [9; KEY_BYTES]);
    }

    #[test]
    fn the_file_is_one_line_that_only_its_owner_reads() {
        let (_dir, path) = place();
        MasterKey::load_or_create(&path, true).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("marvin-key-v1 ") && text.ends_with('\n') && text.lines().count() == 1);
    }

    #[test]
    fn a_store_with_data_refuses_a_missing_key_and_makes_none() {
        let (_dir, path) = place();
        let error = MasterKey::load_or_create(&path, false).unwrap_err();
        let expected = format!(
            "the data directory holds data but {} is missing: put the key file back; nothing was changed",
            path.display()
        );
        assert_eq!(error.to_string(), expected);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let (_dir, path) = place();
        MasterKey::load_or_create(&path, true).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = MasterKey::load_or_create(&path, false).unwrap_err();
            assert!(error.to_string().contains(&format!("mode {mode:03o}")), "{error}");
        }
    }

    #[test]
    fn a_malformed_file_is_refused_and_left_as_it_is() {
        let (_dir, path) = place();
        let short = format!("{TAG} {}\n", BASE64.encode([1; 31]));
        let twice = format!("{TAG} {0}\n{TAG} {0}\n", BASE64.encode([1; 32]));
        let cases: [&[u8]; 7] =
            [b"", b"\n", b"hello", b"marvin-key-v9 AAAA\n", short.as_bytes(), twice.as_bytes(), &[0xff; 40]];
        for text in cases {
            write(&path, text, MODE);
            for store_is_empty in [true, false] {
                let error = MasterKey::load_or_create(&path, store_is_empty).unwrap_err();
                assert!(matches!(error, KeyFileError::Malformed { .. }), "{error}");
            }
            assert_eq!(fs::read(&path).unwrap(), text);
        }
    }

    #[tokio::test]
    async fn another_key_file_is_told_from_an_altered_row() {
        let (_dir, path) = place();
        let (_other_dir, other_path) = place();
        let key = MasterKey::load_or_create(&path, true).unwrap();
        let other = MasterKey::load_or_create(&other_path, true).unwrap();
        let mut wrapped = key.wrap_key(b"facts", &[9; KEY_BYTES]).await.unwrap();
        assert!(matches!(other.unwrap_key(b"facts", &wrapped).await, Err(WrapError::WrongKey)));
        assert!(matches!(key.unwrap_key(b"email", &wrapped).await, Err(WrapError::Altered)));
        *wrapped.last_mut().unwrap() ^= 1;
        assert!(matches!(key.unwrap_key(b"facts", &wrapped).await, Err(WrapError::Altered)));
        assert!(matches!(key.unwrap_key(b"facts", b"").await, Err(WrapError::Altered)));
    }

    #[test]
    fn the_key_never_shows_in_debug_output() {
        let shown = format!("{:?}", MasterKey::from_bytes(Zeroizing::new([0xab; KEY_BYTES])));
        assert!(!shown.contains("171") && !shown.contains("abab"), "{shown}");
    }
}
