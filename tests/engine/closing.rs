//! A stopped process leaves each database whole in its one file, whatever was still under way.
use futures_util::future::join_all;
use marvin::{
    sqlite::{Database, Durability, Inspected},
    store::StoreError,
};
use marvin_domain::user::Role;
use std::fs;

use super::stack::Stack;

mod no_migrations {
    refinery::embed_migrations!("migrations/sqlite/views");
}

fn insert(database: &Database, number: u32) -> impl Future<Output = Result<(), StoreError>> + use<> {
    let database = database.clone();
    async move {
        let sql = "INSERT INTO builds (name, version, last) VALUES (?1, 1, 1)";
        database.write(move |connection| Ok(connection.execute(sql, [number.to_string()]).map(drop)?)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_the_end_is_in_the_file_and_nothing_is_written_after() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("views.db");
    let runner = no_migrations::migrations::runner();
    let database = Inspected::open(&path, Durability::Crash, runner).unwrap().prepare().unwrap();
    let writes: Vec<_> = (0..500).map(|number| tokio::spawn(insert(&database, number))).collect();
    insert(&database, 1_000).await.unwrap();
    database.close().await.unwrap();
    let acknowledged = join_all(writes).await.into_iter().filter(|outcome| matches!(outcome, Ok(Ok(())))).count() + 1;
    assert!(matches!(insert(&database, 2_000).await, Err(StoreError::Closed)));
    database.close().await.unwrap();
    assert_eq!(fs::metadata(directory.path().join("views.db-wal")).map_or(0, |wal| wal.len()), 0);
    // The file alone, without what stands beside it.
    let alone = directory.path().join("alone.db");
    fs::copy(&path, &alone).unwrap();
    let count = "SELECT count(*) FROM builds";
    let written: usize =
        rusqlite::Connection::open(&alone).unwrap().query_row(count, [], |row| row.get::<_, i64>(0)).unwrap() as usize;
    assert_eq!(written, acknowledged);
}

#[tokio::test]
async fn closed_stores_leave_no_write_ahead_log() {
    let stack = Stack::new().await;
    stack.user("somebody@example.org", &[Role::Member]).await;
    let data = stack.directory.path().join("data");
    let left = || -> Vec<String> {
        let names = ["log.db-wal", "subjects.db-wal", "views.db-wal"];
        let has_content = |name: &&str| fs::metadata(data.join(name)).is_ok_and(|wal| wal.len() > 0);
        names.into_iter().filter(has_content).map(str::to_owned).collect()
    };
    assert!(left().contains(&"log.db-wal".to_owned()), "else this proves nothing");
    stack.stores.close().await;
    assert!(left().is_empty(), "{:?}", left());
    assert_eq!(*stack.stores.log.head().borrow(), 1);
}
