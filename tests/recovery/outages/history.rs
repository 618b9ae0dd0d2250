//! What must hold of the log and of what the world outside saw, whatever was killed between them.
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Something that was done outside, as the store there has it.
#[derive(Debug, Clone)]
pub struct Done {
    /// The id of the step that it was done for.
    pub step: Uuid,
    /// Who asked for it. None for what somebody outside told unasked.
    pub asked: Option<Asked>,
    /// None when whoever asked hung up before.
    pub answer: Option<Value>,
}

#[derive(Debug, Clone)]
pub struct Asked {
    pub agent: Uuid,
    pub attempt: u32,
    /// Microseconds since 1970, when all of the call had come.
    pub begun_us: i64,
    /// When its answer was given, or nobody waited for it any more.
    pub ended_us: i64,
}

/// A task as the log has it.
#[derive(Debug, Clone)]
pub struct Task {
    pub id: Uuid,
    /// The type of its last event.
    pub last: String,
    pub steps: Vec<Recorded>,
}

/// A step whose result is in the log.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub step: Uuid,
    pub attempt: u32,
    /// The whole millisecond in which it was appended.
    pub at_ms: i64,
    pub result: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    Unfinished(Uuid),
    /// The result of a step is in the log twice.
    RecordedTwice(Uuid),
    /// A step ran after its result had been recorded, or twice in one attempt.
    RanAgain(Uuid),
    /// The log has a result that nobody outside gave.
    Missing(Uuid),
    /// Something was done outside for a step that the log does not have.
    Stray(Uuid),
    Overrun {
        agent: Uuid,
        at_us: i64,
        running: usize,
    },
}

#[derive(Debug, Default)]
pub struct History {
    pub tasks: Vec<Task>,
    pub done: Vec<Done>,
    /// How many tasks each agent may run at once.
    pub limits: BTreeMap<Uuid, usize>,
}

impl History {
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = Vec::new();
        let unfinished = self.tasks.iter().filter(|task| task.last != "task.completed");
        faults.extend(unfinished.map(|task| Fault::Unfinished(task.id)));
        let mut done: BTreeMap<Uuid, Vec<&Done>> = BTreeMap::new();
        self.done.iter().for_each(|one| done.entry(one.step).or_default().push(one));
        let mut known = BTreeSet::new();
        for step in self.tasks.iter().flat_map(|task| &task.steps) {
            if !known.insert(step.step) {
                faults.push(Fault::RecordedTwice(step.step));
            }
            faults.extend(step.faults(done.get(&step.step).map(Vec::as_slice).unwrap_or_default()));
        }
        faults.extend(done.keys().filter(|step| !known.contains(step)).map(|step| Fault::Stray(*step)));
        faults.extend(self.limits.iter().filter_map(|(agent, limit)| {
            let (running, at_us) = self.most_at_once(*agent);
            (running > *limit).then_some(Fault::Overrun { agent: *agent, at_us, running })
        }));
        faults
    }

    /// The most calls of an agent that were open at once, and since when. One that ends where another begins is not beside it.
    pub fn most_at_once(&self, agent: Uuid) -> (usize, i64) {
        let calls = self.done.iter().filter_map(|done| done.asked.as_ref()).filter(|asked| asked.agent == agent);
        let mut changes: Vec<(i64, bool)> =
            calls.flat_map(|asked| [(asked.begun_us, true), (asked.ended_us, false)]).collect();
        changes.sort_unstable();
        let (mut running, mut most) = (0, (0, 0));
        for (at_us, begins) in changes {
            running = if begins { running + 1 } else { running - 1 };
            if running > most.0 {
                most = (running, at_us);
            }
        }
        most
    }
}

