//! What was missed, what overlaps, and what cannot be given to the agent.
use super::*;
use marvin_domain::{
    agent::AgentCommand,
    schedule::{FAILURES_MAX, MISSED_MAX, PauseReason},
    task::{CancelReason, Failure},
    user::UserCommand,
};

fn told(fired: &[(i64, String)]) -> Vec<(i64, &str)> {
    fired.iter().map(|(second, outcome)| (*second, outcome.as_str())).collect()
}

#[tokio::test]
async fn after_an_outage_missed_instants_are_skipped_made_up_for_once_or_all() {
    // The outage lasts until ten seconds behind the fifth minute.
    for (missed, expected) in [
        (Missed::Skip, vec![(240, "missed"), (300, "submitted"), (360, "submitted")]),
        (Missed::One, vec![(300, "submitted"), (360, "submitted")]),
        (
            Missed::All,
            vec![
                (60, "submitted"),
                (120, "submitted"),
                (180, "submitted"),
                (240, "submitted"),
                (300, "submitted"),
                (360, "submitted"),
            ],
        ),
    ] {
        let house = House::build().await;
        let id = house.schedule(every_minute(), Overlap::Allow, missed).await;
        for second in [310, 310, 360] {
            house.set_clock(noon(second));
            house.node().advance(id).await;
        }
        assert_eq!(told(&house.fired(id).await), expected, "{missed:?}");
        house.tasks().await;
    }
}

#[tokio::test]
async fn after_a_long_outage_a_bounded_number_is_made_up_for() {
    let house = House::build().await;
    let id = house.schedule(every_minute(), Overlap::Queue, Missed::All).await;
    house.set_clock(noon(86_400));
    let node = house.node();
    node.advance(id).await;
    let fired = house.fired(id).await;
    assert_eq!((fired.len(), fired[0].0), (MISSED_MAX, 86_400 - 60 * (MISSED_MAX as i64 - 1)));
    assert_eq!(house.tasks().await.len(), 1, "the others wait for their turn");
}

#[tokio::test]
async fn what_overlaps_is_passed_over_until_the_task_before_has_ended() {
    let house = House::build().await;
    let (node, id) = (house.node(), house.schedule(every_minute(), Overlap::Skip, Missed::One).await);
    for second in [60, 120] {
        house.set_clock(noon(second));
        node.advance(id).await;
    }
    house.complete(house.tasks().await[0]).await;
    house.set_clock(noon(180));
    // Nobody has told of the end yet.
    house.node().advance(id).await;
    assert_eq!(told(&house.fired(id).await), [(60, "submitted"), (120, "overlap"), (180, "submitted")]);
}

#[tokio::test]
async fn what_is_queued_is_submitted_one_by_one_as_tasks_end() {
    let house = House::build().await;
    let id = house.schedule(every_minute(), Overlap::Queue, Missed::One).await;
    for second in [60, 120, 180] {
        house.set_clock(noon(second));
        house.node().advance(id).await;
    }
    assert_eq!(told(&house.fired(id).await), [(60, "submitted"), (120, "queued"), (180, "queued")]);
    for ended in 0..3 {
        let tasks = house.tasks().await;
        assert_eq!(tasks.len(), ended + 1);
        house.send(tasks[ended], TaskCommand::Cancel { reason: CancelReason::Requested }).await;
        house
            .send(
                id,
                ScheduleCommand::EndTask { task_id: tasks[ended], end: marvin_domain::schedule::TaskEnd::Cancelled },
            )
            .await;
        house.node().advance(id).await;
        house.node().advance(id).await;
    }
    let released = [(120, "released: submitted"), (180, "released: submitted")];
    assert_eq!(told(&house.fired(id).await)[3..], released);
    assert_eq!(house.tasks().await.len(), 3);
}

