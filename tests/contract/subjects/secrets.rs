//! Values of named secrets: kept under an id, bound to their row, deleted in the order of ids, and rewrapped with everything else.
use super::*;
use marvin::security::subjects::{KeptSecret, NewSecret};
use secrecy::{ExposeSecret, SecretString};
use std::{fs, path::Path};

/// More names than any test here keeps.
const PLENTY: u32 = 100;

fn new(n: u128, name: &str, value: &str) -> NewSecret {
    NewSecret { id: user(n), name: name.into(), value: SecretString::from(value), kept_at_ms: NOW_MS }
}

fn kept(n: u128, name: &str) -> KeptSecret {
    KeptSecret { id: user(n), name: name.into(), kept_at_ms: NOW_MS }
}

async fn value(store: &dyn SubjectStore, n: u128) -> Option<String> {
    store.secret(user(n)).await.unwrap().map(|value| value.expose_secret().to_owned())
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_value_is_read_back_on_every_node_and_shown_by_nothing(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let [here, there] = &subject.nodes;
    let new = new(1, "key", "a planted värde");
    assert!(!format!("{new:?}").contains("planted"));
    assert!(here.put_secret(new, PLENTY).await.unwrap());
    assert_eq!(value(&**there, 1).await.as_deref(), Some("a planted värde"));
    assert_eq!(value(&**there, 2).await, None);
    assert_eq!(there.secrets().await.unwrap(), [kept(1, "key")]);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn values_of_one_name_are_deleted_up_to_the_newest_that_is_not_wanted(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = &*subject.nodes[0];
    for (n, name) in [(1, "key"), (2, "key"), (3, "key"), (4, "other")] {
        assert!(store.put_secret(new(n, name, "x"), PLENTY).await.unwrap());
    }
    store.delete_secrets("key", user(2)).await.unwrap();
    store.delete_secrets("key", user(2)).await.unwrap();
    store.delete_secrets("absent", user(9)).await.unwrap();
    assert_eq!(store.secrets().await.unwrap(), [kept(3, "key"), kept(4, "other")]);
    assert_eq!((value(store, 1).await, value(store, 3).await), (None, Some("x".into())));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn there_are_no_more_names_than_the_caller_wants(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    let putting = (1..=12_u128).map(|n| {
        let store = store.clone();
        async move { store.put_secret(new(n, &format!("name{n}"), "x"), 3).await.unwrap() }
    });
    let kept = join_all(putting).await.into_iter().filter(|kept| *kept).count();
    assert_eq!((kept, store.secrets().await.unwrap().len()), (3, 3));
    let known = store.secrets().await.unwrap().remove(0).name;
    assert!(store.put_secret(new(20, &known, "y"), 3).await.unwrap(), "a known name is no further one");
    assert!(!store.put_secret(new(21, "further", "y"), 3).await.unwrap());
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_rotation_takes_secrets_with_it(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let (store, key) = (&*subject.nodes[0], &subject.key);
    for n in 1..=5 {
        store.put_secret(new(n, &format!("name{n}"), &format!("value {n}")), PLENTY).await.unwrap();
    }
    key.begin_rotation().unwrap();
    store.put_secret(new(6, "late", "value 6"), PLENTY).await.unwrap();
    let late = u64::from(matches!(adapter, Adapter::Postgres));
    assert_eq!(store.rewrap().await.unwrap(), 5 + late + 2, "and the keys of the instance");
    key.end_rotation().unwrap();
    assert_eq!(store.rewrap().await.unwrap(), 0);
    for n in 1..=6 {
        assert_eq!(value(store, n).await, Some(format!("value {n}")), "nothing needs the old key");
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn people_are_erased_and_secrets_stay(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = &*subject.nodes[0];
    let person = registered(store, 1).await;
    store.put_secret(new(7, "key", "a value"), PLENTY).await.unwrap();
    erase(store, &[person]).await;
    assert_eq!(value(store, 7).await.as_deref(), Some("a value"));
}

fn sql(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn a_value_that_was_moved_or_altered_is_not_opened() {
    for damage in [
        "UPDATE secrets SET name = 'other' WHERE id = (SELECT min(id) FROM secrets)",
        "UPDATE secrets SET sealed = (SELECT sealed FROM secrets ORDER BY id DESC LIMIT 1)",
        "UPDATE secrets SET wrapped_key = (SELECT wrapped_key FROM secrets ORDER BY id DESC LIMIT 1)",
        "UPDATE secrets SET wrapped_key = (SELECT wrapped FROM instance_keys LIMIT 1)",
        "UPDATE secrets SET sealed = x'00'",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (path, key) = (directory.path().join("subjects.db"), master(&directory, "master.key"));
        let store = SqliteSubjects::open(&path, key.clone()).await.unwrap();
        for n in [1, 2] {
            store.put_secret(new(n, &format!("name{n}"), "value"), PLENTY).await.unwrap();
        }
        store.close().await.unwrap();
        drop(store);
        sql(&path, damage);
        let store = SqliteSubjects::open(&path, key).await.unwrap();
        let refused = store.secret(user(1)).await;
        assert!(matches!(refused, Err(SubjectsError::Damaged { .. })), "{damage}: {refused:?}");
    }
}

#[tokio::test]
async fn a_file_from_before_there_were_secrets_takes_them_up() {
    let directory = tempfile::tempdir().unwrap();
    let (path, key) = (directory.path().join("subjects.db"), master(&directory, "master.key"));
    let store = SqliteSubjects::open(&path, key.clone()).await.unwrap();
    let person = registered(&store, 1).await;
    let before = print(&store.keys(&[person]).await.unwrap()[&person]);
    store.close().await.unwrap();
    drop(store);
    // As the first version left it.
    sql(&path, "DROP TABLE secrets; DELETE FROM refinery_schema_history WHERE version > 1");
    let store = SqliteSubjects::open(&path, key).await.unwrap();
    assert_eq!(print(&store.keys(&[person]).await.unwrap()[&person]), before);
    assert!(store.put_secret(new(1, "key", "a value"), PLENTY).await.unwrap());
    assert_eq!(value(&store, 1).await.as_deref(), Some("a value"));
}

#[tokio::test]
async fn a_file_holds_no_value_in_clear() {
    let directory = tempfile::tempdir().unwrap();
    let (path, key) = (directory.path().join("subjects.db"), master(&directory, "master.key"));
    let store = SqliteSubjects::open(&path, key).await.unwrap();
    store.put_secret(new(1, "name-in-clear", "Qz7PlantedValue"), PLENTY).await.unwrap();
    let holds = |needle: &str| {
        let files = fs::read_dir(directory.path()).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
        files.into_iter().any(|bytes| bytes.windows(needle.len()).any(|window| window == needle.as_bytes()))
    };
    assert!(holds("name-in-clear") && !holds("Qz7PlantedValue"));
    store.close().await.unwrap();
    assert!(holds("name-in-clear") && !holds("Qz7PlantedValue"));
}
