//! Five thousand schedules that are due in the same second.
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use marvin::dispatch::CommandMeta;
use marvin_domain::{
    Actor, Directed, Name,
    agent::{AgentCommand, Limits},
    schedule::{Missed, Overlap, Policies, ScheduleCommand, Timing, When, Words},
};
use serde_json::json;
use std::{collections::HashMap, path::Path, time::Duration};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{
    app::Served,
    support::{Target, note, report_once},
};

const SCHEDULES: usize = 5_000;
const MADE_AT_ONCE: usize = 64;
/// Until all are made, on a slow machine.
const AHEAD: TimeDelta = TimeDelta::seconds(20);
/// Behind the last firing: one that came twice would have come by then.
const SETTLING: Duration = Duration::from_secs(3);
const PAGE: u32 = 10_000;

pub fn fire(runtime: &Runtime, directory: &Path) {
    let served = Served::start(runtime, directory, &[]);
    let moment = Utc::now() + AHEAD;
    let (made, last) = runtime.block_on(async {
        let made = make(&served, moment).await;
        assert!(Utc::now() < moment, "they were made in time");
        while fired(&served).await.0.len() < SCHEDULES {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        tokio::time::sleep(SETTLING).await;
        let (fired, submitted, last) = fired(&served).await;
        assert!(made.iter().all(|schedule| fired.get(schedule) == Some(&1)), "each has fired once");
        assert_eq!((fired.len(), submitted), (SCHEDULES, SCHEDULES), "and submitted one task");
        (made.len(), last)
    });
    let late_ms = (last - moment).num_milliseconds() as f64;
    note(&format!("{made} schedules were due at the same moment, each fired once, the last {late_ms} ms later"));
    report_once(&format!("{SCHEDULES} schedules due at once, ms until the last has fired"), Target::None, late_ms);
    served.stop(runtime);
}

/// Schedules that are all due at `moment`, of an agent that does nothing by itself.
async fn make(served: &Served, moment: DateTime<Utc>) -> Vec<Uuid> {
    let dispatcher = &served.app.api.dispatcher;
    let (owner, agent) = (served.person, Uuid::now_v7());
    let meta = || CommandMeta::new(Actor::User(owner));
    let create = AgentCommand::Create {
        name: Name::parse("Nobody").expect("a name"),
        description: String::new(),
        kind: "worker".into(),
        config: json!({}).into(),
        limits: Limits::default(),
    };
    dispatcher.dispatch(&meta(), &[Directed::new(agent, create)]).await.expect("a new agent");
    let made = stream::iter(0..SCHEDULES).map(|_| async {
        let id = Uuid::now_v7();
        let create = ScheduleCommand::Create {
            owner,
            agent_id: agent,
            timing: Timing { when: When::At(moment), timezone: "UTC".into() },
            policies: Policies { jitter_s: 0, overlap: Overlap::Skip, missed: Missed::One },
            words: Words { name: Name::parse("Once").expect("a name"), input: json!({ "amount": 1 }) },
            at: Utc::now(),
        };
        dispatcher.dispatch(&meta(), &[Directed::new(id, create)]).await.expect("a new schedule");
        id
    });
    made.buffer_unordered(MADE_AT_ONCE).collect().await
}

/// How often each schedule fired, how many tasks were submitted, and when the last firing was recorded.
async fn fired(served: &Served) -> (HashMap<Uuid, usize>, usize, DateTime<Utc>) {
    let (mut fired, mut submitted, mut after, mut last) = (HashMap::new(), 0, 0, DateTime::<Utc>::MIN_UTC);
    loop {
        let rows = served.app.api.log.read(after, PAGE).await.expect("it is readable");
        let Some(end) = rows.last() else { return (fired, submitted, last) };
        after = end.position;
        for row in rows {
            match (row.stream.kind.as_str(), row.event_type.as_str()) {
                ("schedule", "fired") => {
                    *fired.entry(row.stream.id).or_default() += 1;
                    last = last.max(row.recorded_at);
                }
                ("task", "submitted") => submitted += 1,
                _ => {}
            }
        }
    }
}
