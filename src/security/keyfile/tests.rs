//! What a key file must be, and what a rotation leaves in it at every step.
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use super::file::{MODE, fresh_name};
use super::*;

const TAG: &str = "marvin-key-v1";

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
    let line = |n: u8| format!("{TAG} {}\n", BASE64.encode([n; 32]));
    let many: String = (1..=5).map(line).collect();
    let blank = format!("{}\n", line(1));
    let cases: [&[u8]; 9] = [
        b"",
        b"\n",
        b"hello",
        b"marvin-key-v9 AAAA\n",
        short.as_bytes(),
        twice.as_bytes(),
        many.as_bytes(),
        blank.as_bytes(),
        &[0xff; 40],
    ];
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
    let shown = format!("{:?}", file::key_of(Zeroizing::new([0xab; KEY_BYTES])));
    assert!(!shown.contains("171") && !shown.contains("abab"), "{shown}");
}

const KEY: [u8; KEY_BYTES] = [9; KEY_BYTES];

async fn wrap(key: &MasterKey) -> Vec<u8> {
    key.wrap_key(b"ctx", &KEY).await.unwrap()
}

async fn opens(key: &MasterKey, wrapped: &[u8]) -> bool {
    key.unwrap_key(b"ctx", wrapped).await.is_ok_and(|found| *found == KEY)
}

