//! Whatever commands come in whatever order, a task keeps its promises.
use cqrs_es::{Aggregate, event_sink::EventSink};
use marvin_domain::{
    AggregateKind, Event,
    event::Recorded,
    task::{CancelReason, Failure, Submission, Task, TaskCommand, TaskEvent},
};
use proptest::prelude::*;
use serde_json::json;

use crate::{
    given::{decided, state_after},
    samples::{WORKER, at},
    task_journal::submission,
};

/// The second of the deadline: most moves are made before it.
const DEADLINE: i64 = 90;

/// A command whose attempt and step are told relative to the task's own, so that most fit and some are late or early.
#[derive(Debug, Clone)]
enum Move {
    Start { second: i64 },
    Step { attempts_ago: u32, step_offset: i32 },
    Complete { attempts_ago: u32 },
    Fail { attempts_ago: u32, retry_second: Option<i64> },
    LoseHeartbeat { attempts_ago: u32 },
    PassDeadline { second: i64 },
    Cancel,
    Retry,
    SubmitAgain,
}

impl Move {
    fn command(&self, task: &Task) -> TaskCommand {
        let attempt = |ago: u32| task.attempt.saturating_sub(ago);
        match *self {
            Self::Start { second } => TaskCommand::Start { worker: WORKER, at: at(second) },
            Self::Step { attempts_ago, step_offset } => TaskCommand::CompleteStep {
                attempt: attempt(attempts_ago),
                step: (task.steps + 1).saturating_add_signed(step_offset),
                kind: "tool".into(),
                name: "look_up".into(),
                started_at: at(0),
                result: json!({ "step": task.steps }),
            },
            Self::Complete { attempts_ago } => {
                TaskCommand::Complete { attempt: attempt(attempts_ago), output: json!("done") }
            }
            Self::Fail { attempts_ago, retry_second } => TaskCommand::Fail {
                attempt: attempt(attempts_ago),
                failure: Failure::new("broken", "It broke"),
                retry_at: retry_second.map(at),
            },
            Self::LoseHeartbeat { attempts_ago } => TaskCommand::LoseHeartbeat { attempt: attempt(attempts_ago) },
            Self::PassDeadline { second } => TaskCommand::PassDeadline { at: at(second) },
            Self::Cancel => TaskCommand::Cancel { reason: CancelReason::Requested },
            Self::Retry => TaskCommand::Retry,
            Self::SubmitAgain => TaskCommand::Submit(submission(1)),
        }
    }
}

fn attempts_ago() -> impl Strategy<Value = u32> {
    prop_oneof![8 => Just(0_u32), 1 => Just(1), 1 => Just(u32::MAX)]
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step =
        (attempts_ago(), -2..3_i32).prop_map(|(attempts_ago, step_offset)| Move::Step { attempts_ago, step_offset });
    let fail = (attempts_ago(), proptest::option::weighted(0.8, 0..100_i64))
        .prop_map(|(attempts_ago, retry_second)| Move::Fail { attempts_ago, retry_second });
    let one = prop_oneof![
        8 => (0..100_i64).prop_map(|second| Move::Start { second }),
        4 => step,
        4 => fail,
        2 => attempts_ago().prop_map(|attempts_ago| Move::LoseHeartbeat { attempts_ago }),
        1 => attempts_ago().prop_map(|attempts_ago| Move::Complete { attempts_ago }),
        1 => (0..100_i64).prop_map(|second| Move::PassDeadline { second }),
        1 => Just(Move::Cancel),
        3 => Just(Move::Retry),
        1 => Just(Move::SubmitAgain),
    ];
    proptest::collection::vec(one, 0..60)
}

/// Decides on a clone, as the dispatcher does, and answers what was recorded and the state that recorded it.
fn play(max_attempts: u32, moves: &[Move]) -> (Vec<TaskEvent>, Task) {
    let (mut journal, mut task) = (Vec::new(), Task::default());
    let submit =
        |_: &Task| TaskCommand::Submit(Submission { deadline: Some(at(DEADLINE)), ..submission(max_attempts) });
    let mut take = |command: &dyn Fn(&Task) -> TaskCommand| {
        let (mut next, sink) = (task.clone(), EventSink::<Task>::default());
        if decided(next.handle(command(&task), &(), &sink)).is_ok() {
            journal.extend(decided(sink.collect()));
            task = next;
        }
    };
    take(&submit);
    for made in moves {
        take(&|task| made.command(task));
    }
    (journal, task)
}

fn ends(event: &TaskEvent) -> bool {
    matches!(
        event,
        TaskEvent::Completed(_) | TaskEvent::Failed(_) | TaskEvent::DeadLettered(_) | TaskEvent::Cancelled(_)
    )
}

proptest! {
    #[test]
    fn a_replayed_task_is_the_task_that_decided(max_attempts in 1..4_u32, moves in moves()) {
        let (journal, task) = play(max_attempts, &moves);
        prop_assert_eq!(state_after(journal), task);
    }

    #[test]
    fn attempts_count_up_by_one_and_never_beyond_their_bound(max_attempts in 1..4_u32, moves in moves()) {
        let (journal, _) = play(max_attempts, &moves);
        let started = journal.iter().filter_map(|event| match event {
            TaskEvent::Started(started) => Some(started.attempt),
            _ => None,
        });
        prop_assert!(started.eq(1..=state_after(journal.clone()).attempt));
        let mut last = 0;
        for length in 0..=journal.len() {
            let task = state_after(journal[..length].iter().cloned());
            prop_assert!(last <= task.attempt && task.attempt <= task.attempt_max);
            last = task.attempt;
        }
    }

    #[test]
    fn only_a_retry_follows_the_end_of_a_task(max_attempts in 1..4_u32, moves in moves()) {
        let (journal, _) = play(max_attempts, &moves);
        for pair in journal.windows(2) {
            prop_assert!(!ends(&pair[0]) || matches!(pair[1], TaskEvent::Retried(_)), "{:?}", pair);
            prop_assert!(!matches!(pair[1], TaskEvent::Retried(_)) || ends(&pair[0]), "{:?}", pair);
        }
        for run in journal.split(|event| matches!(event, TaskEvent::Retried(_))) {
            prop_assert!(run.iter().filter(|event| ends(event)).count() <= 1);
        }
    }

    #[test]
    fn steps_are_contiguous_and_each_is_recorded_once(max_attempts in 1..4_u32, moves in moves()) {
        let (journal, task) = play(max_attempts, &moves);
        let steps = journal.iter().filter_map(|event| match event {
            TaskEvent::StepCompleted(completed) => Some(completed.step),
            _ => None,
        });
        prop_assert!(steps.eq(1..=task.steps));
    }

    #[test]
    fn a_stored_journal_reads_back_as_it_was(max_attempts in 1..4_u32, moves in moves()) {
        let (journal, _) = play(max_attempts, &moves);
        for event in journal {
            let (facts, personal) = (event.facts(), event.personal());
            let (event_type, version) = (event.event_type(), event.version());
            let read = Event::decode(AggregateKind::Task, event_type, version, &facts, personal.as_deref()).unwrap();
            prop_assert_eq!(read, Event::Task(event));
        }
    }
}
