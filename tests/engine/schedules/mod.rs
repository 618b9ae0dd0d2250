//! Schedules that fire, by a clock of the tests' own: each planned instant once, whatever becomes of the processes that fire.
use crate::stack::{Stack, meta};
use chrono::{DateTime, Duration, Utc};
use marvin::{
    agent::Kinds,
    cache::memory::MemoryCache,
    dispatch::Dispatcher,
    health::Health,
    log::EventLog,
    schedule::Firing,
    time::Clock,
    views::{ViewId, ViewStore, board::Board, documents::Documents, query::Views, sqlite::SqliteViews},
};
use marvin_domain::{
    Directed, Event, Name,
    schedule::{Missed, Outcome, Overlap, Policies, ScheduleCommand, ScheduleEvent, Timing, When, Words},
    task::{TaskCommand, TaskEvent},
    user::Role,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use uuid::Uuid;

mod clocks;
mod many;
mod nodes;
mod policies;

/// Noon of the tests' day, and so many seconds.
pub fn noon(seconds: i64) -> DateTime<Utc> {
    "2026-11-23T12:00:00Z".parse::<DateTime<Utc>>().unwrap() + Duration::seconds(seconds)
}

pub fn every_minute() -> Timing {
    Timing { when: When::Cron("* * * * *".into()), timezone: "UTC".into() }
}

/// A house with one agent and one owner, and the hands of a clock.
pub struct House {
    pub stack: Stack,
    pub owner: Uuid,
    pub agent: Uuid,
    time: Arc<Mutex<DateTime<Utc>>>,
    pub views: Views,
    pub view_store: Arc<dyn ViewStore>,
}

impl House {
    pub async fn build() -> Self {
        Self::over(Stack::new().await).await
    }

    async fn over(stack: Stack) -> Self {
        let owner = stack.user("a@example.com", &[Role::Operator]).await;
        let agent = stack.agent("scribe").await;
        let view_store: Arc<dyn ViewStore> =
            Arc::new(SqliteViews::open(&stack.directory.path().join("views.db")).unwrap());
        let views = marvin_projections::all().iter().map(|fold| ViewId::of(&**fold)).collect::<Vec<_>>();
        let board = Board::new(view_store.clone(), views, Health::default());
        let documents = Documents::new(stack.stores.sealer.clone());
        let views = Views::new(view_store.clone(), documents, board, Arc::new(MemoryCache::default()));
        Self { stack, owner, agent, time: Arc::new(Mutex::new(noon(0))), views, view_store }
    }

    pub fn set_clock(&self, time: DateTime<Utc>) {
        *self.time.lock().unwrap() = time;
    }

    fn clock(&self) -> Clock {
        let time = self.time.clone();
        Arc::new(move || *time.lock().unwrap())
    }

    /// A process that fires, with caches of its own.
    pub fn node(&self) -> Firing {
        self.node_on(self.stack.stores.log.clone())
    }

    pub fn node_on(&self, log: Arc<dyn EventLog>) -> Firing {
        let dispatcher = Dispatcher::new(log.clone(), self.stack.codec().clone());
        let kinds = Kinds::all(self.views.clone(), self.stack.outside());
        Firing {
            dispatcher,
            views: self.views.clone(),
            kinds,
            log,
            codec: self.stack.codec().clone(),
            clock: self.clock(),
        }
    }

    pub async fn schedule(&self, timing: Timing, overlap: Overlap, missed: Missed) -> Uuid {
        self.schedule_with(timing, Policies { jitter_s: 0, overlap, missed }).await
    }

    pub async fn schedule_with(&self, timing: Timing, policies: Policies) -> Uuid {
        let id = Uuid::now_v7();
        let words = Words { name: Name::parse("Count").unwrap(), input: json!({ "planted": "7f3a" }) };
        let (owner, agent_id, at) = (self.owner, self.agent, noon(0));
        self.stack.send(id, ScheduleCommand::Create { owner, agent_id, timing, policies, words, at }).await;
        id
    }

    pub async fn send(&self, id: Uuid, command: impl Into<marvin_domain::Command>) {
        // As from another node, so that what is cached here is a guess.
        let dispatcher = Dispatcher::new(self.stack.stores.log.clone(), self.stack.codec().clone());
        dispatcher.dispatch(&meta(), &[Directed::new(id, command)]).await.unwrap();
    }

    /// What the schedule's stream says of firings: the second of each planned instant, and what came of it.
    pub async fn fired(&self, id: Uuid) -> Vec<(i64, String)> {
        let events = self.stack.events().await.into_iter().filter(|event| event.stream.id == id);
        let fired = events.filter_map(|event| match event.event {
            Event::Schedule(ScheduleEvent::Fired(fired)) => {
                Some(((fired.planned_at - noon(0)).num_seconds(), fired.outcome.as_str().to_owned()))
            }
            Event::Schedule(ScheduleEvent::Released(released)) => {
                let outcome = format!("released: {}", released.outcome.as_str());
                Some(((released.planned_at - noon(0)).num_seconds(), outcome))
            }
            _ => None,
        });
        fired.collect()
    }

    /// The tasks that schedules began and those that were submitted: the same, each once.
    pub async fn tasks(&self) -> Vec<Uuid> {
        let (mut begun, mut submitted) = (BTreeMap::new(), BTreeMap::new());
        let mut order = Vec::new();
        for event in self.stack.events().await {
            let outcome = match &event.event {
                Event::Schedule(ScheduleEvent::Fired(fired)) => fired.outcome,
                Event::Schedule(ScheduleEvent::Released(released)) => released.outcome,
                Event::Task(TaskEvent::Submitted(task)) => {
                    assert_eq!((task.requested_by, task.agent_id), (self.owner, self.agent));
                    *submitted.entry(event.stream.id).or_insert(0) += 1;
                    continue;
                }
                _ => continue,
            };
            if let Outcome::Submitted { task_id } = outcome {
                *begun.entry(task_id).or_insert(0) += 1;
                order.push(task_id);
            }
        }
        assert_eq!(begun, submitted, "what was fired was submitted, and nothing else");
        assert!(begun.values().all(|count| *count == 1), "{begun:?}");
        order
    }

    pub async fn end_task(&self, id: Uuid, end: TaskCommand) {
        self.send(id, TaskCommand::Start { worker: Uuid::now_v7(), at: noon(0) }).await;
        self.send(id, end).await;
    }

    pub async fn complete(&self, id: Uuid) {
        self.end_task(id, TaskCommand::Complete { attempt: 1, output: json!({}) }).await;
    }
}

pub fn submitted(seconds: i64) -> (i64, String) {
    (seconds, "submitted".to_owned())
}
