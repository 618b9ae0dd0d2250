//! A schedule is made, changed, paused, resumed, fires each planned instant once, and is removed.
use chrono::{DateTime, Duration, Utc};
use marvin_domain::{
    Personal, Rooted,
    schedule::{
        FAILURES_MAX, Failing, GRACE, JITTER_S_MAX, MISSED_MAX, Missed, NewWords, Outcome, Overlap, Passed,
        PauseReason, Policies, QUEUED_MAX, RemoveReason, Schedule, ScheduleChanged, ScheduleCommand,
        ScheduleCommand::{Change, EndTask, Fire, Pause, Release, Remove, Resume, Trigger},
        ScheduleCreated, ScheduleError, ScheduleEvent, ScheduleFired, SchedulePaused, ScheduleReleased,
        ScheduleRemoved, ScheduleResumed, ScheduleState, ScheduleStatus, ScheduleTaskEnded, TaskEnd, Timing,
        TimingError, When, Words, due_at,
    },
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    given::{given, given_nothing, state_after},
    samples::{ADA, AGENT, BOB, TASK, WORKER, name},
};

/// Each minute, from the first on; a minute is counted from twelve o'clock.
fn minute(minute: i64) -> DateTime<Utc> {
    "2026-11-23T12:00:00Z".parse::<DateTime<Utc>>().unwrap() + Duration::minutes(minute)
}

fn every_minute() -> Timing {
    Timing { when: When::Cron("* * * * *".into()), timezone: "UTC".into() }
}

fn once(at: DateTime<Utc>) -> Timing {
    Timing { when: When::At(at), timezone: "UTC".into() }
}

fn policies(overlap: Overlap, missed: Missed) -> Policies {
    Policies { jitter_s: 0, overlap, missed }
}

fn words() -> Words {
    Words { name: name("Count the minutes"), input: json!({ "count": 1 }) }
}

fn create(timing: Timing, policies: Policies) -> ScheduleCommand {
    ScheduleCommand::Create { owner: ADA, agent_id: AGENT, timing, policies, words: words(), at: minute(0) }
}

fn created_with(timing: Timing, policies: Policies, next_at: DateTime<Utc>) -> ScheduleEvent {
    ScheduleCreated { owner: ADA, agent_id: AGENT, timing, policies, next_at, personal: Personal::Known(words()) }
        .into()
}

fn created(overlap: Overlap, missed: Missed) -> ScheduleEvent {
    created_with(every_minute(), policies(overlap, missed), minute(1))
}

fn submitted(task_id: Uuid) -> Outcome {
    Outcome::Submitted { task_id }
}

fn passed(reason: Passed) -> Outcome {
    Outcome::PassedOver { reason }
}

fn fired(planned: i64, outcome: Outcome) -> ScheduleEvent {
    fired_since(planned, outcome, None, planned + 1).into()
}

fn fired_since(planned: i64, outcome: Outcome, since: Option<i64>, next: i64) -> ScheduleFired {
    let (planned_at, missed_since) = (minute(planned), since.map(minute));
    ScheduleFired { planned_at, is_manual: false, outcome, missed_since, next_at: Some(minute(next)) }
}

fn fire(planned: i64, at: DateTime<Utc>, outcome: Outcome) -> ScheduleCommand {
    Fire { planned_at: minute(planned), at, outcome }
}

fn ended(task_id: Uuid, end: TaskEnd) -> ScheduleEvent {
    ScheduleTaskEnded { task_id, end }.into()
}

fn paused(reason: PauseReason, failure: Option<Failing>) -> ScheduleEvent {
    SchedulePaused { reason, owner: ADA, agent_id: AGENT, failure }.into()
}

fn change() -> ScheduleCommand {
    Change { agent_id: None, timing: None, policies: None, words: NewWords::default(), at: minute(0) }
}

fn schedule_after(events: impl IntoIterator<Item = ScheduleEvent>) -> Schedule {
    state_after(events).present().unwrap().clone()
}

const USUAL: Policies = Policies { jitter_s: 0, overlap: Overlap::Skip, missed: Missed::One };

#[test]
fn a_schedule_is_made_with_the_first_instant_that_its_timing_names() {
    given_nothing::<ScheduleState>().when(create(every_minute(), USUAL)).then([created_with(
        every_minute(),
        USUAL,
        minute(1),
    )]);
    let moment = minute(5) + Duration::microseconds(1_500);
    let exact = minute(5) + Duration::milliseconds(1);
    given_nothing::<ScheduleState>().when(create(once(moment), USUAL)).then([created_with(once(exact), USUAL, exact)]);
    given([created(Overlap::Skip, Missed::One)])
        .when(create(every_minute(), USUAL))
        .then_error(ScheduleError::AlreadyExists);
}