impl Recorded {
    fn faults(&self, done: &[&Done]) -> Vec<Fault> {
        let mut faults = Vec::new();
        if !done.iter().any(|done| done.answer.as_ref() == Some(&self.result)) {
            faults.push(Fault::Missing(self.step));
        }
        let asked: Vec<&Asked> = done.iter().filter_map(|done| done.asked.as_ref()).collect();
        // By count: an attempt behind the one that recorded the step finds it in the journal. By the clock, which the database and
        // the store outside share: nor does one before it run on.
        let is_late = |asked: &Asked| asked.attempt > self.attempt || asked.begun_us >= (self.at_ms + 1) * 1_000;
        let attempts: BTreeSet<u32> = asked.iter().map(|asked| asked.attempt).collect();
        if asked.iter().any(|asked| is_late(asked)) || attempts.len() < asked.len() {
            faults.push(Fault::RanAgain(self.step));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    const AGENT: Uuid = Uuid::from_u128(1);
    const TASK: Uuid = Uuid::from_u128(2);
    const STEP: Uuid = Uuid::from_u128(3);

    fn call(step: Uuid, attempt: u32, (begun_us, ended_us): (i64, i64), answer: Option<Value>) -> Done {
        Done { step, asked: Some(Asked { agent: AGENT, attempt, begun_us, ended_us }), answer }
    }

    /// A task whose first call was cut off by a kill, and whose second one was recorded.
    fn sound() -> History {
        let recorded = Recorded { step: STEP, attempt: 2, at_ms: 9, result: json!("second") };
        History {
            tasks: vec![Task { id: TASK, last: "task.completed".into(), steps: vec![recorded] }],
            done: vec![call(STEP, 1, (1_000, 2_000), None), call(STEP, 2, (5_000, 8_000), Some(json!("second")))],
            limits: [(AGENT, 1)].into(),
        }
    }

    #[test]
    fn a_call_may_be_repeated_until_its_result_is_recorded() {
        assert_eq!(sound().faults(), []);
        let mut history = sound();
        history.done[0].answer = Some(json!("answered, and never recorded"));
        assert_eq!(history.faults(), []);
        history.done.push(Done { asked: None, ..history.done[1].clone() });
        assert_eq!(history.faults(), [], "what is told unasked is nobody's run");
    }

    #[rstest]
    #[case::queued("task.submitted")]
    #[case::running("task.started")]
    #[case::between_step_and_end("task.step_completed")]
    #[case::forgotten("task.heartbeat_lost")]
    #[case::given_up("task.dead_lettered")]
    #[case::failed("task.failed")]
    fn a_task_that_is_not_completed_is_found(#[case] last: &str) {
        let mut history = sound();
        history.tasks[0].last = last.into();
        assert_eq!(history.faults(), [Fault::Unfinished(TASK)]);
    }

    #[rstest]
    #[case::a_later_attempt(3, 8_500)]
    #[case::the_same_attempt(2, 8_500)]
    #[case::an_attempt_that_was_given_up(1, 10_000)]
    #[case::another_attempt_behind_the_record(4, 10_000)]
    fn a_step_that_ran_again_is_found(#[case] attempt: u32, #[case] begun_us: i64) {
        let mut history = sound();
        if attempt == 1 {
            history.done.remove(0);
        }
        history.done.push(call(STEP, attempt, (begun_us, begun_us + 1), None));
        assert_eq!(history.faults(), [Fault::RanAgain(STEP)]);
    }

    #[test]
    fn a_step_that_is_recorded_twice_is_found() {
        let mut history = sound();
        let again = history.tasks[0].steps[0].clone();
        history.tasks[0].steps.push(again);
        assert_eq!(history.faults(), [Fault::RecordedTwice(STEP)]);
    }

    #[test]
    fn a_result_that_nobody_gave_is_found() {
        let mut other = sound();
        other.tasks[0].steps[0].result = json!("made up");
        let mut cut = sound();
        cut.done[1].answer = None;
        let mut none = sound();
        none.done.clear();
        for history in [other, cut, none] {
            assert_eq!(history.faults(), [Fault::Missing(STEP)]);
        }
    }

    #[test]
    fn what_was_done_for_no_step_of_the_log_is_found() {
        let mut history = sound();
        let step = Uuid::from_u128(4);
        history.done.push(call(step, 1, (20_000, 20_001), Some(json!(1))));
        assert_eq!(history.faults(), [Fault::Stray(step)]);
    }

    #[test]
    fn an_agent_that_ran_more_than_it_may_is_found() {
        let mut history = sound();
        history.done[0].asked.as_mut().unwrap().ended_us = 5_000;
        assert_eq!(history.faults(), [], "one ended as the other began");
        history.done[0].asked.as_mut().unwrap().ended_us = 5_001;
        assert_eq!(history.faults(), [Fault::Overrun { agent: AGENT, at_us: 5_000, running: 2 }]);
        history.limits = [(AGENT, 2)].into();
        assert_eq!(history.faults(), []);
        assert_eq!(history.most_at_once(AGENT), (2, 5_000));
    }
}
