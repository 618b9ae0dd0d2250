//! The example of docs/projections.md is a projection, and does what the page says.
use marvin_domain::{
    Event, Personal,
    task::{Output, TaskCompleted, TaskSubmitted},
};
use marvin_projections::{Key, Projection};
use serde_json::json;
use uuid::Uuid;

use crate::{
    journal::{Store, log},
    samples::{ADA, AGENT, at},
    tasks::{given_input, submitted},
    workload::{Workload, WorkloadDocument},
};

#[test]
fn the_page_shows_the_file_that_is_compiled_here() {
    let shown = format!("```rust\n{}```\n", include_str!("workload.rs"));
    assert!(include_str!("../../../docs/projections.md").contains(&shown));
    let (_, projection) = shown.split_once("\nimpl Projection for ").unwrap();
    let shown_first = format!("```rust\nimpl Projection for {projection}");
    assert!(include_str!("../../../README.md").contains(&shown_first));
}

#[test]
fn it_counts_the_work_of_each_agent() {
    let other = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0b9e);
    let (first, second, third) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
    let of_other = TaskSubmitted { agent_id: other, ..given() };
    let personal = Personal::Known(Output { output: json!(1) });
    let completed = TaskCompleted { attempt: 1, agent_id: AGENT, requested_by: ADA, personal };
    let events = [
        (first, Event::Task(given().into())),
        (second, Event::Task(of_other.into())),
        (third, Event::Task(given().into())),
        (first, Event::Task(completed.into())),
    ];
    let mut store = Store::default();
    store.take(&marvin_projections::fold_of::<Workload>(), &log(events));
    let document = |id: Uuid| store.0[&id].open::<WorkloadDocument>().unwrap();
    let expected = WorkloadDocument { agent_id: AGENT, submitted: 2, completed: 1, last_at: at(104) };
    assert_eq!(document(AGENT), expected);
    assert_eq!((document(other).submitted, document(other).completed), (1, 0));
    assert_eq!(Workload::keys(&expected), [Key::from(at(104))]);
}

fn given() -> TaskSubmitted {
    match submitted(given_input()) {
        marvin_domain::task::TaskEvent::Submitted(submitted) => submitted,
        other => panic!("{other:?}"),
    }
}