#[test]
fn what_never_fires_is_not_made() {
    let refused = |timing, error: TimingError| {
        given_nothing::<ScheduleState>().when(create(timing, USUAL)).then_error(error.into());
    };
    refused(once(minute(0)), TimingError::Moment);
    refused(Timing { when: When::Cron("0 0 30 2 *".into()), timezone: "UTC".into() }, TimingError::NeverFires);
    refused(Timing { timezone: "Nowhere".into(), ..every_minute() }, TimingError::Timezone);
    let spread = Policies { jitter_s: JITTER_S_MAX + 1, ..USUAL };
    given_nothing::<ScheduleState>().when(create(every_minute(), spread)).then_error(ScheduleError::Jitter);
}

#[test]
fn a_firing_records_its_instant_its_task_and_the_next_instant() {
    given([created(Overlap::Skip, Missed::One)])
        .when(fire(1, minute(1), submitted(TASK)))
        .then([fired(1, submitted(TASK))]);
}

#[test]
fn an_instant_fires_once_and_not_before_its_time() {
    let fire_at = |events: Vec<ScheduleEvent>, command| given(events).when(command).then_error(ScheduleError::NotDue);
    let made = || created(Overlap::Allow, Missed::One);
    fire_at(vec![made()], fire(1, minute(1) - Duration::milliseconds(1), submitted(TASK)));
    fire_at(vec![made()], fire(2, minute(1), submitted(TASK)));
    fire_at(vec![made(), fired(1, submitted(TASK))], fire(1, minute(1), submitted(WORKER)));
    // The clock was set back.
    fire_at(vec![made(), fired(1, submitted(TASK))], fire(1, minute(-60), submitted(WORKER)));
}

#[test]
fn after_the_clock_was_set_back_no_instant_is_planned_again() {
    let (pause, resume) = (|| paused(PauseReason::Requested, None), Resume { at: minute(-60) });
    given([created(Overlap::Allow, Missed::One), fired(1, submitted(TASK)), pause()])
        .when(resume)
        .then([ScheduleResumed { next_at: Some(minute(2)) }]);
}

#[test]
fn while_the_task_before_is_open_a_firing_is_held_up_as_the_schedule_says() {
    for (overlap, held_up) in [
        (Overlap::Skip, Some(passed(Passed::Overlap))),
        (Overlap::Queue, Some(Outcome::Queued)),
        (Overlap::Allow, None),
    ] {
        let history = || [created(overlap, Missed::One), fired(1, submitted(TASK))];
        assert_eq!(schedule_after(history()).held_up(), held_up);
        let outcome = held_up.unwrap_or(submitted(WORKER));
        given(history()).when(fire(2, minute(2), outcome)).then([fired(2, outcome)]);
        assert_eq!(schedule_after(history().into_iter().chain([ended(TASK, TaskEnd::Completed)])).held_up(), None);
        if held_up.is_some() {
            given(history()).when(fire(2, minute(2), submitted(WORKER))).then_error(ScheduleError::Overlap);
        }
    }
}

#[test]
fn what_waits_is_released_in_order_once_the_task_before_has_ended() {
    let mut history = vec![
        created(Overlap::Queue, Missed::One),
        fired(1, submitted(TASK)),
        fired(2, Outcome::Queued),
        fired(3, Outcome::Queued),
    ];
    let release = |planned: i64| Release { planned_at: minute(planned), outcome: submitted(WORKER) };
    given(history.clone()).when(release(2)).then_error(ScheduleError::NotDue);
    history.push(ended(TASK, TaskEnd::Cancelled));
    assert_eq!(schedule_after(history.clone()).released(), Some(minute(2)));
    given(history.clone()).when(release(3)).then_error(ScheduleError::NotDue);
    // What comes meanwhile waits behind it.
    given(history.clone()).when(fire(4, minute(4), submitted(BOB))).then_error(ScheduleError::Overlap);
    let released = ScheduleReleased { planned_at: minute(2), outcome: submitted(WORKER) };
    given(history.clone()).when(release(2)).then([released.clone()]);
    history.push(released.into());
    assert_eq!(schedule_after(history.clone()).released(), None);
    given(history).when(release(2)).then_error(ScheduleError::NotDue);
}

