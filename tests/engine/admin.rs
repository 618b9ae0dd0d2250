//! What administrators see of projections and do to them, on the registry and the log alone: nobody here keeps tables up.
use crate::stack::{Stack, meta};
use marvin::{
    dispatch::{CommandMeta, DispatchError},
    log::{checkpoint::Checkpoint, tail::Tail},
    views::{
        State, Stopped, Table, TableRow, ViewId, ViewStore,
        admin::{AdminError, Condition, Projections, Standing},
    },
};
use marvin_domain::{
    Event, Personal, Position,
    projection::{self, ProjectionEvent, Reason},
    user::Role,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;
use uuid::Uuid;

/// What a table is written under here.
const TOKEN: u64 = 1;

struct Office {
    stack: Stack,
    projections: Projections,
    poke: Arc<Notify>,
    administrator: Uuid,
}

impl Office {
    async fn open() -> Self {
        let stack = Stack::new().await;
        let administrator = stack.user("a@example.com", &[Role::Admin]).await;
        let (views, duties, poke) = (stack.stores.views.clone(), stack.stores.duties.clone(), Arc::new(Notify::new()));
        let tail = Tail::new(stack.stores.log.clone(), stack.codec().clone());
        let folds = marvin_projections::all();
        let projections = Projections::new(views, duties, stack.dispatcher.clone(), &folds, tail, poke.clone());
        Self { stack, projections, poke, administrator }
    }

    fn store(&self) -> &dyn ViewStore {
        &*self.stack.stores.views
    }

    /// A table of the tasks that is being filled.
    async fn building(&self, version: u32) -> Table {
        let table = self.store().begin(ViewId { version, ..tasks() }, 0).await.unwrap().table;
        self.store().take_over(&table, TOKEN).await.unwrap();
        table
    }

    async fn live(&self, version: u32) -> Table {
        let table = self.building(version).await;
        self.store().make_live(&table, TOKEN).await.unwrap();
        table
    }

    async fn reaches(&self, table: &Table, position: Position) {
        let checkpoint = Checkpoint { position, event_id: Uuid::nil() };
        self.store().store(table, Vec::new(), checkpoint, TOKEN).await.unwrap();
    }

    async fn stops(&self, table: &Table, position: Position) -> Stopped {
        let stopped = Stopped { position, reason: format!("there is no task at {position}") };
        self.store().stop(table, TOKEN, stopped.clone()).await.unwrap();
        stopped
    }

    async fn row(&self, table: &Table) -> TableRow {
        self.store().tables().await.unwrap().into_iter().find(|row| row.table == *table).unwrap()
    }

    async fn shown(&self) -> Standing {
        self.projections.one("tasks").await.unwrap()
    }

    async fn skip(&self, meta: &CommandMeta, position: Position) -> Result<marvin::log::Receipt, AdminError> {
        self.projections.skip(meta, self.administrator, "tasks", position, "It was written by hand".into()).await
    }

    /// What is recorded of events that the tasks pass over.
    async fn skips(&self) -> Vec<(Position, Uuid, Personal<Reason>)> {
        let skipped = |event: marvin_domain::Envelope| match event.event {
            Event::Projection(ProjectionEvent::Skipped(skipped)) => {
                assert_eq!((event.stream, skipped.version), (projection::stream("tasks", version()), version()));
                Some((skipped.position, skipped.administrator, skipped.personal))
            }
            _ => None,
        };
        self.stack.events().await.into_iter().filter_map(skipped).collect()
    }

    /// # Panics
    /// Unless `ask` wakes who keeps the tables up.
    async fn wakes<T>(&self, ask: impl Future<Output = T>) -> T {
        let woken = self.poke.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        let done = ask.await;
        tokio::time::timeout(Duration::ZERO, woken).await.expect("who keeps the tables up was woken");
        done
    }
}

fn tasks() -> ViewId {
    ViewId::of(&*marvin_projections::fold_of::<marvin_projections::tasks::Tasks>())
}

fn version() -> u32 {
    tasks().version
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, AdminError>) -> &'static str {
    match answer {
        Err(AdminError::Conflict(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

/// The tail of these tests has opened nothing since they began, as one that met an event of a newer program.
#[tokio::test]
async fn lag_and_target_are_counted_to_the_end_of_the_log_also_where_it_cannot_be_read() {
    let office = Office::open().await;
    let live = office.live(version()).await;
    let before = office.stack.events().await.len() as u64;
    office.reaches(&live, before).await;
    assert_eq!(office.shown().await.lag, 0);
    office.stack.user("b@example.com", &[Role::Member]).await;
    let head = office.stack.events().await.len() as u64;
    assert!(head > before);
    assert_eq!(office.shown().await.lag, head - before);
    assert_eq!(office.projections.rebuild("tasks").await.unwrap().rebuild.unwrap().target, head);
}

#[tokio::test]
async fn a_projection_stands_where_its_readers_find_it() {
    let office = Office::open().await;
    let head = office.stack.events().await.len() as u64;
    let nothing = office.shown().await;
    assert_eq!((nothing.state, nothing.position, nothing.lag), (Condition::Building, 0, head));
    assert_eq!((nothing.serving_version, nothing.build, nothing.rebuild), (None, None, None));

    let first = office.building(version()).await;
    office.reaches(&first, 1).await;
    let filled = office.shown().await;
    assert_eq!((filled.state, filled.position, filled.serving_version), (Condition::Building, 1, None));
    assert_eq!(filled.rebuild.map(|rebuild| (rebuild.build, rebuild.position, rebuild.target)), Some((1, 1, head)));

    office.store().make_live(&first, TOKEN).await.unwrap();
    let second = office.building(version()).await;
    let beside = office.shown().await;
    assert_eq!((beside.state, beside.position, beside.lag), (Condition::Live, 1, head - 1));
    assert_eq!((beside.build, beside.serving_version), (Some(1), Some(version())));
    assert_eq!(beside.rebuild.map(|rebuild| (rebuild.build, rebuild.position)), Some((2, 0)));

    office.reaches(&second, 1).await;
    office.store().make_live(&second, TOKEN).await.unwrap();
    let done = office.shown().await;
    assert_eq!((done.state, done.build, done.rebuild), (Condition::Live, Some(2), None));
}

#[tokio::test]
async fn an_older_version_serves_until_the_first_table_of_this_one_is_built() {
    let office = Office::open().await;
    let older = office.live(version() - 1).await;
    office.reaches(&older, 2).await;
    let newer = office.live(version() + 1).await;
    office.reaches(&newer, 3).await;
    let upgrading = office.shown().await;
    assert_eq!(upgrading.serving_version, Some(version() - 1), "what a newer program made is not for this one");
    assert_eq!((upgrading.state, upgrading.position, upgrading.build), (Condition::Building, 2, None));
    office.projections.rebuild("tasks").await.unwrap();
    let cancelled = office.projections.cancel("tasks").await.unwrap();
    assert_eq!((cancelled.rebuild, cancelled.serving_version), (None, Some(version() - 1)));
}

#[tokio::test]
async fn who_holds_the_duty_is_named() {
    let office = Office::open().await;
    let (holder, duties) = (Uuid::now_v7(), &office.stack.stores.duties);
    assert_eq!(office.shown().await.holder, None);
    let other = format!("projector:tasks:{}", version() - 1);
    duties.take(&other, Uuid::now_v7(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(office.shown().await.holder, None, "that is another version's");
    duties.take(&format!("projector:tasks:{}", version()), holder, Duration::from_secs(60)).await.unwrap();
    assert_eq!(office.shown().await.holder, Some(holder));
}

#[tokio::test]
async fn one_rebuild_runs_at_a_time_and_the_keepers_are_woken() {
    let office = Office::open().await;
    office.live(version()).await;
    let begun = office.wakes(office.projections.rebuild("tasks")).await.unwrap();
    assert_eq!(begun.rebuild.map(|rebuild| rebuild.build), Some(2));
    let again = office.wakes(office.projections.rebuild("tasks")).await.unwrap();
    assert_eq!(again.rebuild.map(|rebuild| rebuild.build), Some(2));
    assert_eq!(office.store().tables().await.unwrap().len(), 2);
    assert!(matches!(office.projections.rebuild("none").await, Err(AdminError::Unknown)));
}

#[tokio::test]
async fn a_rebuild_that_was_called_off_goes_on_from_where_it_was() {
    let office = Office::open().await;
    office.live(version()).await;
    let second = office.building(version()).await;
    office.reaches(&second, 1).await;
    office.stops(&second, 2).await;
    let cancelled = office.wakes(office.projections.cancel("tasks")).await.unwrap();
    assert_eq!((cancelled.rebuild, cancelled.state), (None, Condition::Live));
    assert_eq!(office.row(&second).await.state, State::Cancelled);
    assert_eq!(refused(office.projections.cancel("tasks").await), "nothing is being rebuilt");
    let again = office.projections.rebuild("tasks").await.unwrap().rebuild.unwrap();
    assert_eq!((again.build, again.position), (2, 1));
    assert_eq!(again.stopped, None, "whoever asks again means that it should try again");
}

#[tokio::test]
async fn a_rebuild_that_is_under_way_stays_stopped_where_it_is() {
    let office = Office::open().await;
    office.live(version()).await;
    let second = office.building(version()).await;
    let stopped = office.stops(&second, 2).await;
    let again = office.projections.rebuild("tasks").await.unwrap();
    assert_eq!(again.rebuild.unwrap().stopped, Some(stopped));
}

#[tokio::test]
async fn the_only_table_is_not_called_off() {
    let office = Office::open().await;
    let first = office.building(version()).await;
    let reason = refused(office.projections.cancel("tasks").await);
    assert_eq!(reason, "there is no other table that could answer: it is the first one");
    assert_eq!(office.row(&first).await.state, State::Building);
}

#[tokio::test]
async fn what_stopped_is_shown_and_resumes_all_at_once() {
    let office = Office::open().await;
    let live = office.live(version()).await;
    let building = office.building(version()).await;
    assert_eq!(refused(office.projections.resume("tasks").await), "the projection is not stopped");
    let later = office.stops(&building, 2).await;
    let shown = office.shown().await;
    assert_eq!((shown.state, shown.stopped), (Condition::Stopped, Some(later.clone())));
    let earlier = office.stops(&live, 1).await;
    let shown = office.shown().await;
    assert_eq!(shown.stopped, Some(earlier), "what readers read comes first");
    assert_eq!(shown.rebuild.unwrap().stopped, Some(later));
    let resumed = office.wakes(office.projections.resume("tasks")).await.unwrap();
    assert_eq!((resumed.state, resumed.stopped), (Condition::Live, None));
    assert_eq!(office.row(&building).await.stopped, None);
    assert_eq!(office.projections.one("users").await.unwrap().state, Condition::Building, "others are as they were");
}

#[tokio::test]
async fn only_the_event_at_which_it_is_stopped_is_passed_over_and_the_reason_is_recorded() {
    let office = Office::open().await;
    let live = office.live(version()).await;
    office.stops(&live, 2).await;
    for position in [0, 3] {
        let reason = refused(office.skip(&meta(), position).await);
        assert_eq!(reason, "the projection is not stopped at this position");
    }
    assert!(office.skips().await.is_empty());
    let receipt = office.wakes(office.skip(&meta(), 2)).await.unwrap();
    assert_eq!((receipt.stream, receipt.sequence), (projection::stream("tasks", version()), 1));
    let reason = Personal::Known(Reason { reason: "It was written by hand".into() });
    assert_eq!(office.skips().await, [(2, office.administrator, reason)]);
    assert_eq!(office.row(&live).await.stopped, None);
}

/// It was begun when nobody knew of the skip, and takes the place of what is stopped once it is done.
#[tokio::test]
async fn nothing_is_passed_over_while_a_rebuild_goes_on() {
    let office = Office::open().await;
    let live = office.live(version()).await;
    let building = office.building(version()).await;
    office.stops(&live, 2).await;
    let says = "a rebuild is under way that may well take this event: call it off first";
    for reached in [0, 2] {
        office.reaches(&building, reached).await;
        assert_eq!(refused(office.skip(&meta(), 2).await), says);
    }
    office.stops(&building, 3).await;
    assert_eq!(refused(office.skip(&meta(), 2).await), says, "it is stopped elsewhere");
    assert!(office.skips().await.is_empty());
    office.stops(&building, 2).await;
    office.skip(&meta(), 2).await.unwrap();
    assert_eq!((office.row(&live).await.stopped, office.row(&building).await.stopped), (None, None));
}

/// Its documents were folded with the event.
#[tokio::test]
async fn a_rebuild_goes_on_from_no_table_that_was_called_off_behind_what_was_passed_over() {
    let office = Office::open().await;
    let live = office.live(version()).await;
    for (reaches, stays) in [(1, true), (2, false)] {
        let called_off = office.building(version()).await;
        office.reaches(&called_off, reaches).await;
        office.projections.cancel("tasks").await.unwrap();
        office.stops(&live, 2).await;
        office.skip(&meta(), 2).await.unwrap();
        let again = office.building(version()).await;
        assert_eq!(again == called_off, stays, "reached {reaches}");
    }
}

/// As one that panicked: everything up to the position is in the table, and what stopped it is behind that.
#[tokio::test]
async fn an_event_that_is_in_the_table_is_not_passed_over() {
    let office = Office::open().await;
    let live = office.live(version()).await;
    office.reaches(&live, 2).await;
    let stopped = office.stops(&live, 2).await;
    let reason = refused(office.skip(&meta(), 2).await);
    assert_eq!(reason, "this event is in the table already: nobody knows which one stopped it");
    assert!(office.skips().await.is_empty());
    assert_eq!(office.row(&live).await.stopped, Some(stopped));
    office.projections.resume("tasks").await.unwrap();
    assert_eq!(office.row(&live).await.stopped, None);
}

#[tokio::test]
async fn a_table_that_nobody_keeps_up_is_no_reason_to_skip() {
    let office = Office::open().await;
    let older = office.live(version() - 1).await;
    office.stops(&older, 2).await;
    let retired = office.live(version()).await;
    office.stops(&retired, 3).await;
    office.live(version()).await;
    assert_eq!(office.row(&retired).await.state, State::Retired);
    for position in [2, 3] {
        refused(office.skip(&meta(), position).await);
    }
    assert_eq!(office.shown().await.state, Condition::Live);
}

#[tokio::test]
async fn a_skip_repeated_under_its_key_answers_its_first_result() {
    let office = Office::open().await;
    let live = office.live(version()).await;
    office.stops(&live, 2).await;
    let keyed = CommandMeta { digest: Some("one".into()), ..meta() };
    let first = office.skip(&keyed, 2).await.unwrap();
    let again = office.skip(&keyed, 2).await.unwrap();
    assert_eq!((again.position, again.sequence, again.repeated), (first.position, first.sequence, true));
    let another = CommandMeta { digest: Some("two".into()), ..keyed };
    assert!(matches!(office.skip(&another, 2).await, Err(AdminError::Dispatch(DispatchError::Reused))));
    assert_eq!(office.skips().await.len(), 1);
}

#[tokio::test]
async fn a_skip_that_a_crash_cut_short_is_finished_by_the_next_one() {
    let office = Office::open().await;
    let live = office.live(version()).await;
    office.stops(&live, 2).await;
    office.skip(&meta(), 2).await.unwrap();
    // As if the process had died between the log and the registry.
    office.stops(&live, 2).await;
    office.skip(&meta(), 2).await.unwrap();
    assert_eq!(office.row(&live).await.stopped, None);
    assert_eq!(office.skips().await.len(), 1, "and recorded once");
}

#[tokio::test]
async fn a_reason_that_the_log_refuses_leaves_the_projection_stopped() {
    let office = Office::open().await;
    let live = office.live(version()).await;
    let stopped = office.stops(&live, 2).await;
    let skip = office.projections.skip(&meta(), office.administrator, "tasks", 2, " ".into()).await;
    assert!(matches!(skip, Err(AdminError::Dispatch(DispatchError::Refused(_)))), "{skip:?}");
    assert_eq!(office.row(&live).await.stopped, Some(stopped));
}
