//! Lists: filters, order, pages and limits.
use super::{Adapter, Subject, VIEW, document, id, newest, numbers};
use marvin::views::{
    Filter, Found, ListQuery, Order, PAGE_BYTES_MAX, PAGE_DOCUMENTS_MAX, SealedDocument, Table, ViewError,
};
use marvin_projections::Key;
use rstest::rstest;

/// Ten things: odd and even, of rank 0, 1 and 2.
async fn ten(adapter: Adapter) -> (Subject, Table) {
    let subject = adapter.subject().await;
    let table = subject.live(VIEW).await;
    let kind = |number: u128| if number.is_multiple_of(2) { "even" } else { "odd" };
    let all = (1..=10).map(|number| document(number, kind(number), i64::try_from(number % 3).unwrap()));
    subject.put(&table, all.collect(), 1).await;
    (subject, table)
}

fn either(kinds: &[&str]) -> Filter {
    Filter::In("kind", kinds.iter().map(|kind| Key::from(*kind)).collect())
}

fn ranks(ranks: impl IntoIterator<Item = i64>) -> Filter {
    Filter::In("rank", ranks.into_iter().map(Key::Integer).collect())
}

impl Subject {
    async fn found(&self, table: &Table, query: ListQuery) -> Vec<u128> {
        numbers(&self.store.list(table, query).await.unwrap().documents)
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_list_is_newest_first_and_goes_on_behind_its_last_one(#[case] adapter: Adapter) {
    let (subject, table) = ten(adapter).await;
    let even = || vec![Filter::is("kind", "even")];
    assert_eq!(subject.found(&table, newest(even(), None, 3)).await, [10, 8, 6]);
    assert_eq!(subject.found(&table, newest(even(), Some(6), 3)).await, [4, 2]);
    assert_eq!(subject.found(&table, newest(even(), Some(2), 3)).await, []);
    assert_eq!(subject.found(&table, newest(Vec::new(), Some(3), 3)).await, [2, 1]);
    assert_eq!(subject.store.list(&table, newest(even(), None, 3)).await.unwrap().position, 1);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn filters_hold_together(#[case] adapter: Adapter) {
    let (subject, table) = ten(adapter).await;
    let cases: [(Vec<Filter>, &[u128]); 13] = [
        (vec![ranks([0, 1])], &[10, 9, 7, 6, 4, 3, 1]),
        (vec![ranks([1, 1, 0, 1])], &[10, 9, 7, 6, 4, 3, 1]),
        (vec![ranks([2, 7])], &[8, 5, 2]),
        (vec![ranks([])], &[]),
        (vec![Filter::In("rank", vec![Key::Null])], &[]),
        (vec![either(&["odd", "even"]), ranks([0, 2])], &[9, 8, 6, 5, 3, 2]),
        (vec![either(&["odd"]), either(&["even"])], &[]),
        (vec![Filter::AtMost("rank", 1), Filter::is("kind", "odd")], &[9, 7, 3, 1]),
        (vec![Filter::AtMost("due_at", 999)], &[9, 6, 3]),
        (vec![Filter::is("owner", id(1)), Filter::is("unread", false)], &[9, 3]),
        (vec![Filter::is("kind", "x' OR '1'='1")], &[]),
        // More than are worth a scan each.
        (vec![ranks(-20..2)], &[10, 9, 7, 6, 4, 3, 1]),
        (vec![ranks(-1..3), either(&["odd", "even", "neither"])], &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
    ];
    for (filters, expected) in cases {
        assert_eq!(subject.found(&table, newest(filters.clone(), None, 10)).await, expected, "{filters:?}");
        let pages = [None, expected.get(1).copied()];
        for (before, rest) in pages.into_iter().zip([expected, expected.get(2..).unwrap_or_default()]) {
            let page = subject.found(&table, newest(filters.clone(), before, 2)).await;
            assert_eq!(page, rest[..rest.len().min(2)], "{filters:?}");
        }
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn lists_are_ordered_by_a_field_and_then_by_age(#[case] adapter: Adapter) {
    let (subject, table) = ten(adapter).await;
    let list = |filters, order| ListQuery { filters, order, before: None, limit: 4 };
    let highest = Order::HighestThenOldest("rank");
    assert_eq!(subject.found(&table, list(Vec::new(), highest)).await, [2, 5, 8, 1]);
    assert_eq!(subject.found(&table, list(vec![either(&["even"])], highest)).await, [2, 8, 4, 10]);
    assert_eq!(subject.found(&table, list(vec![either(&["odd", "even"])], highest)).await, [2, 5, 8, 1]);
    let lowest = Order::LowestThenNewest("rank");
    assert_eq!(subject.found(&table, list(Vec::new(), lowest)).await, [9, 6, 3, 10]);
    assert_eq!(subject.found(&table, list(vec![either(&["even"])], lowest)).await, [6, 10, 4, 8]);
    assert_eq!(subject.found(&table, list(vec![either(&["odd", "even"])], lowest)).await, [9, 6, 3, 10]);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn what_has_no_key_is_lower_than_all_that_have_one(#[case] adapter: Adapter) {
    let (subject, table) = ten(adapter).await;
    let keyless = |number: u128| {
        let mut document = document(number, "odd", 0);
        document.keys[1] = Key::Null;
        document
    };
    subject.put(&table, vec![keyless(11), keyless(13)], 2).await;
    for filters in [Vec::new(), vec![either(&["odd"])], vec![either(&["odd", "neither"])]] {
        let list = |order| ListQuery { filters: filters.clone(), order, before: None, limit: 100 };
        let highest = subject.found(&table, list(Order::HighestThenOldest("rank"))).await;
        assert_eq!(highest[highest.len() - 2..], [11, 13], "{filters:?}");
        let lowest = subject.found(&table, list(Order::LowestThenNewest("rank"))).await;
        assert_eq!(lowest[..3], [13, 11, 9], "{filters:?}");
        assert_eq!(lowest.len(), highest.len());
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_field_that_is_not_there_or_is_of_another_kind_is_refused_and_no_sql(#[case] adapter: Adapter) {
    let (subject, table) = ten(adapter).await;
    let refused = [
        Filter::is("colour", "red"),
        Filter::is("kind\" OR 1=1 --", "x"),
        Filter::is("id", id(1)),
        Filter::is("owner", id(1).to_string().as_str()),
        Filter::is("rank", "1"),
        Filter::is("unread", 2),
        Filter::In("rank", vec![Key::Integer(1), "1".into()]),
        Filter::AtMost("kind", 1),
        Filter::AtMost("owner", 1),
        Filter::AtMost("body", 1),
    ];
    for filter in refused {
        let found = subject.store.find(&table, newest(vec![filter.clone()], None, 1)).await;
        assert!(matches!(found, Err(ViewError::UnknownField(_))), "{filter:?}: {found:?}");
        let list = subject.store.list(&table, newest(vec![filter.clone()], None, 1)).await;
        assert!(matches!(list, Err(ViewError::UnknownField(_))), "{filter:?}: {list:?}");
    }
    for order in [Order::HighestThenOldest("colour"), Order::LowestThenNewest("rank\" --")] {
        let list = subject.store.list(&table, ListQuery { order, ..newest(Vec::new(), None, 1) }).await;
        assert!(matches!(list, Err(ViewError::UnknownField(_))), "{order:?}: {list:?}");
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_page_holds_what_was_asked_for_between_one_and_a_thousand(#[case] adapter: Adapter) {
    let subject = adapter.subject().await;
    let table = subject.live(VIEW).await;
    let all: Vec<SealedDocument> = (1..=1_100).map(|number| document(number, "a", 1)).collect();
    subject.put(&table, all, 1).await;
    for (limit, expected) in [(0, 1), (1, 1), (11, 11), (12, 12), (201, 201), (1_000, 1_000), (u32::MAX, 1_000)] {
        assert_eq!(subject.found(&table, newest(Vec::new(), None, limit)).await.len(), expected, "{limit}");
    }
    assert_eq!(PAGE_DOCUMENTS_MAX, 1_000);
}

/// A thing of so many bytes.
fn heavy(number: u128, bytes: usize) -> SealedDocument {
    let mut document = document(number, "heavy", i64::try_from(number).unwrap());
    document.body = vec![0; bytes];
    document
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_page_holds_as_many_documents_as_fit_in_its_bytes_and_leads_on_behind_them(#[case] adapter: Adapter) {
    let (subject, table) = ten(adapter).await;
    let third = PAGE_BYTES_MAX / 3;
    // Newest first: three that fill a page to the last byte, one of a byte too much for the next, one that is more than a page.
    let sizes =
        [(18, third), (17, third), (16, PAGE_BYTES_MAX - 2 * third), (15, third), (14, PAGE_BYTES_MAX - third + 1)];
    let all = sizes.into_iter().chain([(13, PAGE_BYTES_MAX + 1), (12, 1), (11, 1)]);
    subject.put(&table, all.map(|(number, bytes)| heavy(number, bytes)).collect(), 2).await;
    let either = || vec![either(&["heavy", "odd"])];
    let kinds = [vec![Filter::is("kind", "heavy")], vec![Filter::AtMost("rank", 18)], either()];
    for filters in kinds {
        for (before, limit, expected, is_cut) in [
            (None, 8, &[18, 17, 16][..], true),
            (None, 3, &[18, 17, 16], false),
            (None, 2, &[18, 17], false),
            (Some(16), 8, &[15], true),
            (Some(15), 8, &[14], true),
            (Some(14), 8, &[13], true),
            (Some(14), 1, &[13], false),
            (Some(13), 2, &[12, 11], false),
        ] {
            let page = subject.store.list(&table, newest(filters.clone(), before, limit)).await.unwrap();
            let told = format!("{limit} before {before:?} of {filters:?}");
            assert_eq!((numbers(&page.documents), page.is_cut), (expected.to_vec(), is_cut), "{told}");
        }
    }
    let whole = subject.store.list(&table, newest(either(), Some(12), 1_000)).await.unwrap();
    assert_eq!((numbers(&whole.documents), whole.is_cut), (vec![11, 9, 7, 5, 3, 1], false));
    let order = Order::HighestThenOldest("rank");
    let sorted = subject.store.list(&table, ListQuery { order, ..newest(either(), None, 8) }).await.unwrap();
    assert_eq!((numbers(&sorted.documents), sorted.is_cut), (vec![18, 17, 16], true));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn what_is_found_is_what_a_list_would_answer_were_it_not_for_the_bytes(#[case] adapter: Adapter) {
    let (subject, table) = ten(adapter).await;
    subject.put(&table, (11..=14).map(|number| heavy(number, PAGE_BYTES_MAX)).collect(), 2).await;
    let found = async |query| subject.store.find(&table, query).await.unwrap();
    let ids = |found: Vec<Found>| found.iter().map(|found| found.id.as_u128()).collect::<Vec<_>>();
    for (filters, expected) in [
        (vec![Filter::is("kind", "heavy")], &[14, 13, 12, 11][..]),
        (vec![either(&["heavy", "odd"])], &[14, 13, 12, 11, 9, 7, 5, 3, 1]),
        (Vec::new(), &[14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        (vec![either(&[])], &[]),
    ] {
        assert_eq!(ids(found(newest(filters.clone(), None, 100)).await), expected, "{filters:?}");
        let rest = expected.get(2..).unwrap_or_default();
        let behind = newest(filters.clone(), Some(expected.get(1).copied().unwrap_or(1)), 3);
        assert_eq!(ids(found(behind).await), rest[..rest.len().min(3)], "{filters:?}");
    }
    let sorted = |filters, order| ListQuery { order, ..newest(filters, None, 4) };
    let keys = |found: Vec<Found>| found.iter().map(|found| (found.id.as_u128(), found.sorted_by)).collect::<Vec<_>>();
    let mut keyless = document(15, "odd", 0);
    keyless.keys[1] = Key::Null;
    subject.put(&table, vec![keyless], 3).await;
    for filters in [Vec::new(), vec![either(&["heavy", "odd"])]] {
        let highest = keys(found(sorted(filters.clone(), Order::HighestThenOldest("rank"))).await);
        assert_eq!(highest, [(14, Some(14)), (13, Some(13)), (12, Some(12)), (11, Some(11))]);
        let lowest = keys(found(sorted(filters, Order::LowestThenNewest("rank"))).await);
        assert_eq!(lowest[..2], [(15, None), (9, Some(0))]);
    }
    for order in [Order::HighestThenOldest("kind"), Order::LowestThenNewest("colour")] {
        let refused = subject.store.find(&table, sorted(Vec::new(), order)).await;
        assert!(matches!(refused, Err(ViewError::UnknownField(_))), "{order:?}: {refused:?}");
    }
    let gone = Table { build: 9, ..table.clone() };
    assert!(matches!(subject.store.find(&gone, newest(Vec::new(), None, 1)).await, Err(ViewError::Gone)));
}
