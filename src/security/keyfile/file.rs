//! The bytes of a key file: read strictly, made once, replaced whole.
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{self, SHA256};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{KeyFileError, Ring};
use crate::security::cipher::{DataKey, KEY_BYTES};
use crate::security::random;

/// Begins each line of a key file; another layout would begin otherwise.
const TAG: &str = "marvin-key-v1";
/// Keys in a file: one, two while a rotation runs, and room for a person who puts lines together by hand.
const KEYS_MAX: usize = 4;
/// Longest key file that is read: a line takes 59 bytes; one that goes on is refused for its lines.
const FILE_BYTES_MAX: u64 = 512;
/// The owner alone reads and writes the file.
pub const MODE: u32 = 0o600;
/// Permission bits of the group and of everyone else.
const OTHERS: u32 = 0o077;

/// Draws a new random key.
pub fn draw() -> Arc<DataKey> {
    Arc::new(key_of(random::secret()))
}

/// The id is a fingerprint of the key, so a wrapped key tells a wrong key file from a damaged row.
pub fn key_of(key: Zeroizing<[u8; KEY_BYTES]>) -> DataKey {
    let mut fingerprint = digest::Context::new(&SHA256);
    fingerprint.update(TAG.as_bytes());
    fingerprint.update(key.as_slice());
    let id = Uuid::from_slice(&fingerprint.finish().as_ref()[..16]).expect("an id has 16 bytes");
    DataKey::from_bytes(id, key)
}

/// # Errors
/// `Missing`, `Exposed`, `Malformed` or `Io`.
pub fn read(path: &Path) -> Result<Ring, KeyFileError> {
    let io = |source| KeyFileError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        _ => io(error),
    })?;
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
        Ok(_) => parse(&text).map_err(malformed),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(malformed("it is not text")),
        Err(error) => Err(io(error)),
    }
}

fn parse(text: &str) -> Result<Ring, &'static str> {
    let lines = text.strip_suffix('\n').unwrap_or(text);
    if lines.is_empty() {
        return Err("it is empty");
    }
    let mut ring = Ring::new();
    for line in lines.split('\n') {
        let key = parse_line(line)?;
        if ring.len() == KEYS_MAX {
            return Err("it has more than 4 lines");
        }
        if ring.iter().any(|known| known.id == key.id) {
            return Err("it has the same key twice");
        }
        ring.push(Arc::new(key));
    }
    Ok(ring)
}

fn parse_line(line: &str) -> Result<DataKey, &'static str> {
    let (tag, encoded) = line.split_once(' ').ok_or("it has a line that is not a tag and a key")?;
    if tag != TAG {
        return Err("it has a line whose first word is not marvin-key-v1");
    }
    let bytes = Zeroizing::new(BASE64.decode(encoded).map_err(|_| "its key is not base64")?);
    let key: [u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| "its key does not have 32 bytes")?;
    Ok(key_of(Zeroizing::new(key)))
}

fn text_of(ring: &Ring) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize));
    for key in ring {
        text.push_str(TAG);
        text.push(' ');
        text.push_str(&Zeroizing::new(BASE64.encode(key.expose())));
        text.push('\n');
    }
    text
}

/// Makes the file with one new key. Written and synced with its directory before anything is wrapped under it: data must
/// never outlive its key.
///
/// # Errors
/// `Io`, also when the file is there.
pub fn create(path: &Path) -> Result<Ring, KeyFileError> {
    let ring = vec![draw()];
    write_new(path, &ring, None).map_err(|source| KeyFileError::Io { path: path.to_owned(), source })?;
    Ok(ring)
}

/// Keeps every other process that asks for it off the file at `path`, until the answer is dropped; waits for its turn.
///
/// # Errors
/// `Missing` or `Io`, also where the file system knows no locks.
pub fn lock(path: &Path) -> Result<File, KeyFileError> {
    let lock = || -> io::Result<File> {
        loop {
            // For writing where that is allowed: file systems of a network lock nothing else.
            let file = OpenOptions::new().read(true).write(true).open(path).or_else(|_| File::open(path))?;
            file.lock()?;
            let (locked, standing) = (file.metadata()?, fs::metadata(path)?);
            // Otherwise the file was replaced meanwhile, and the lock is on one that is in nobody's way.
            if (locked.dev(), locked.ino()) == (standing.dev(), standing.ino()) {
                return Ok(file);
            }
        }
    };
    lock().map_err(|error| match error.kind() {
        ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        _ => KeyFileError::Io { path: path.to_owned(), source: error },
    })
}

/// Puts `ring` in place of what stands in the file: a kill leaves the one or the other, whole.
///
/// # Errors
/// `Io`; then either stands there. `Malformed` when the ring has too many keys.
pub fn replace(path: &Path, ring: &Ring) -> Result<(), KeyFileError> {
    if ring.len() > KEYS_MAX {
        return Err(KeyFileError::Malformed { path: path.to_owned(), reason: "it would have more than 4 lines" });
    }
    let swap = || -> io::Result<()> {
        // Where the path is a link, what it names is replaced, and the link stays.
        let place = path.canonicalize()?;
        let fresh = fresh_name(&place);
        // One that a killed process left: never in use.
        if let Err(error) = fs::remove_file(&fresh)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        let owner = fs::metadata(&place)?;
        write_new(&fresh, ring, Some((owner.uid(), owner.gid())))?;
        fs::rename(&fresh, &place)?;
        sync_directory_of(&place)
    };
    swap().map_err(|source| KeyFileError::Io { path: path.to_owned(), source })
}

/// Where the next content of a key file is written before it takes the file's name.
pub fn fresh_name(place: &Path) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Whoever runs a rotation, the file stays with the `owner` that the server reads it as.
fn write_new(path: &Path, ring: &Ring, owner: Option<(u32, u32)>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    let mut write = || -> io::Result<()> {
        file.write_all(text_of(ring).as_bytes())?;
        let made = file.metadata()?;
        if let Some((uid, gid)) = owner.filter(|owner| *owner != (made.uid(), made.gid())) {
            fchown(&file, Some(uid), Some(gid))?;
        }
        file.sync_all()?;
        sync_directory_of(path)
    };
    write().inspect_err(|_| {
        // This call made the file and nothing was wrapped under its new key yet, so half a key need not stay behind.
        let _ = fs::remove_file(path);
    })
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}
