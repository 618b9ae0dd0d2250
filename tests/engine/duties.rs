//! What a start makes of the duties that it finds.
use marvin::views::ViewId;
use std::time::Duration;
use uuid::Uuid;

use super::stack::Stack;

const TTL: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_start_finds_no_duty_held_by_whoever_had_the_directory_before() {
    let stack = Stack::new().await;
    assert_eq!(stack.stores.duties.take("a", Uuid::now_v7(), TTL).await.unwrap(), Some(1));
    let stack = stack.restarted().await;
    assert_eq!(stack.stores.duties.held().await.unwrap(), []);
    assert_eq!(stack.stores.duties.take("a", Uuid::now_v7(), TTL).await.unwrap(), Some(2));
}

/// As where `log.db` was restored and `views.db` was not: whoever takes the duty next may write to the tables.
#[tokio::test]
async fn a_start_passes_the_tokens_that_tables_demand() {
    let stack = Stack::new().await;
    let view = ViewId::of(&*marvin_projections::all()[0]);
    let table = stack.stores.views.begin(view, 0).await.unwrap().table;
    stack.stores.views.take_over(&table, 40).await.unwrap();
    let stack = stack.restarted().await;
    let token = stack.stores.duties.take(&table.duty(), Uuid::now_v7(), TTL).await.unwrap().unwrap();
    assert_eq!(token, 41);
    stack.stores.views.take_over(&table, token).await.unwrap();
}
