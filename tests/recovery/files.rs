//! A data directory's files: copied, compared byte by byte, and damaged on purpose.
use std::{
    collections::BTreeMap,
    fs::{self, DirEntry},
    path::{Path, PathBuf},
};

use super::support::{Launch, Stopped};

/// Bytes of a page of every database here: SQLite's default.
pub const PAGE_BYTES: usize = 4096;

/// Content by name.
pub type Snapshot = BTreeMap<String, Vec<u8>>;

pub fn snapshot(directory: &Path) -> Snapshot {
    let content = |file: &DirEntry| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap());
    files_of(directory).iter().map(content).collect()
}

/// All but the control socket, which holds nothing.
fn files_of(directory: &Path) -> Vec<DirEntry> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries.filter(|entry| entry.file_type().unwrap().is_file()).collect()
}

/// A copy of a stopped server's data, with the same administrator.
pub fn copy_of(stopped: &Stopped) -> Launch {
    let copy = Launch::with_admin();
    for file in files_of(stopped.data_dir()) {
        fs::copy(file.path(), copy.data_dir().join(file.file_name())).unwrap();
    }
    copy
}

/// Every file stands as it stood. An empty write-ahead log is as good as none: it goes when the last connection closes in time. SQLite may have begun an empty write-ahead log beside one that it read, and an index of it.
#[track_caller]
pub fn expect_unchanged(before: &Snapshot, after: &Snapshot) {
    let counts = |(name, content): &(&String, &Vec<u8>)| {
        !(name.ends_with("-shm") || name.ends_with("-wal") && content.is_empty())
    };
    for (name, content) in before.iter().filter(counts) {
        assert!(after.get(name) == Some(content), "{name} was changed");
    }
    for (name, content) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
        let harmless = name == "marvin.lock" || name.ends_with("-shm") || content.is_empty();
        assert!(harmless, "{name} was made");
    }
}

pub fn path(launch: &Launch, name: &str) -> PathBuf {
    launch.data_dir().join(name)
}

fn change(launch: &Launch, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = fs::read(path(launch, name)).unwrap();
    change(&mut content);
    fs::write(path(launch, name), content).unwrap();
}

pub fn overwrite_header(launch: &Launch, name: &str) {
    change(launch, name, |content| content[..100].fill(b'X'));
}

/// Overwrites the root page of the index that SQLite made for the first UNIQUE or PRIMARY KEY of `table`.
pub fn overwrite_index(launch: &Launch, name: &str, table: &str) {
    let connection = rusqlite::Connection::open(path(launch, name)).unwrap();
    let page: i64 = connection
        .query_row("SELECT max(rootpage) FROM sqlite_schema WHERE tbl_name = ?1", [table], |row| row.get(0))
        .unwrap();
    drop(connection);
    let start = (usize::try_from(page).unwrap() - 1) * PAGE_BYTES;
    change(launch, name, |content| content[start..start + PAGE_BYTES].fill(0xa5));
}

pub fn truncate(launch: &Launch, name: &str) {
    change(launch, name, |content| content.truncate(content.len() / PAGE_BYTES / 2 * PAGE_BYTES));
}

pub fn empty(launch: &Launch, name: &str) {
    change(launch, name, Vec::clear);
}

pub fn remove(launch: &Launch, name: &str) {
    fs::remove_file(path(launch, name)).unwrap();
}

pub fn execute(launch: &Launch, name: &str, sql: &str) {
    rusqlite::Connection::open(path(launch, name)).unwrap().execute_batch(sql).unwrap();
}