#[test]
fn as_many_wait_as_may_and_the_others_are_passed_over() {
    let waiting = (2..).take(QUEUED_MAX).map(|minute| fired(minute, Outcome::Queued));
    let history: Vec<_> =
        [created(Overlap::Queue, Missed::One), fired(1, submitted(TASK))].into_iter().chain(waiting).collect();
    assert_eq!(schedule_after(history.clone()).held_up(), Some(passed(Passed::QueueFull)));
    let next = QUEUED_MAX as i64 + 2;
    given(history).when(fire(next, minute(next), Outcome::Queued)).then_error(ScheduleError::Overlap);
}

#[test]
fn a_delay_of_a_restart_is_no_miss() {
    for missed in [Missed::Skip, Missed::One, Missed::All] {
        let due = schedule_after([created(Overlap::Skip, missed)]).due(minute(1) + GRACE).unwrap();
        assert_eq!((due.planned_at, due.is_missed), (minute(1), false));
    }
}

#[test]
fn what_was_missed_is_skipped_made_up_for_once_or_each_as_the_schedule_says() {
    let late = minute(10) + Duration::seconds(10);
    let history = |missed| [created(Overlap::Allow, missed)];
    given(history(Missed::Skip)).when(fire(9, late, passed(Passed::Missed))).then([fired_since(
        9,
        passed(Passed::Missed),
        Some(1),
        10,
    )]);
    given(history(Missed::Skip)).when(fire(9, late, submitted(TASK))).then_error(ScheduleError::NotDue);
    given(history(Missed::One)).when(fire(10, late, submitted(TASK))).then([fired_since(
        10,
        submitted(TASK),
        Some(1),
        11,
    )]);
    given(history(Missed::All)).when(fire(1, late, submitted(TASK))).then([fired(1, submitted(TASK))]);
    given(history(Missed::All)).when(fire(1, late, passed(Passed::Missed))).then_error(ScheduleError::NotDue);
}

#[test]
fn of_very_many_missed_instants_the_latest_are_made_up_for() {
    let due = schedule_after([created(Overlap::Allow, Missed::All)]).due(minute(10_000)).unwrap();
    assert_eq!(due.planned_at, minute(10_001 - MISSED_MAX as i64));
    given([created(Overlap::Allow, Missed::All)])
        .when(Fire { planned_at: due.planned_at, at: minute(10_000), outcome: submitted(TASK) })
        .then([fired_since(10_001 - MISSED_MAX as i64, submitted(TASK), Some(1), 10_002 - MISSED_MAX as i64)]);
}

#[test]
fn a_moment_that_was_missed_follows_the_same_policies() {
    let at = |missed| created_with(once(minute(5)), policies(Overlap::Skip, missed), minute(5));
    let event =
        |outcome| ScheduleFired { planned_at: minute(5), is_manual: false, outcome, missed_since: None, next_at: None };
    for (missed, outcome) in
        [(Missed::Skip, passed(Passed::Missed)), (Missed::One, submitted(TASK)), (Missed::All, submitted(TASK))]
    {
        given([at(missed)]).when(fire(5, minute(60), outcome)).then([event(outcome)]);
        assert_eq!(schedule_after([at(missed), event(outcome).into()]).status, ScheduleStatus::Ended);
    }
}

#[test]
fn the_spread_is_the_same_on_every_node_within_its_bound_and_waited_for_before_anything_is_missed() {
    assert_eq!(due_at(ADA, minute(1), 0), minute(1));
    let spread: Vec<_> = (0..200).map(|planned| due_at(ADA, minute(planned), 60) - minute(planned)).collect();
    assert!(spread.iter().all(|spread| (0..=60_000).contains(&spread.num_milliseconds())));
    assert!(
        spread.iter().any(|spread| *spread < Duration::seconds(5)) && spread.iter().any(|s| *s > Duration::seconds(55))
    );
    assert_ne!(due_at(ADA, minute(1), 60), due_at(BOB, minute(1), 60));
    let jittered = Policies { jitter_s: 600, overlap: Overlap::Allow, missed: Missed::Skip };
    let schedule = schedule_after([created_with(every_minute(), jittered, minute(1))]);
    let due = schedule.due(minute(11) + GRACE).unwrap();
    assert_eq!((due.planned_at, due.is_missed), (minute(1), false));
}