#[tokio::test]
async fn firings_that_cannot_be_submitted_say_why_and_pause_the_schedule() {
    let house = House::build().await;
    let id = house.schedule(every_minute(), Overlap::Skip, Missed::One).await;
    house.send(house.agent, AgentCommand::Retire).await;
    for round in 1..=i64::from(FAILURES_MAX) + 3 {
        house.set_clock(noon(60 * round));
        house.node().advance(id).await;
    }
    let fired = house.fired(id).await;
    assert_eq!(fired.len(), FAILURES_MAX as usize);
    assert!(fired.iter().all(|(_, outcome)| outcome == "agent_retired"), "{fired:?}");
    let last = house.stack.events().await.pop().unwrap();
    assert!(
        matches!(&last.event, Event::Schedule(ScheduleEvent::Paused(paused)) if paused.reason == PauseReason::RepeatedFailure)
    );
    assert!(house.tasks().await.is_empty());
}

#[tokio::test]
async fn the_input_is_checked_again_when_it_fires() {
    let house = House::build().await;
    // An agent of another kind, that takes series of numbers.
    let insight = AgentCommand::Create {
        name: Name::parse("Oracle").unwrap(),
        description: String::new(),
        kind: "insight".into(),
        config: json!({}).into(),
        limits: marvin_domain::agent::Limits::default(),
    };
    let agent_id = Uuid::now_v7();
    house.send(agent_id, insight).await;
    let id = house.schedule(every_minute(), Overlap::Skip, Missed::One).await;
    let words = marvin_domain::schedule::NewWords::default();
    let change = ScheduleCommand::Change { agent_id: Some(agent_id), timing: None, policies: None, words, at: noon(0) };
    house.send(id, change).await;
    house.set_clock(noon(60));
    house.node().advance(id).await;
    assert_eq!(told(&house.fired(id).await), [(60, "input_refused")]);
}

#[tokio::test]
async fn what_the_owner_wrote_last_is_what_the_task_is_given() {
    let house = House::build().await;
    let id = house.schedule(every_minute(), Overlap::Allow, Missed::One).await;
    house.set_clock(noon(60));
    house.node().advance(id).await;
    let words = marvin_domain::schedule::NewWords { name: None, input: Some(json!("another")) };
    house.send(id, ScheduleCommand::Change { agent_id: None, timing: None, policies: None, words, at: noon(60) }).await;
    house.set_clock(noon(120));
    house.node().advance(id).await;
    let inputs: Vec<_> = house
        .stack
        .events()
        .await
        .into_iter()
        .filter_map(|event| match event.event {
            Event::Task(TaskEvent::Submitted(task)) => task.personal.known().map(|words| words.input.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(inputs, [json!({ "planted": "7f3a" }), json!("another")]);
}

#[tokio::test]
async fn a_schedule_whose_owner_is_erased_is_removed_instead_of_fired() {
    let house = House::build().await;
    let id = house.schedule(every_minute(), Overlap::Skip, Missed::One).await;
    house.send(house.owner, UserCommand::Erase).await;
    house.set_clock(noon(60));
    let node = house.node();
    node.advance(id).await;
    assert_eq!(node.load(id).await.unwrap(), None);
    assert!(house.fired(id).await.is_empty() && house.tasks().await.is_empty());
}

#[tokio::test]
async fn a_task_that_fails_is_known_as_failed_and_one_that_is_cancelled_is_not() {
    let house = House::build().await;
    let (node, id) = (house.node(), house.schedule(every_minute(), Overlap::Skip, Missed::One).await);
    let fail = || TaskCommand::Fail { attempt: 1, failure: Failure::new("no", "it cannot be done"), retry_at: None };
    let mut failures = Vec::new();
    for (round, is_failure) in [(1, true), (2, true), (3, false), (4, true)] {
        house.set_clock(noon(60 * round));
        node.advance(id).await;
        let task = *house.tasks().await.last().unwrap();
        if is_failure {
            house.end_task(task, fail()).await;
        } else {
            house.send(task, TaskCommand::Cancel { reason: CancelReason::Requested }).await;
        }
        house.set_clock(noon(60 * round + 1));
        failures.push(node.load(id).await.unwrap().unwrap().failures);
    }
    assert_eq!(failures, [0, 1, 2, 2], "an end is heard of at the next firing, if not before");
}
