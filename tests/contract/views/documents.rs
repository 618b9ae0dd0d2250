//! Documents: written with their checkpoint, whole or not at all, and never set back.
use super::{Adapter, NEXT, Subject, TOKEN, VIEW, at, document, id, newest};
use marvin::views::{Filter, SealedDocument, ViewError};
use marvin_projections::Key;
use rstest::rstest;

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn documents_and_checkpoint_are_written_together_and_read_back(#[case] adapter: Adapter) {
    let subject = adapter.subject().await;
    let store = &subject.store;
    let table = subject.begun(VIEW).await;
    let documents = vec![document(1, "a", 3), document(2, "b", i64::MIN)];
    subject.put(&table, documents.clone(), 7).await;
    assert_eq!(subject.row(&table).await.unwrap().checkpoint, at(7));
    let mut found = store.load(&table, &[id(2), id(9), id(1)]).await.unwrap();
    found.documents.sort_by_key(|document| document.id);
    assert_eq!((found.documents, found.position), (documents, 7));
    let changed = SealedDocument { position: 8, body: Vec::new(), ..document(1, "c", 5) };
    subject.put(&table, vec![changed.clone()], 8).await;
    assert_eq!(subject.row(&table).await.unwrap().checkpoint, at(8));
    let found = store.load(&table, &[id(1)]).await.unwrap();
    assert_eq!((found.documents, found.position), (vec![changed], 8));
    let nothing = SealedDocument { keys: vec![Key::Null; 5], ..document(3, "", 0) };
    subject.put(&table, vec![nothing.clone()], 9).await;
    assert_eq!(store.load(&table, &[id(3)]).await.unwrap().documents, [nothing]);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_document_at_its_position_or_above_stays_as_it_is(#[case] adapter: Adapter) {
    let subject = adapter.subject().await;
    let table = subject.begun(VIEW).await;
    let standing = |position| SealedDocument { position, ..document(1, "standing", 1) };
    subject.put(&table, vec![standing(5)], 5).await;
    for position in [4, 5] {
        let repeated = SealedDocument { position, ..document(1, "repeated", 2) };
        subject.put(&table, vec![repeated, document(u128::from(position), "other", 1)], 5).await;
        assert_eq!(subject.store.load(&table, &[id(1)]).await.unwrap().documents, [standing(5)]);
    }
    assert_eq!(subject.all(&table).await.len(), 3, "the others are written");
    let next = SealedDocument { position: 6, ..document(1, "next", 2) };
    subject.put(&table, vec![next.clone()], 6).await;
    assert_eq!(subject.store.load(&table, &[id(1)]).await.unwrap().documents, [next]);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn tables_of_two_versions_keep_their_own_fields(#[case] adapter: Adapter) {
    let subject = adapter.subject().await;
    let (old, new) = (subject.live(VIEW).await, subject.live(NEXT).await);
    let document_of_next = SealedDocument { keys: vec![id(3).into(), "red".into()], ..document(1, "", 0) };
    subject.put(&old, vec![document(1, "a", 1)], 3).await;
    subject.put(&new, vec![document_of_next.clone()], 4).await;
    // As another program sees them: by the registry alone.
    let tables: Vec<_> = subject.store.tables().await.unwrap().into_iter().map(|row| row.table).collect();
    assert_eq!(tables, [old.clone(), new.clone()]);
    assert_eq!(subject.all(&tables[0]).await, [document(1, "a", 1)]);
    assert_eq!(subject.all(&tables[1]).await, [document_of_next]);
    let red = || newest(vec![Filter::is("colour", "red")], None, 10);
    assert_eq!(subject.store.list(&new, red()).await.unwrap().documents.len(), 1);
    assert!(matches!(subject.store.list(&old, red()).await, Err(ViewError::UnknownField("colour"))));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn documents_that_do_not_fit_their_table_are_refused_and_so_is_their_batch(#[case] adapter: Adapter) {
    let Subject { store, .. } = &adapter.subject().await;
    let table = store.begin(VIEW, 0).await.unwrap().table;
    store.take_over(&table, TOKEN).await.unwrap();
    let whole = document(1, "a", 1).keys;
    let with = |index: usize, key: Key| {
        let mut keys = whole.clone();
        keys[index] = key;
        keys
    };
    let unfit = [
        whole[..4].to_vec(),
        [&whole[..], &[Key::Null]].concat(),
        with(0, Key::Integer(1)),
        with(1, "1".into()),
        with(2, Key::Text(id(1).to_string())),
        with(4, Key::Integer(2)),
    ];
    for keys in unfit {
        let documents = vec![document(2, "b", 2), SealedDocument { keys, ..document(1, "a", 1) }];
        let outcome = store.store(&table, documents, at(3), TOKEN).await;
        assert!(matches!(&outcome, Err(ViewError::Corrupt { id: at, .. }) if *at == id(1)), "{outcome:?}");
    }
    let found = store.list(&table, newest(Vec::new(), None, 10)).await.unwrap();
    assert_eq!((found.documents, found.position), (vec![], 0));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_batch_that_fails_halfway_leaves_neither_documents_nor_checkpoint(#[case] adapter: Adapter) {
    let subject = adapter.subject().await;
    let table = subject.live(VIEW).await;
    subject.put(&table, vec![document(1, "a", 1)], 5).await;
    subject
        .tamper(
            "CREATE TRIGGER t BEFORE INSERT ON view_things_1_1 WHEN NEW.kind = 'bad' \
             BEGIN SELECT RAISE(ABORT, 'no room'); END",
            "CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no room'; END $$; \
             CREATE TRIGGER t BEFORE INSERT ON view_things_1_1 FOR EACH ROW WHEN (NEW.kind = 'bad') \
             EXECUTE FUNCTION t()",
        )
        .await;
    let changed = SealedDocument { position: 6, ..document(1, "b", 1) };
    let batch = vec![changed, document(2, "b", 1), document(3, "bad", 1), document(4, "b", 1)];
    let failed = subject.store.store(&table, batch.clone(), at(6), TOKEN).await;
    assert!(matches!(failed, Err(ViewError::Unavailable(_))), "{failed:?}");
    assert_eq!(subject.row(&table).await.unwrap().checkpoint, at(5));
    assert_eq!(subject.all(&table).await, [document(1, "a", 1)]);
    subject.tamper("DROP TRIGGER t", "DROP TRIGGER t ON view_things_1_1").await;
    subject.put(&table, batch, 6).await;
    assert_eq!(subject.all(&table).await.len(), 4);
}

/// As many as a batch of events may change.
const BATCH_DOCUMENTS: u128 = 5_000;

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_batch_may_change_thousands_of_documents(#[case] adapter: Adapter) {
    let subject = adapter.subject().await;
    let table = subject.live(VIEW).await;
    let batch = |position: u64, kind: &str| {
        let all = (1..=BATCH_DOCUMENTS).map(|number| SealedDocument {
            position,
            body: vec![7; 1_000],
            ..document(number, kind, 1)
        });
        all.collect::<Vec<_>>()
    };
    for (position, kind) in [(1, "first"), (2, "second")] {
        subject.put(&table, batch(position, kind), position).await;
        let found = subject.store.find(&table, newest(vec![Filter::is("kind", kind)], None, 1_000)).await.unwrap();
        assert_eq!(found.len(), 1_000.min(BATCH_DOCUMENTS as usize));
    }
    let ids: Vec<_> = (1..=BATCH_DOCUMENTS + 1).map(id).collect();
    let mut loaded = subject.store.load(&table, &ids).await.unwrap().documents;
    loaded.sort_by_key(|document| document.id);
    assert_eq!(loaded, batch(2, "second"));
}