/// As the next start finds it.
fn reread(path: &Path) -> MasterKey {
    MasterKey::load_or_create(path, false).unwrap()
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn between_begin_and_end_both_keys_open_and_the_new_one_wraps_also_after_a_restart() {
    let (_dir, path) = place();
    let key = MasterKey::load_or_create(&path, true).unwrap();
    let (old_line, old) = (lines(&path), wrap(&key).await);
    key.begin_rotation().unwrap();
    let new = wrap(&key).await;
    assert!(key.is_current(&new) && !key.is_current(&old));
    assert_eq!((lines(&path).len(), &lines(&path)[1]), (2, &old_line[0]));
    for key in [&key, &reread(&path)] {
        assert!(opens(key, &old).await && opens(key, &new).await);
        assert!(key.is_current(&wrap(key).await) && key.is_current(&new));
    }
}

#[tokio::test]
async fn a_rotation_that_was_begun_is_taken_up_and_draws_no_further_key() {
    let (_dir, path) = place();
    let key = MasterKey::load_or_create(&path, true).unwrap();
    key.begin_rotation().unwrap();
    let (begun, new) = (lines(&path), wrap(&key).await);
    for key in [key, reread(&path)] {
        key.begin_rotation().unwrap();
        assert_eq!(lines(&path), begun);
        assert!(key.is_current(&new));
    }
}

#[tokio::test]
async fn after_the_end_only_the_new_key_is_there() {
    let (_dir, path) = place();
    let key = MasterKey::load_or_create(&path, true).unwrap();
    let old = wrap(&key).await;
    key.begin_rotation().unwrap();
    let new = wrap(&key).await;
    key.end_rotation().unwrap();
    assert_eq!(lines(&path).len(), 1);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
    for key in [&key, &reread(&path)] {
        assert!(opens(key, &new).await);
        assert!(matches!(key.unwrap_key(b"ctx", &old).await, Err(WrapError::WrongKey)));
    }
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left beside it");
}

#[tokio::test]
async fn an_end_that_wrote_the_file_and_failed_behind_it_is_repeated_from_the_beginning() {
    let (_dir, path) = place();
    let key = MasterKey::load_or_create(&path, true).unwrap();
    let old = wrap(&key).await;
    key.begin_rotation().unwrap();
    let new = wrap(&key).await;
    // The file is as an end leaves it; the process has not heard of it.
    fs::write(&path, format!("{}\n", lines(&path)[0])).unwrap();
    key.begin_rotation().unwrap();
    assert_eq!(lines(&path).len(), 2, "the process may hold keys under the old one yet");
    assert!(opens(&key, &old).await && key.is_current(&new));
}

#[tokio::test]
async fn a_file_without_the_key_in_use_is_not_written_to() {
    let (_dir, path) = place();
    let (_other_dir, other) = place();
    let key = MasterKey::load_or_create(&path, true).unwrap();
    MasterKey::load_or_create(&other, true).unwrap();
    fs::copy(&other, &path).unwrap();
    let standing = lines(&path);
    for change in [MasterKey::begin_rotation, MasterKey::end_rotation] {
        assert!(matches!(change(&key), Err(KeyFileError::Replaced(_))));
    }
    assert_eq!(lines(&path), standing);
    fs::remove_file(&path).unwrap();
    assert!(matches!(key.begin_rotation(), Err(KeyFileError::Missing(_))));
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_cannot_be_written_leaves_the_old_key_in_use() {
    let (_dir, path) = place();
    let key = MasterKey::load_or_create(&path, true).unwrap();
    let (standing, old) = (lines(&path), wrap(&key).await);
    // A directory in the way of the new file: also root cannot remove it as a file.
    fs::create_dir(fresh_name(&path)).unwrap();
    assert!(matches!(key.begin_rotation(), Err(KeyFileError::Io { .. })));
    assert!(key.is_current(&old));
    assert_eq!(lines(&path), standing);
    fs::remove_dir(fresh_name(&path)).unwrap();
    key.begin_rotation().unwrap();
}

#[test]
fn half_a_file_that_a_kill_left_behind_is_no_hindrance() {
    let (_dir, path) = place();
    let key = MasterKey::load_or_create(&path, true).unwrap();
    write(&fresh_name(&path), b"marvin-key-v1 AAA", 0o644);
    key.begin_rotation().unwrap();
    assert_eq!((lines(&path).len(), fs::metadata(&path).unwrap().mode() & 0o777), (2, MODE));
}

#[test]
fn where_the_key_file_is_a_link_its_target_is_rotated() {
    let (_dir, path) = place();
    let (_elsewhere, target) = place();
    let key = {
        MasterKey::load_or_create(&target, true).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        reread(&path)
    };
    key.begin_rotation().unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(lines(&target).len(), 2);
}

/// Processes that begin a rotation of the same file at the same time.
const RIVALS: usize = 8;
const ROUNDS: usize = 20;

#[tokio::test]
async fn processes_that_rotate_one_file_at_once_come_to_the_same_key() {
    for _ in 0..ROUNDS {
        let (_dir, path) = place();
        let old = wrap(&MasterKey::load_or_create(&path, true).unwrap()).await;
        let processes: Vec<_> = (0..RIVALS).map(|_| reread(&path)).collect();
        let start = std::sync::Barrier::new(RIVALS);
        std::thread::scope(|scope| {
            for process in &processes {
                scope.spawn(|| {
                    start.wait();
                    process.begin_rotation().unwrap();
                });
            }
        });
        let now = reread(&path);
        assert!(opens(&now, &old).await);
        for process in &processes {
            assert!(now.is_current(&wrap(process).await), "one drew a key that the file does not hold");
        }
    }
}

#[tokio::test]
async fn a_rotation_that_another_process_began_next_is_not_ended() {
    let (_dir, path) = place();
    let (one, other) = (MasterKey::load_or_create(&path, true).unwrap(), reread(&path));
    one.begin_rotation().unwrap();
    other.begin_rotation().unwrap();
    let first = wrap(&one).await;
    one.end_rotation().unwrap();
    one.begin_rotation().unwrap();
    let begun = lines(&path);
    assert!(other.reread_for(&wrap(&one).await).await, "it reads as the current key what it did not rewrap to");
    assert!(matches!(other.end_rotation(), Err(KeyFileError::Replaced(_))));
    assert_eq!(lines(&path), begun);
    assert!(opens(&reread(&path), &first).await);
}

#[tokio::test]
async fn a_key_is_looked_for_in_the_file_and_after_looking_in_vain_not_for_a_while() {
    let (_dir, path) = place();
    let (_elsewhere, copy) = place();
    let key = MasterKey::load_or_create(&path, true).unwrap();
    fs::copy(&path, &copy).unwrap();
    let node = reread(&copy);
    key.begin_rotation().unwrap();
    let wrapped = wrap(&key).await;
    let begun = Instant::now();
    assert!(!node.look_for(&wrapped).await);
    fs::copy(&path, &copy).unwrap();
    let found = node.look_for(&wrapped).await;
    assert!(!found || begun.elapsed() >= LOOK_INTERVAL, "the file was read again at once");
    while !node.look_for(&wrapped).await {
        tokio::task::yield_now().await;
        assert!(begun.elapsed() < 30 * LOOK_INTERVAL);
    }
    assert!(opens(&node, &wrapped).await);
}

#[tokio::test]
async fn a_file_that_does_not_hold_what_is_looked_for_changes_nothing() {
    let (_dir, path) = place();
    let (_elsewhere, other) = place();
    let (node, stranger) =
        (MasterKey::load_or_create(&path, true).unwrap(), MasterKey::load_or_create(&other, true).unwrap());
    let (own, foreign) = (wrap(&node).await, wrap(&stranger).await);
    fs::write(&path, "marvin-key-v1 AAA").unwrap();
    assert!(!node.reread_for(&foreign).await, "half a file");
    fs::remove_file(&path).unwrap();
    assert!(!node.reread_for(&foreign).await, "no file");
    assert!(!node.reread_for(b"cut").await, "no wrapped key");
    fs::copy(&other, &path).unwrap();
    assert!(!node.look_for(&wrap(&MasterKey::load_or_create(&place().1, true).unwrap()).await).await);
    assert!(opens(&node, &own).await && !opens(&node, &foreign).await);
}