#[test]
fn firings_that_fail_in_a_row_pause_the_schedule() {
    let failing = |count: u32| {
        let round = |n: u32| {
            let task = Uuid::from_u128(n.into());
            [fired(i64::from(n), submitted(task)), ended(task, TaskEnd::Failed)]
        };
        std::iter::once(created(Overlap::Skip, Missed::One)).chain((1..=count).flat_map(round)).collect::<Vec<_>>()
    };
    let last = i64::from(FAILURES_MAX);
    let history: Vec<_> = failing(FAILURES_MAX - 1).into_iter().chain([fired(last, submitted(TASK))]).collect();
    given(history.clone())
        .when(EndTask { task_id: TASK, end: TaskEnd::Failed })
        .then([ended(TASK, TaskEnd::Failed), paused(PauseReason::RepeatedFailure, Some(Failing::TaskFailed))]);
    given(history.clone())
        .when(EndTask { task_id: TASK, end: TaskEnd::Completed })
        .then([ended(TASK, TaskEnd::Completed)]);
    given(history).when(EndTask { task_id: TASK, end: TaskEnd::Cancelled }).then([ended(TASK, TaskEnd::Cancelled)]);
    // What could not be submitted counts as well.
    given(failing(FAILURES_MAX - 1)).when(fire(last, minute(last), passed(Passed::AgentRetired))).then([
        fired(last, passed(Passed::AgentRetired)),
        paused(PauseReason::RepeatedFailure, Some(Failing::AgentRetired)),
    ]);
    // What the schedule asks for is no failure.
    given(failing(FAILURES_MAX - 1))
        .when(fire(last, minute(last), passed(Passed::Overlap)))
        .then([fired(last, passed(Passed::Overlap))]);
}

#[test]
fn a_success_or_a_resumption_forgets_the_failures() {
    let failures = |end| {
        let history = [created(Overlap::Skip, Missed::One), fired(1, submitted(TASK)), ended(TASK, TaskEnd::Failed)];
        schedule_after(history.into_iter().chain([fired(2, submitted(BOB)), ended(BOB, end)])).failures
    };
    assert_eq!([TaskEnd::Completed, TaskEnd::Failed, TaskEnd::Cancelled].map(failures), [0, 2, 1]);
    let (pause, resumed) = (paused(PauseReason::Requested, None), ScheduleResumed { next_at: Some(minute(9)) });
    let history = [created(Overlap::Skip, Missed::One), fired(1, passed(Passed::AgentAbsent)), pause, resumed.into()];
    assert_eq!(schedule_after(history).failures, 0);
}

#[test]
fn a_paused_schedule_plans_nothing_and_gives_up_what_waited() {
    let history = [created(Overlap::Queue, Missed::All), fired(1, submitted(TASK)), fired(2, Outcome::Queued)];
    given(history.clone()).when(Pause).then([paused(PauseReason::Requested, None)]);
    let schedule = schedule_after(history.into_iter().chain([paused(PauseReason::Requested, None)]));
    assert_eq!((schedule.due(minute(99)), schedule.next_at, schedule.queue.len()), (None, None, 0));
    given([created(Overlap::Skip, Missed::All), paused(PauseReason::Requested, None)]).when(Pause).then_nothing();
}

#[test]
fn a_resumed_schedule_fires_from_then_on() {
    let history = || [created(Overlap::Skip, Missed::All), paused(PauseReason::Requested, None)];
    given(history()).when(Resume { at: minute(90) }).then([ScheduleResumed { next_at: Some(minute(91)) }]);
    given([created(Overlap::Skip, Missed::All)]).when(Resume { at: minute(90) }).then_nothing();
    let moment = created_with(once(minute(5)), USUAL, minute(5));
    given([moment.clone(), paused(PauseReason::Requested, None)])
        .when(Resume { at: minute(90) })
        .then([ScheduleResumed { next_at: None }]);
    let resumed = ScheduleResumed { next_at: None }.into();
    let schedule = schedule_after([moment, paused(PauseReason::Requested, None), resumed]);
    assert_eq!(schedule.status, ScheduleStatus::Ended);
}

#[test]
fn a_trigger_fires_now_and_leaves_the_plan_as_it_is() {
    let manual = |at, next_at| ScheduleFired {
        planned_at: at,
        is_manual: true,
        outcome: submitted(BOB),
        missed_since: None,
        next_at,
    };
    let trigger = || Trigger { task_id: BOB, at: minute(30) };
    let busy = || [created(Overlap::Skip, Missed::One), fired(1, submitted(TASK))];
    given(busy()).when(trigger()).then([manual(minute(30), Some(minute(2)))]);
    given([created(Overlap::Skip, Missed::One), paused(PauseReason::Requested, None)])
        .when(trigger())
        .then([manual(minute(30), None)]);
    let after = schedule_after(busy().into_iter().chain([manual(minute(30), Some(minute(2))).into()]));
    assert_eq!(after.due(minute(2)).map(|due| due.planned_at), Some(minute(2)));
}

