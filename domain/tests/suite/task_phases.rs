//! What each command leads to after each event: the whole state machine of a task on one page.
use marvin_domain::{
    event::Recorded,
    task::{Task, TaskCommand, TaskError, TaskEvent},
};

use crate::{
    given::given,
    samples,
    task_journal::{
        cancel, cancelled, complete, complete_step, completed, dead_lettered, fail, fail_for_good, failed,
        heartbeat_lost, lose_heartbeat, pass_deadline, retried, retry_scheduled, start, started, step_completed,
        submission, submitted, tell_step,
    },
};

/// A lawful journal of a task with three attempts that ends in an event of this type.
fn journal_to(event: &TaskEvent) -> Vec<TaskEvent> {
    let running = |end| vec![submitted(3), started(1), end];
    match event {
        TaskEvent::Submitted(_) => vec![submitted(3)],
        TaskEvent::Started(_) => vec![submitted(3), started(1)],
        TaskEvent::StepCompleted(_) => running(step_completed(1, 1)),
        TaskEvent::HeartbeatLost(_) => running(heartbeat_lost(1)),
        TaskEvent::RetryScheduled(_) => running(retry_scheduled(1)),
        TaskEvent::Completed(_) => running(completed(1)),
        TaskEvent::Failed(_) => running(failed(1)),
        TaskEvent::DeadLettered(_) => running(dead_lettered(1)),
        TaskEvent::Cancelled(_) => running(cancelled()),
        TaskEvent::Retried(_) => vec![submitted(3), started(1), failed(1), retried(3)],
    }
}

/// The command's name, which makes the compiler ask for a line here when a command is added.
fn name(command: &TaskCommand) -> &'static str {
    match command {
        TaskCommand::Submit(_) => "submit",
        TaskCommand::Start { .. } => "start",
        TaskCommand::CompleteStep { .. } => "complete step",
        TaskCommand::TellStep { .. } => "tell step",
        TaskCommand::Complete { .. } => "complete",
        TaskCommand::Fail { retry_at: Some(_), .. } => "fail",
        TaskCommand::Fail { retry_at: None, .. } => "fail for good",
        TaskCommand::LoseHeartbeat { .. } => "lose heartbeat",
        TaskCommand::PassDeadline { .. } => "pass deadline",
        TaskCommand::Cancel { .. } => "cancel",
        TaskCommand::Retry => "retry",
    }
}

fn commands() -> [TaskCommand; 11] {
    [
        TaskCommand::Submit(submission(3)),
        start(),
        complete_step(1, 1),
        tell_step(1),
        complete(1),
        fail(1),
        fail_for_good(1),
        lose_heartbeat(1),
        pass_deadline(),
        cancel(),
        TaskCommand::Retry,
    ]
}

fn outcome(result: Result<Vec<TaskEvent>, TaskError>) -> String {
    match result {
        Ok(events) if events.is_empty() => "nothing".into(),
        Ok(events) => events.iter().map(Recorded::event_type).collect::<Vec<_>>().join(", "),
        Err(error) => format!("{error:?}"),
    }
}

/// One block a command, one line an outcome: `outcome < the last events after which it comes`.
fn table() -> String {
    let mut journals: Vec<Vec<TaskEvent>> = vec![Vec::new()];
    journals.extend(samples::task().iter().map(journal_to));
    let mut page = String::new();
    for command in commands() {
        page.push_str(&format!("{}\n", name(&command)));
        let mut outcomes: Vec<(String, Vec<&str>)> = Vec::new();
        for journal in &journals {
            let last = journal.last().map_or("(no event)", Recorded::event_type);
            let outcome = outcome(given::<TaskEvent>(journal.clone()).when(command.clone()).result());
            match outcomes.iter_mut().find(|(seen, _)| *seen == outcome) {
                Some((_, after)) => after.push(last),
                None => outcomes.push((outcome, vec![last])),
            }
        }
        for (outcome, after) in outcomes {
            page.push_str(&format!("    {outcome} < {}\n", after.join(" ")));
        }
    }
    page
}

#[test]
fn every_command_after_every_event_has_its_outcome() {
    insta::assert_snapshot!(table(), @r#"
    submit
        submitted < (no event)
        AlreadySubmitted < submitted started step_completed heartbeat_lost retry_scheduled completed failed dead_lettered cancelled retried
    start
        Absent < (no event)
        started < submitted heartbeat_lost retry_scheduled retried
        NotReady < started step_completed completed failed dead_lettered cancelled
    complete step
        Absent < (no event)
        LateResult < submitted heartbeat_lost retry_scheduled completed failed dead_lettered cancelled retried
        step_completed < started
        nothing < step_completed
    tell step
        Absent < (no event)
        step_completed < submitted started heartbeat_lost retry_scheduled retried
        ToldTwice < step_completed
        Ended < completed failed dead_lettered cancelled
    complete
        Absent < (no event)
        LateResult < submitted heartbeat_lost retry_scheduled completed failed dead_lettered cancelled retried
        completed < started step_completed
    fail
        Absent < (no event)
        LateResult < submitted heartbeat_lost retry_scheduled completed failed dead_lettered cancelled retried
        retry_scheduled < started step_completed
    fail for good
        Absent < (no event)
        LateResult < submitted heartbeat_lost retry_scheduled completed failed dead_lettered cancelled retried
        failed < started step_completed
    lose heartbeat
        Absent < (no event)
        LateResult < submitted heartbeat_lost retry_scheduled completed failed dead_lettered cancelled retried
        heartbeat_lost < started step_completed
    pass deadline
        Absent < (no event)
        NotOverdue < submitted started step_completed heartbeat_lost retry_scheduled completed failed dead_lettered cancelled retried
    cancel
        Absent < (no event)
        cancelled < submitted started step_completed heartbeat_lost retry_scheduled retried
        Ended < completed failed dead_lettered cancelled
    retry
        Absent < (no event)
        NotRetryable < submitted started step_completed heartbeat_lost retry_scheduled completed cancelled retried
        retried < failed dead_lettered
    "#);
}

#[test]
fn a_refused_or_satisfied_command_leaves_the_state_alone() {
    use crate::given::{decided, state_after};
    use cqrs_es::{Aggregate, event_sink::EventSink};
    for journal in samples::task().iter().map(journal_to) {
        for command in commands() {
            let before = state_after(journal.clone());
            let (mut after, sink) = (before.clone(), EventSink::<Task>::default());
            let result = decided(after.handle(command, &(), &sink));
            let recorded = decided(sink.collect());
            assert_eq!(after == before, result.is_err() || recorded.is_empty());
        }
    }
}
