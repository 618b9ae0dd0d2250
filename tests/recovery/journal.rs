//! The whole log as an auditor reads it over the API, and what must hold of it whatever happened.
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

use super::{
    load::{Agents, Kind},
    support::Client,
};

const PAGE: usize = 1_000;

#[derive(Debug, Clone)]
pub struct Event {
    pub position: u64,
    pub sequence: u64,
    /// When it was recorded, in RFC 3339.
    pub time: String,
    /// `task/0190…`
    pub subject: String,
    /// `task.completed`
    pub kind: String,
    pub facts: Value,
    pub personal: Value,
}

impl Event {
    fn of(event: &Value) -> Self {
        let number = |name: &str| event[name].as_str().unwrap().parse().unwrap();
        let kind = event["type"].as_str().unwrap().strip_prefix("marvin.").unwrap();
        Self {
            position: number("position"),
            sequence: number("sequence"),
            time: event["time"].as_str().unwrap().to_owned(),
            subject: event["subject"].as_str().unwrap().to_owned(),
            kind: kind.rsplit_once(".v").unwrap().0.to_owned(),
            facts: event["data"]["facts"].clone(),
            personal: event["data"]["personal"].clone(),
        }
    }

    pub fn id(&self) -> &str {
        self.subject.split_once('/').unwrap().1
    }

    fn text(&self, fact: &str) -> &str {
        self.facts[fact].as_str().unwrap_or_default()
    }
}

/// Reads on behind `events`, until the end of the log.
pub async fn read_on(auditor: &Client, events: &mut Vec<Event>) {
    loop {
        let after = events.last().map_or(0, |event| event.position);
        let page = auditor.get(&format!("/api/v1/events?after={after}&limit={PAGE}")).await.expect(200).json();
        let page = page.as_array().unwrap();
        events.extend(page.iter().map(Event::of));
        if page.len() < PAGE {
            return;
        }
    }
}

/// One task's events, oldest first.
#[derive(Debug)]
pub struct Task<'a> {
    pub id: &'a str,
    pub agent: &'a str,
    pub requester: &'a str,
    pub parent: Option<&'a str>,
    pub marker: u64,
    pub events: Vec<&'a Event>,
}

const ENDS: [&str; 4] = ["task.completed", "task.failed", "task.cancelled", "task.dead_lettered"];

impl<'a> Task<'a> {
    fn begin(event: &'a Event) -> Self {
        let input = &event.personal["input"];
        let marker = if input["values"].is_array() { &input["values"][0] } else { &input["marker"] };
        let as_text = || marker.as_str().and_then(|text| text.parse().ok());
        Self {
            id: event.id(),
            agent: event.text("agent_id"),
            requester: event.text("requested_by"),
            parent: event.facts["parent"].as_str(),
            marker: marker.as_f64().map(|marker| marker as u64).or_else(as_text).unwrap(),
            events: Vec::new(),
        }
    }

    pub fn has_ended(&self) -> bool {
        self.events.last().is_some_and(|event| ENDS.contains(&event.kind.as_str()))
    }

    fn of_kind(&self, kind: &str) -> Vec<&'a Event> {
        self.events.iter().copied().filter(|event| event.kind == kind).collect()
    }
}

/// Every task of the log, by id.
pub fn tasks(events: &[Event]) -> BTreeMap<&str, Task<'_>> {
    let mut tasks = BTreeMap::new();
    for event in events.iter().filter(|event| event.subject.starts_with("task/")) {
        let task = tasks.entry(event.id()).or_insert_with(|| Task::begin(event));
        assert_eq!(event.kind == "task.submitted", task.events.is_empty(), "a task is submitted once, at first");
        task.events.push(event);
    }
    tasks
}

/// Positions are 1, 2, 3 … and so are the sequences of every stream.
pub fn check_contiguous(events: &[Event]) {
    let mut sequences: BTreeMap<&str, u64> = BTreeMap::new();
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event.position, index as u64 + 1);
        let sequence = sequences.entry(&event.subject).or_default();
        *sequence += 1;
        assert_eq!(event.sequence, *sequence, "{}", event.subject);
    }
}

/// It completed, once and at last; its attempts and its steps are counted without a gap and each is there once.
pub fn check_journal(task: &Task<'_>, steps: &[&str]) {
    let ends: Vec<_> = task.events.iter().filter(|event| ENDS.contains(&event.kind.as_str())).collect();
    assert_eq!(ends.len(), 1, "task {} ended {} times", task.id, ends.len());
    assert!(task.has_ended(), "task {} went on after its end", task.id);
    assert_eq!(ends[0].kind, "task.completed", "task {}", task.id);
    for (index, start) in task.of_kind("task.started").iter().enumerate() {
        assert_eq!(start.facts["attempt"], index + 1, "task {}", task.id);
    }
    let recorded = task.of_kind("task.step_completed");
    let kinds: Vec<&str> = recorded.iter().map(|step| step.text("kind")).collect();
    assert_eq!(kinds, steps, "task {}", task.id);
    for (index, step) in recorded.iter().enumerate() {
        assert_eq!(step.facts["step"], index + 1, "task {}", task.id);
    }
}

/// Who was told what about which task: recipient and title, by the task's id.
pub fn notifications(events: &[Event]) -> BTreeMap<&str, Vec<(&str, &str)>> {
    let mut told: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind == "notification.raised") {
        let task = event.facts["link"]["id"].as_str().unwrap();
        told.entry(task).or_default().push((event.text("recipient"), event.personal["title"].as_str().unwrap()));
    }
    told.values_mut().for_each(|told| told.sort_unstable());
    told
}

/// What each worker, which is one run of the program, had running when it vanished: tasks by the worker's id, oldest first.
pub fn lost_attempts(events: &[Event]) -> Vec<(&str, Vec<&str>)> {
    let mut runs: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut running: BTreeMap<&str, &str> = BTreeMap::new();
    for event in events {
        match event.kind.as_str() {
            "task.started" => {
                let worker = event.text("worker");
                if !runs.iter().any(|(known, _)| *known == worker) {
                    runs.push((worker, Vec::new()));
                }
                running.insert(event.id(), worker);
            }
            "task.heartbeat_lost" => {
                let worker = running.remove(event.id()).unwrap();
                runs.iter_mut().find(|(known, _)| *known == worker).unwrap().1.push(event.id());
            }
            _ => {}
        }
    }
    runs
}

/// No agent ran more tasks at once than it may. Answers, by agent, how many it ran at most.
///
/// The attempts of a run of the program end with it, although the log hears of that only when the next run looks.
pub fn check_concurrency(events: &[Event], agents: &Agents) -> BTreeMap<Kind, usize> {
    let mut agent_of: BTreeMap<&str, &str> = BTreeMap::new();
    let mut running: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let (mut worker, mut most) = ("", BTreeMap::new());
    for event in events.iter().filter(|event| event.subject.starts_with("task/")) {
        let task = event.id();
        match event.kind.as_str() {
            "task.submitted" => drop(agent_of.insert(task, event.text("agent_id"))),
            "task.started" => {
                if event.text("worker") != worker {
                    (worker, running) = (event.text("worker"), BTreeMap::new());
                }
                let agent = agent_of[task];
                let busy = running.entry(agent).or_default();
                busy.insert(task);
                assert!(busy.len() <= agents.limit(agent), "{busy:?} at position {}", event.position);
                let most = most.entry(agents.kind(agent)).or_default();
                *most = busy.len().max(*most);
            }
            "task.step_completed" => {}
            _ => drop(running.get_mut(agent_of[task]).map(|busy| busy.remove(task))),
        }
    }
    most
}