#[test]
fn a_change_records_what_differs_and_plans_anew_only_where_the_timing_does() {
    let history = || [created(Overlap::Skip, Missed::One), fired(1, submitted(TASK))];
    let unchanged = |next_at| ScheduleChanged {
        agent_id: None,
        timing: None,
        policies: None,
        has_input: false,
        next_at,
        personal: Personal::Known(NewWords::default()),
    };
    given(history()).when(change()).then_nothing();
    let same = Change {
        agent_id: Some(AGENT),
        timing: Some(every_minute()),
        policies: Some(USUAL),
        words: NewWords::default(),
        at: minute(5),
    };
    given(history()).when(same).then_nothing();
    let hourly = Timing { when: When::Cron("0 * * * *".into()), ..every_minute() };
    let retime = |at| Change {
        agent_id: Some(BOB),
        timing: Some(hourly.clone()),
        policies: None,
        words: NewWords::default(),
        at,
    };
    let retimed = |next_at| ScheduleChanged { agent_id: Some(BOB), timing: Some(hourly.clone()), ..unchanged(next_at) };
    given(history()).when(retime(minute(5))).then([retimed(Some(minute(60)))]);
    // As long as it is paused nothing is planned.
    given(history().into_iter().chain([paused(PauseReason::Requested, None)]))
        .when(retime(minute(5)))
        .then([retimed(None)]);
    let words = NewWords { name: None, input: Some(json!(null)) };
    let rewrite = Change { agent_id: None, timing: None, policies: None, words: words.clone(), at: minute(5) };
    let rewritten = ScheduleChanged { has_input: true, personal: Personal::Known(words), ..unchanged(Some(minute(2))) };
    given(history()).when(rewrite).then([rewritten.clone()]);
    assert_eq!(schedule_after(history()).input_at, 1);
    assert_eq!(schedule_after(history().into_iter().chain([rewritten.into(), fired(2, submitted(BOB))])).input_at, 3);
}

#[test]
fn an_ended_schedule_begins_again_with_a_new_timing() {
    let over = ScheduleFired { next_at: None, ..fired_since(5, submitted(TASK), None, 0) };
    let history = || [created_with(once(minute(5)), USUAL, minute(5)), over.clone().into()];
    assert_eq!(schedule_after(history()).status, ScheduleStatus::Ended);
    let again = Change {
        agent_id: None,
        timing: Some(every_minute()),
        policies: None,
        words: NewWords::default(),
        at: minute(9),
    };
    let events = given(history()).when(again).result().unwrap();
    let schedule = schedule_after(history().into_iter().chain(events));
    assert_eq!((schedule.status, schedule.next_at), (ScheduleStatus::Active, Some(minute(10))));
}

#[test]
fn a_removed_schedule_is_gone_for_every_command_but_its_removal() {
    let removed = || ScheduleRemoved { reason: RemoveReason::Requested };
    given([created(Overlap::Skip, Missed::One)]).when(Remove { reason: RemoveReason::Requested }).then([removed()]);
    let history = || [created(Overlap::Skip, Missed::One), removed().into()];
    given(history()).when(Remove { reason: RemoveReason::OwnerErased }).then_nothing();
    let trigger = Trigger { task_id: TASK, at: minute(1) };
    let commands = [change(), Pause, Resume { at: minute(1) }, fire(1, minute(1), submitted(TASK)), trigger];
    for command in commands {
        given(history()).when(command.clone()).then_error(ScheduleError::Absent);
        given_nothing::<ScheduleState>().when(command).then_error(ScheduleError::Absent);
    }
    assert_eq!(state_after(history()).present(), None);
}

#[test]
fn the_end_of_a_task_that_is_not_the_schedules_is_of_no_concern() {
    let history = [created(Overlap::Skip, Missed::One), fired(1, submitted(TASK)), ended(TASK, TaskEnd::Completed)];
    given(history.clone()).when(EndTask { task_id: TASK, end: TaskEnd::Failed }).then_nothing();
    given(history).when(EndTask { task_id: BOB, end: TaskEnd::Failed }).then_nothing();
}

#[test]
fn the_next_runs_are_the_planned_instants_from_the_next_one_on() {
    let schedule = schedule_after([created(Overlap::Skip, Missed::One)]);
    assert_eq!(schedule.next_runs(3), [1, 2, 3].map(minute));
    let moment = schedule_after([created_with(once(minute(5)), USUAL, minute(5))]);
    assert_eq!(moment.next_runs(3), [minute(5)]);
}

#[test]
fn a_schedule_belongs_to_its_owner_also_once_it_is_removed() {
    let removed = ScheduleRemoved { reason: RemoveReason::Requested }.into();
    assert_eq!(state_after([created(Overlap::Skip, Missed::One), removed]).subject(TASK), Some(ADA));
    assert_eq!(ScheduleState::default().subject(TASK), None);
}
