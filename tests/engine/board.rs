//! What a process knows of its tables: told by the registry and by its own projectors, in any order.
use crate::stack::Stack;
use marvin::{
    health::Health,
    views::{ViewId, board::Board},
};
use marvin_projections::{fold_of, tasks::Tasks};

/// A look into the registry may have begun before a projector wrote, and end after it said so.
#[tokio::test]
async fn what_is_known_of_a_tables_position_never_goes_back() {
    let stack = Stack::new().await;
    let (store, view) = (stack.stores.views.clone(), ViewId::of(&*fold_of::<Tasks>()));
    let table = store.begin(view, 0).await.unwrap().table;
    store.take_over(&table, 1).await.unwrap();
    store.make_live(&table, 1).await.unwrap();
    let before = store.tables().await.unwrap();
    let board = Board::new(store, [view], Health::default());
    board.show(&before);
    assert_eq!(board.positions(), [("tasks", 0)]);
    board.reached(&table, 7);
    assert_eq!(board.positions(), [("tasks", 7)]);
    board.reached(&table, 6);
    assert_eq!(board.positions(), [("tasks", 7)], "a projector that began again");
    board.show(&before);
    assert_eq!(board.positions(), [("tasks", 7)], "a look that began before");
}
