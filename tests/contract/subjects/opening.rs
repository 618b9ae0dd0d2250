//! How nodes open the store in PostgreSQL: together, with the right key or the wrong one, and on one that was damaged.
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_together_on_an_empty_store_have_the_same_keys() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::shared());
    let key = master(&directory, "master.key");
    let mut ready = Vec::new();
    for _ in 0..8 {
        ready.push(database.prepare().await);
    }
    let open = |postgres| tokio::spawn(PostgresSubjects::open(postgres, key.clone(), true));
    let nodes = join_all(ready.into_iter().map(open)).await;
    let nodes: Vec<_> = nodes.into_iter().map(|node| node.unwrap().unwrap()).collect();
    let keys_of = |node: &PostgresSubjects| (node.facts_key().id, print(&node.facts_key()), node.hmac("a", b"data"));
    assert!(nodes.iter().all(|node| keys_of(node) == keys_of(&nodes[0])));
    let again = node(&database, &key).await.unwrap();
    assert_eq!(keys_of(&again), keys_of(&nodes[0]), "and after a restart");
}

#[tokio::test]
async fn another_key_is_refused_and_changes_nothing() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::shared());
    let key = master(&directory, "master.key");
    node(&database, &key).await.unwrap().register(user(1), "ada@example.org", NOW_MS).await.unwrap();
    let refused = node(&database, &master(&directory, "other.key")).await.unwrap_err();
    let sentence = format!(
        "the schema {}_subjects was made with another key: put the right key file back; nothing was changed",
        database.instance
    );
    assert_eq!(refused.to_string(), sentence);
    let store = node(&database, &key).await.unwrap();
    assert_eq!(store.keys(&[user(1)]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_store_that_lost_its_instance_keys_never_gets_new_ones() {
    for lost in ["", " WHERE name = 'hmac'"] {
        let (directory, database) = (tempfile::tempdir().unwrap(), Database::shared());
        let key = master(&directory, "master.key");
        node(&database, &key).await.unwrap().register(user(1), "ada@example.org", NOW_MS).await.unwrap();
        let lose = format!("DELETE FROM {}_subjects.instance_keys{lost}", database.instance);
        database.stranger().await.batch_execute(&lose).await.unwrap();
        let refused = node(&database, &key).await.unwrap_err();
        assert!(matches!(refused, SubjectsError::Damaged { .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn keys_are_drawn_only_where_an_instance_may_begin() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::shared());
    let refused = PostgresSubjects::open(database.prepare().await, master(&directory, "master.key"), false).await;
    assert!(matches!(refused, Err(SubjectsError::Damaged { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_wrapped_key_moved_to_another_row_is_refused() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::shared());
    let store = node(&database, &master(&directory, "master.key")).await.unwrap();
    store.register(user(1), "ada@example.org", NOW_MS).await.unwrap();
    store.register(user(2), "bob@example.org", NOW_MS).await.unwrap();
    let table = format!("{}_subjects.subjects", database.instance);
    let of_ada = format!("(SELECT wrapped_key FROM {table} WHERE user_id = '{}')", user(1));
    let moved = format!("UPDATE {table} SET wrapped_key = {of_ada}");
    database.stranger().await.batch_execute(&moved).await.unwrap();
    let refused = store.keys(&[user(2)]).await;
    assert!(matches!(refused, Err(SubjectsError::Damaged { .. })), "{refused:?}");
}
