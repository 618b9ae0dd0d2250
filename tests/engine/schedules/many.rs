//! Very many schedules that are due at once, found by the view; and what is heard of the ends of their tasks.
use super::*;
use futures_util::{StreamExt, stream};
use marvin::{
    log::subscription::Follower,
    schedule::{Ends, Scheduler},
};
use marvin_domain::schedule::TaskEnd;

const SCHEDULES: usize = 5_000;
/// Schedules that are made at once.
const MADE_AT_ONCE: usize = 64;

impl House {
    /// Keeps the view of schedules up, as the server would.
    pub async fn keep_view(&self) {
        let fold = marvin_projections::all().into_iter().find(|fold| fold.name() == "schedules").unwrap();
        let mut projector = self.stack.projector(fold, self.view_store.clone()).await;
        let (log, codec) = (self.stack.stores.log.clone(), self.stack.codec().clone());
        let mut after = 0;
        tokio::spawn(async move {
            let mut head = log.head();
            loop {
                head.borrow_and_update();
                let events = codec.open(log.read(after, 500).await.unwrap()).await.unwrap();
                match events.last() {
                    Some(last) => {
                        after = last.position;
                        projector.take(&events.into_iter().map(Arc::new).collect::<Vec<_>>()).await.unwrap();
                    }
                    None => head.changed().await.unwrap(),
                }
            }
        });
    }

    /// Waits until the view has all that is in the log.
    pub async fn caught_up(&self) {
        let head = *self.stack.stores.log.head().borrow();
        self.views.wait::<marvin_projections::schedules::Schedules>(head).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_schedules_due_in_one_second_fire_once_each() {
    let house = House::build().await;
    house.keep_view().await;
    let moment = Timing { when: When::At(noon(60)), timezone: "UTC".into() };
    let made: Vec<_> = (0..SCHEDULES).map(|_| house.schedule(moment.clone(), Overlap::Skip, Missed::One)).collect();
    let made: Vec<Uuid> = stream::iter(made).buffer_unordered(MADE_AT_ONCE).collect().await;
    let early =
        house.schedule(Timing { when: When::At(noon(61)), timezone: "UTC".into() }, Overlap::Skip, Missed::One).await;
    house.set_clock(noon(60));
    // Two processes that both believe to have the duty.
    let schedulers = [Scheduler { firing: house.node() }, Scheduler { firing: house.node() }];
    house.caught_up().await;
    loop {
        let (first, second) = tokio::join!(schedulers[0].fire_all(), schedulers[1].fire_all());
        first.unwrap();
        second.unwrap();
        house.caught_up().await;
        let open = house.count_fired().await;
        if open == SCHEDULES {
            break;
        }
    }
    let (fired, submitted) = house.firings().await;
    assert_eq!(fired.len(), SCHEDULES);
    assert!(made.iter().all(|id| fired.get(id) == Some(&1)) && !fired.contains_key(&early));
    assert_eq!(submitted, SCHEDULES);
}

impl House {
    async fn count_fired(&self) -> usize {
        self.firings().await.0.len()
    }

    /// How often each schedule fired, and how many tasks were submitted.
    async fn firings(&self) -> (BTreeMap<Uuid, usize>, usize) {
        let (mut fired, mut submitted, mut after) = (BTreeMap::new(), 0, 0);
        loop {
            let rows = self.stack.stores.log.read(after, 10_000).await.unwrap();
            let Some(last) = rows.last() else { return (fired, submitted) };
            after = last.position;
            for row in rows {
                match (row.stream.kind.as_str(), row.event_type.as_str()) {
                    ("schedule", "fired") => *fired.entry(row.stream.id).or_default() += 1,
                    ("task", "submitted") => submitted += 1,
                    _ => {}
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_task_releases_what_waits_also_when_it_came_before_the_start() {
    let house = House::build().await;
    house.keep_view().await;
    let (node, id) = (house.node(), house.schedule(every_minute(), Overlap::Queue, Missed::One).await);
    for second in [60, 120, 180] {
        house.set_clock(noon(second));
        node.advance(id).await;
    }
    let first = house.tasks().await[0];
    house.complete(first).await;
    house.caught_up().await;
    // A process that starts now was not there when the task ended.
    let mut ends = Ends::new(house.node());
    let position = ends.resume().await.unwrap();
    let tasks = house.tasks().await;
    assert_eq!(tasks.len(), 2, "the second is released");
    house.complete(tasks[1]).await;
    let events: Vec<_> =
        house.stack.events().await.into_iter().filter(|event| event.position > position).map(Arc::new).collect();
    ends.take(&events).await.unwrap();
    assert_eq!(house.tasks().await.len(), 3);
    // The same batch again, as behind a crash.
    ends.take(&events).await.unwrap();
    assert_eq!(house.tasks().await.len(), 3);
    let ended: Vec<_> = house
        .stack
        .events()
        .await
        .into_iter()
        .filter_map(|event| match event.event {
            Event::Schedule(ScheduleEvent::TaskEnded(ended)) => Some((ended.task_id, ended.end)),
            _ => None,
        })
        .collect();
    assert_eq!(ended, [(first, TaskEnd::Completed), (tasks[1], TaskEnd::Completed)]);
}
