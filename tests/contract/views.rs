//! What every view store promises: documents and checkpoint together, filters, order and pages.
use marvin::{
    log::checkpoint::Checkpoint,
    views::{Filter, ListQuery, Order, SealedDocument, ViewError, ViewId, ViewStore, sqlite::SqliteViews},
};
use marvin_projections::Key;
use rstest::rstest;
use std::sync::Arc;
use uuid::Uuid;

const VIEW: ViewId =
    ViewId { name: "things", version: 1, fields: &["kind", "rank"], indexes: &[&["kind"], &["kind", "rank"]] };
const NEXT_VERSION: ViewId = ViewId { version: 2, ..VIEW };

struct Subject {
    _directory: tempfile::TempDir,
    store: Arc<dyn ViewStore>,
}

fn sqlite() -> Subject {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteViews::open(&directory.path().join("views.db")).unwrap());
    Subject { _directory: directory, store }
}

fn document(number: u128, kind: &str, rank: i64) -> SealedDocument {
    let keys = vec![Key::from(kind), Key::from(rank)];
    SealedDocument { id: Uuid::from_u128(number), position: 1, body: vec![1, 2, 3], keys }
}

fn at(position: u64) -> Checkpoint {
    Checkpoint { position, event_id: Uuid::from_u128(u128::from(position) << 64) }
}

fn newest(filters: Vec<Filter>, before: Option<u128>, limit: u32) -> ListQuery {
    ListQuery { filters, order: Order::Newest, before: before.map(Uuid::from_u128), limit }
}

fn numbers(documents: &[SealedDocument]) -> Vec<u128> {
    documents.iter().map(|document| document.id.as_u128()).collect()
}

#[rstest]
#[case::sqlite(sqlite())]
#[tokio::test]
async fn documents_and_checkpoint_are_written_together_and_read_back(#[case] subject: Subject) {
    let store = &subject.store;
    store.ensure(VIEW).await.unwrap();
    store.ensure(VIEW).await.unwrap();
    assert_eq!(store.checkpoint(VIEW).await.unwrap(), None);
    let documents = vec![document(1, "a", 3), document(2, "b", 1)];
    store.store(VIEW, documents.clone(), at(7)).await.unwrap();
    assert_eq!(store.checkpoint(VIEW).await.unwrap(), Some(at(7)));
    let ids = [Uuid::from_u128(2), Uuid::from_u128(9), Uuid::from_u128(1)];
    let mut found = store.load(VIEW, &ids).await.unwrap();
    found.sort_by_key(|document| document.id);
    assert_eq!(found, documents);
    store.store(VIEW, vec![document(1, "c", 5)], at(8)).await.unwrap();
    assert_eq!(
        store.checkpoint(VIEW).await.unwrap(),
        Some(at(8)),
        "the event that stands there went with another position"
    );
    assert_eq!(store.load(VIEW, &ids[2..]).await.unwrap(), [document(1, "c", 5)]);
}

#[rstest]
#[case::sqlite(sqlite())]
#[tokio::test]
async fn versions_of_a_view_stand_side_by_side(#[case] subject: Subject) {
    let store = &subject.store;
    store.ensure(VIEW).await.unwrap();
    store.store(VIEW, vec![document(1, "a", 1)], at(3)).await.unwrap();
    store.ensure(NEXT_VERSION).await.unwrap();
    assert_eq!(store.checkpoint(NEXT_VERSION).await.unwrap(), None);
    assert_eq!(store.count(NEXT_VERSION, Vec::new()).await.unwrap(), 0);
    assert_eq!(store.count(VIEW, Vec::new()).await.unwrap(), 1);
}

#[rstest]
#[case::sqlite(sqlite())]
#[tokio::test]
async fn lists_filter_order_and_page(#[case] subject: Subject) {
    let store = &subject.store;
    store.ensure(VIEW).await.unwrap();
    let kind = |number: u128| if number.is_multiple_of(2) { "even" } else { "odd" };
    let all = (1..=10).map(|number| document(number, kind(number), i64::try_from(number % 3).unwrap())).collect();
    store.store(VIEW, all, at(1)).await.unwrap();

    let even = || vec![Filter::is("kind", "even")];
    assert_eq!(numbers(&store.list(VIEW, newest(even(), None, 3)).await.unwrap()), [10, 8, 6]);
    assert_eq!(numbers(&store.list(VIEW, newest(even(), Some(6), 3)).await.unwrap()), [4, 2]);
    let either = vec![Filter::In("rank", vec![Key::Integer(0), Key::Integer(1)])];
    assert_eq!(store.count(VIEW, either).await.unwrap(), 7);
    assert_eq!(store.count(VIEW, vec![Filter::AtMost("rank", 1), Filter::is("kind", "odd")]).await.unwrap(), 4);
    let order = Order::HighestThenOldest("rank");
    let urgent = ListQuery { filters: Vec::new(), order, before: None, limit: 4 };
    assert_eq!(numbers(&store.list(VIEW, urgent).await.unwrap()), [2, 5, 8, 1]);
}

#[rstest]
#[case::sqlite(sqlite())]
#[tokio::test]
async fn an_unknown_field_is_refused_and_no_sql(#[case] subject: Subject) {
    subject.store.ensure(VIEW).await.unwrap();
    let outcome = subject.store.count(VIEW, vec![Filter::is("kind\" OR 1=1 --", "x")]).await;
    assert!(matches!(outcome, Err(ViewError::UnknownField(_))));
    let hostile = vec![Filter::is("kind", "x' OR '1'='1")];
    assert_eq!(subject.store.count(VIEW, hostile).await.unwrap(), 0);
}
