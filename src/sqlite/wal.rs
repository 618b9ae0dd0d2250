//! Finds damage in a write-ahead log that SQLite itself passes over.
//!
//! SQLite reads the log up to the first frame whose checksum is wrong and takes that for the torn end of the last write,
//! so damage in the middle would silently undo every commit behind it. It can be told from a torn end: where a commit is
//! synced before it is acknowledged, the first frame behind a commit is written only once the whole log up to that commit
//! is on the disk. So a wrong frame with a commit at or behind it, *and* a frame that continues from that commit, is
//! damage. What cannot be told: damage to the last commit alone, which looks exactly like a write that a power cut tore.
//!
//! The format: <https://www.sqlite.org/fileformat2.html#walformat>.
use std::{
    fs::File,
    io::{self, BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
};

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// Begins every log; the last bit says which byte order its checksums are computed in.
const MAGIC: u32 = 0x377f_0682;
/// What SQLite allows for a page.
const PAGE_BYTES: std::ops::RangeInclusive<u32> = 512..=65_536;

/// Looks through the log beside the database at `database`; answers what is wrong, in words.
///
/// Only for a database whose commits are synced; a log of another kind may lack a frame in its middle after a power cut.
///
/// # Errors
/// When the log cannot be read. One that is absent or empty is in order.
pub fn damage(database: &Path) -> io::Result<Option<String>> {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    let file = match File::open(PathBuf::from(name)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = file.metadata()?.len();
    let mut reader = BufReader::new(file);
    let mut head = [0; HEADER_BYTES];
    // The header is synced before the first frame is written, so a log without a frame says nothing.
    if bytes < (HEADER_BYTES + FRAME_HEADER_BYTES) as u64 || !filled(&mut reader, &mut head)? {
        return Ok(None);
    }
    let Some(header) = Header::parse(&head) else {
        return Ok(Some("the head of its write-ahead log is not what was written".into()));
    };
    let wrong = header.wrong_frame(&mut reader)?;
    Ok(wrong.map(|frame| {
        format!("frame {frame} of its write-ahead log is not what was written, and commits stand behind it")
    }))
}

struct Header {
    big_endian: bool,
    page_bytes: usize,
    salts: [u8; 8],
    sum: (u32, u32),
}

impl Header {
    fn parse(head: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (magic, page_bytes) = (word(head, 0), word(head, 8));
        let big_endian = magic & 1 == 1;
        let sum = checksum((0, 0), &head[..24], big_endian);
        let known = magic & !1 == MAGIC && PAGE_BYTES.contains(&page_bytes) && page_bytes.is_power_of_two();
        let header = Self { big_endian, page_bytes: page_bytes as usize, salts: head[16..24].try_into().ok()?, sum };
        (known && sum == (word(head, 24), word(head, 28))).then_some(header)
    }

    /// The number (from 1) of the first frame that is wrong, if commits are lost with it.
    fn wrong_frame(&self, reader: &mut impl Read) -> io::Result<Option<u64>> {
        let mut frame = vec![0; FRAME_HEADER_BYTES + self.page_bytes];
        let (mut number, mut wrong, mut sum) = (0, None, self.sum);
        let mut is_behind_commit = false;
        while filled(reader, &mut frame)? {
            number += 1;
            let is_ours = frame[8..16] == self.salts;
            let stored = (word(&frame, 16), word(&frame, 20));
            let expected = checksum(sum, &frame[..8], self.big_endian);
            let continues = is_ours && checksum(expected, &frame[FRAME_HEADER_BYTES..], self.big_endian) == stored;
            if wrong.is_some() && is_behind_commit && continues {
                return Ok(wrong);
            }
            if !continues {
                wrong = wrong.or(Some(number));
            }
            is_behind_commit = is_ours && word(&frame, 4) != 0;
            // As written, also where it is wrong: the next frame was computed from it.
            sum = stored;
        }
        Ok(None)
    }
}

/// Fills `buffer`, or answers that there are not that many bytes left.
fn filled(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// A number of the format, big-endian as all but the checksummed content is.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Continues a checksum over `bytes`, whose number is a multiple of eight.
fn checksum((mut first, mut second): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let read = |bytes: &[u8]| {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    for pair in bytes.chunks_exact(8) {
        first = first.wrapping_add(read(&pair[..4])).wrapping_add(second);
        second = second.wrapping_add(read(&pair[4..])).wrapping_add(first);
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;
    use std::fs;
    use tempfile::TempDir;

    const COMMITS: usize = 10;
    /// A frame of the default page.
    const FRAME_BYTES: usize = FRAME_HEADER_BYTES + 4096;

    /// A database as a killed process leaves it: `COMMITS` commits of one frame each stand in the log only.
    fn killed() -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let running = dir.path().join("running.db");
        let connection = Connection::open(&running).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("CREATE TABLE t (n INTEGER)").unwrap();
        connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
        for n in 0..COMMITS {
            connection.execute("INSERT INTO t VALUES (?1)", [n as i64]).unwrap();
        }
        let path = dir.path().join("log.db");
        fs::copy(&running, &path).unwrap();
        fs::copy(dir.path().join("running.db-wal"), log_of(&path)).unwrap();
        (dir, path)
    }

    fn log_of(path: &Path) -> PathBuf {
        path.with_file_name("log.db-wal")
    }

    fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = fs::read(log_of(path)).unwrap();
        change(&mut content);
        fs::write(log_of(path), content).unwrap();
    }

    fn rows(path: &Path) -> usize {
        let connection = Connection::open(path).unwrap();
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap() as usize
    }

    /// Where frame `number` (from 1) begins.
    fn frame(number: usize) -> usize {
        HEADER_BYTES + (number - 1) * FRAME_BYTES
    }

    #[test]
    fn a_log_that_a_kill_left_is_in_order() {
        let (_dir, path) = killed();
        assert_eq!(damage(&path).unwrap(), None);
        assert_eq!(rows(&path), COMMITS);
        assert_eq!(damage(&path.with_file_name("absent.db")).unwrap(), None);
    }

    /// In its page, its page number, its checksum, and its salt: all that it consists of.
    #[test]
    fn a_wrong_frame_in_the_middle_is_found_where_sqlite_forgets_what_follows() {
        for offset in [100, 0, 16, 8] {
            for number in 1..COMMITS - 1 {
                let (_dir, path) = killed();
                change(&path, |content| content[frame(number) + offset] ^= 0x40);
                let found = damage(&path).unwrap().unwrap_or_else(|| panic!("frame {number} at {offset}"));
                assert!(found.starts_with(&format!("frame {number} of its write-ahead log")), "{found}");
                assert!(rows(&path) < COMMITS, "else there would be nothing to find");
            }
        }
    }

    #[test]
    fn a_torn_end_is_in_order() {
        for cut in [1, 4096, FRAME_BYTES, FRAME_BYTES + 10, COMMITS * FRAME_BYTES] {
            let (_dir, path) = killed();
            change(&path, |content| content.truncate(frame(COMMITS + 1) - cut));
            assert_eq!(damage(&path).unwrap(), None, "cut by {cut}");
        }
        let (_dir, path) = killed();
        change(&path, |content| content[frame(COMMITS) + 100..].fill(0));
        assert_eq!(damage(&path).unwrap(), None, "the last write is torn within");
    }

    /// A log begins anew after a checkpoint, and keeps the old frames behind the new ones.
    #[test]
    fn frames_of_an_earlier_round_say_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("CREATE TABLE t (n INTEGER)").unwrap();
        for n in 0..COMMITS {
            connection.execute("INSERT INTO t VALUES (?1)", [n as i64]).unwrap();
        }
        connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
        connection.execute("INSERT INTO t VALUES (0)", []).unwrap();
        assert!(fs::metadata(log_of(&path)).unwrap().len() as usize > frame(COMMITS), "old frames are there");
        assert_eq!(damage(&path).unwrap(), None);
    }

    /// What is too large for the cache is written to the log before it is committed, and stays there when it is undone.
    #[test]
    fn frames_that_were_undone_say_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.pragma_update(None, "cache_size", 5).unwrap();
        connection.execute_batch("CREATE TABLE t (n INTEGER, x BLOB); INSERT INTO t VALUES (1, x'')").unwrap();
        let spill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
                     INSERT INTO t SELECT i, randomblob(1000) FROM n";
        for _ in 0..3 {
            connection.execute_batch(&format!("BEGIN; {spill}; ROLLBACK; INSERT INTO t VALUES (1, x'')")).unwrap();
        }
        assert!(fs::metadata(log_of(&path)).unwrap().len() as usize > frame(30), "undone frames are there");
        assert_eq!(damage(&path).unwrap(), None);
    }

    #[test]
    fn a_wrong_head_is_found() {
        for at in [0, 9, 17, 30] {
            let (_dir, path) = killed();
            change(&path, |content| content[at] ^= 0x40);
            assert!(damage(&path).unwrap().is_some_and(|found| found.contains("head")), "byte {at}");
            assert_eq!(rows(&path), 0, "SQLite takes such a log for empty");
        }
        let (_dir, path) = killed();
        change(&path, |content| content.truncate(20));
        assert_eq!(damage(&path).unwrap(), None, "no frame was written yet");
    }
}
