//! The comparison of what people read with a replay of the log finds every difference, and none that is not there.
use crate::{
    stack::{Stack, meta},
    weather::Weather,
};
use chrono::Utc;
use marvin::{
    log::{Append, StreamAppend, checkpoint::Checkpoint, tail::Tail},
    views::{
        ViewStore,
        documents::Documents,
        equality::{Comparer, Comparison, Difference, Findings, NAMED_MAX},
        replay::{Replay, ReplayError},
        skips::skips,
        sqlite::SqliteViews,
    },
};
use marvin_domain::{
    Actor, AggregateKind, Directed, Event, Metadata, Position, StreamId,
    projection::{ProjectionCommand, Reason},
    task::{CancelReason, TaskCommand, TaskHeartbeatLost},
    user::Role,
};
use marvin_projections::{Fold, RawDocument, Skips, agents::Agents, fold_of, tasks::Tasks};
use rstest::rstest;
use rusqlite::Connection;
use serde_json::json;
use std::sync::Arc;
use tempfile::TempDir;
use uuid::Uuid;

const CANCEL: TaskCommand = TaskCommand::Cancel { reason: CancelReason::Requested };
/// More than two pages of a comparison.
const TASKS: usize = 210;

/// Some tasks in a live table.
struct Scene {
    stack: Stack,
    ids: Vec<Uuid>,
    live: Replay,
}

impl Scene {
    async fn of(tasks: usize) -> Self {
        let stack = Stack::new().await;
        let user = stack.user("a@example.com", &[Role::Member]).await;
        let agent = stack.agent("scribe").await;
        let mut ids = Vec::new();
        for number in 0..tasks {
            ids.push(stack.task(agent, user, json!({ "number": number })).await);
        }
        let live = replay(&stack, Skips::default(), stack.stores.views.clone()).await;
        let mut scene = Self { stack, ids, live };
        scene.keep_up().await.unwrap();
        scene.stack.stores.views.make_live(scene.live.table(), 1).await.unwrap();
        scene
    }

    async fn keep_up(&mut self) -> Result<(), ReplayError> {
        keep_up(&self.stack, &mut self.live).await
    }

    async fn compare(&self) -> Comparison {
        self.compare_with(self.stack.stores.views.clone()).await
    }

    async fn compare_with(&self, live: Arc<dyn ViewStore>) -> Comparison {
        let (_directory, fresh) = empty_store();
        let [comparison] = <[_; 1]>::try_from(self.compare_folds(vec![tasks()], live, fresh).await).unwrap();
        comparison
    }

    async fn compare_folds(
        &self,
        folds: Vec<Arc<dyn Fold>>,
        live: Arc<dyn ViewStore>,
        fresh: Arc<dyn ViewStore>,
    ) -> Vec<Comparison> {
        let (log, codec, documents) =
            (self.stack.stores.log.clone(), self.stack.codec().clone(), documents(&self.stack));
        let dispatcher = self.stack.dispatcher.clone();
        Comparer { log, codec, documents, dispatcher, live, fresh }.compare(folds).await.unwrap()
    }

    async fn skips(&self) -> Skips {
        let Stack { stores, dispatcher, .. } = &self.stack;
        skips(&*tasks(), dispatcher, &Tail::new(stores.log.clone(), stores.codec.clone())).await.unwrap()
    }

    /// Changes the live table by hand.
    fn alter(&self, sql: &str, id: Uuid) {
        let path = self.stack.directory.path().join("data/views.db");
        let sql = sql.replace("TABLE", &self.live.table().to_string());
        assert_eq!(Connection::open(path).unwrap().execute(&sql, [id.as_bytes()]).unwrap(), 1, "{sql}");
    }

    async fn skip(&self, position: Position) {
        self.stack.dispatcher.dispatch(&meta(), &[self.skipping(position).await]).await.unwrap();
    }

    /// The command of an administrator who takes the event out of the tasks.
    async fn skipping(&self, position: Position) -> Directed {
        let administrator = self.stack.user(&format!("{}@example.com", Uuid::now_v7()), &[Role::Admin]).await;
        let (name, version, reason) = ("tasks".into(), tasks().version(), Reason { reason: "No".into() });
        let skip = ProjectionCommand::Skip { name, version, position, administrator, reason };
        Directed::new(skip.clone().directed().stream.id, skip)
    }

    /// A task that nobody submitted loses its worker, which no command would say. Answers the position.
    async fn poison(&self) -> Position {
        let (stream, correlation) = (StreamId { kind: AggregateKind::Task, id: Uuid::now_v7() }, Uuid::now_v7());
        let metadata = Metadata { actor: Actor::System, subject: None, correlation, causation: None, digest: None };
        let lost = Event::Task(TaskHeartbeatLost { attempt: 1 }.into());
        let events = vec![self.stack.codec().seal(stream, 1, &lost, &metadata).await.unwrap()];
        let streams = vec![StreamAppend { stream, expected: 0, events }];
        let append = Append { command_id: Uuid::now_v7(), digest: None, streams };
        self.stack.stores.log.append(append).await.unwrap().position
    }
}

fn empty_store() -> (TempDir, Arc<dyn ViewStore>) {
    let directory = tempfile::tempdir().unwrap();
    let views = SqliteViews::open(&directory.path().join("views.db")).unwrap();
    (directory, Arc::new(views))
}

fn tasks() -> Arc<dyn Fold> {
    fold_of::<Tasks>()
}

fn documents(stack: &Stack) -> Documents {
    Documents::new(stack.stores.sealer.clone())
}

async fn replay(stack: &Stack, skips: Skips, store: Arc<dyn ViewStore>) -> Replay {
    Replay::begin(tasks(), skips, store, documents(stack)).await.unwrap()
}

async fn keep_up(stack: &Stack, replay: &mut Replay) -> Result<(), ReplayError> {
    let events: Vec<_> = stack.events().await.into_iter().map(Arc::new).collect();
    replay.take(&events, Position::MAX).await
}

/// Where the task begins.
async fn submitted(scene: &Scene, task: Uuid) -> Position {
    scene.stack.events().await.iter().find(|event| event.stream.id == task).unwrap().position
}

fn differing(comparison: &Comparison) -> Vec<(Uuid, Difference)> {
    comparison.findings.named.iter().map(|(id, difference)| (*id, *difference)).collect()
}

#[tokio::test]
async fn an_untouched_table_differs_in_nothing() {
    let scene = Scene::of(TASKS).await;
    let comparison = scene.compare().await;
    assert_eq!((comparison.documents, comparison.findings.restless), (TASKS as u64, 0));
    assert_eq!(comparison.position, scene.stack.events().await.len() as u64);
    assert_eq!(differing(&comparison), []);
}

#[tokio::test]
async fn every_change_by_hand_is_found_wherever_it_is() {
    let scene = Scene::of(TASKS).await;
    let (first, middle, last) = (scene.ids[0], scene.ids[TASKS / 2], scene.ids[TASKS - 1]);
    scene.alter("DELETE FROM TABLE WHERE id = ?1", last);
    scene.alter("UPDATE TABLE SET status = 'completed' WHERE id = ?1", middle);
    scene.alter("UPDATE TABLE SET position = 1000000000 WHERE id = ?1", scene.ids[1]);
    scene.alter("UPDATE TABLE SET body = (SELECT body FROM TABLE WHERE id > ?1) WHERE id = ?1", first);
    let expected = [
        (first, Difference::Unreadable),
        (scene.ids[1], Difference::Unreadable),
        (middle, Difference::Fields),
        (last, Difference::Missing),
    ];
    assert_eq!(differing(&scene.compare().await), expected);
}

#[tokio::test]
async fn of_many_that_differ_all_are_counted_and_the_first_are_named() {
    let scene = Scene::of(TASKS).await;
    for id in &scene.ids {
        scene.alter("UPDATE TABLE SET status = 'running' WHERE id = ?1", *id);
    }
    let comparison = scene.compare().await;
    assert_eq!(comparison.findings.differing, TASKS as u64);
    let mut expected = scene.ids.clone();
    expected.sort_unstable();
    let expected: Vec<_> = expected.into_iter().take(NAMED_MAX).map(|id| (id, Difference::Fields)).collect();
    assert_eq!(differing(&comparison), expected);
}

#[tokio::test]
async fn a_document_that_was_sealed_with_other_contents_is_found() {
    let scene = Scene::of(3).await;
    let (store, table) = (&scene.stack.stores.views, scene.live.table());
    let sealed = store.load(table, &scene.ids).await.unwrap().documents;
    let mut opened = documents(&scene.stack).open(table, sealed).await.unwrap();
    opened.sort_unstable_by_key(|document| document.id);
    let (mut facts, keys) = (opened[0].facts.clone(), opened[0].keys.clone());
    let digit = facts.iter().rposition(u8::is_ascii_digit).unwrap();
    facts[digit] = if facts[digit] == b'1' { b'2' } else { b'1' };
    let forged = |id, facts, position| RawDocument { id, position, facts, keys: keys.clone(), ..opened[0].clone() };
    let surplus = Uuid::now_v7();
    let position = opened[0].position;
    scene.alter("DELETE FROM TABLE WHERE id = ?1", opened[0].id);
    // Its words are not sealed again: they are missed as well.
    let forged = vec![forged(opened[0].id, facts, position), forged(surplus, opened[0].facts.clone(), 1)];
    let sealed = documents(&scene.stack).seal(table, forged).await.unwrap();
    let checkpoint = store.tables().await.unwrap()[0].checkpoint;
    store.store(table, sealed, checkpoint, 1).await.unwrap();
    let expected = [(opened[0].id, Difference::Content), (surplus, Difference::Surplus)];
    assert_eq!(differing(&scene.compare().await), expected);
}

#[tokio::test]
async fn an_event_that_was_skipped_is_missing_on_both_sides() {
    let scene = Scene::of(3).await;
    let submitted = submitted(&scene, scene.ids[1]).await;
    scene.stack.send(scene.ids[1], CANCEL).await;
    scene.skip(submitted).await;
    let skips = scene.skips().await;
    assert!(skips.holds(submitted));
    let second = {
        let store = scene.stack.stores.views.clone();
        let mut second = replay(&scene.stack, skips, store.clone()).await;
        keep_up(&scene.stack, &mut second).await.unwrap();
        store.make_live(second.table(), 1).await.unwrap();
        second
    };
    let comparison = scene.compare().await;
    assert_eq!((comparison.table.build, comparison.documents), (second.table().build, 2));
    assert_eq!(differing(&comparison), [], "what followed the skipped event has nothing to change either");
}

#[tokio::test]
async fn a_view_that_cannot_be_replayed_is_told_and_the_others_are_compared() {
    let mut scene = Scene::of(3).await;
    let store = scene.stack.stores.views.clone();
    let mut agents =
        Replay::begin(fold_of::<Agents>(), Skips::default(), store.clone(), documents(&scene.stack)).await.unwrap();
    keep_up(&scene.stack, &mut agents).await.unwrap();
    store.make_live(agents.table(), 1).await.unwrap();
    let poison = scene.poison().await;
    assert!(matches!(scene.keep_up().await, Err(ReplayError::Fold(failure)) if failure.position() == poison));
    // As another program might have done, that had no trouble with it.
    let beyond = Checkpoint { position: poison, event_id: Uuid::now_v7() };
    store.store(scene.live.table(), Vec::new(), beyond, 1).await.unwrap();
    let path = scene.stack.directory.path().join("data/views.db");
    let delete = format!("DELETE FROM {}", agents.table());
    assert_eq!(Connection::open(path).unwrap().execute(&delete, []).unwrap(), 1);
    let (_directory, fresh) = empty_store();
    let compared = scene.compare_folds(vec![tasks(), fold_of::<Agents>()], store, fresh).await;
    let [of_tasks, of_agents] = <[_; 2]>::try_from(compared).unwrap();
    let unreplayed = of_tasks.unreplayed.unwrap();
    assert_eq!((unreplayed.position, of_tasks.position), (poison, poison - 1));
    assert!(unreplayed.reason.contains("which no event began"), "{}", unreplayed.reason);
    assert_eq!(of_agents.unreplayed, None);
    assert_eq!(of_agents.findings.named.values().collect::<Vec<_>>(), [&Difference::Missing]);
}

/// The event may be one that the replay takes, or one that it cannot.
#[rstest]
#[case::good(false)]
#[case::poison(true)]
#[tokio::test]
async fn an_event_that_is_skipped_meanwhile_is_missing_on_both_sides(#[case] poisoned: bool) {
    let scene = Scene::of(3).await;
    let position = if poisoned { scene.poison().await } else { submitted(&scene, scene.ids[1]).await };
    let skipping = scene.skipping(position).await;
    let events = scene.stack.events().await;
    let skipped = events.iter().find(|event| event.position == position).unwrap();
    let mut skips = Skips::default();
    skips.add(position, tasks().ids(skipped).unwrap());
    let store = scene.stack.stores.views.clone();
    let mut live = replay(&scene.stack, skips, store.clone()).await;
    keep_up(&scene.stack, &mut live).await.unwrap();
    store.make_live(live.table(), 1).await.unwrap();
    let (_directory, inner) = empty_store();
    let fresh = Arc::new(Weather::over(inner));
    let dispatcher = scene.stack.dispatcher.clone();
    fresh.before_load.set(async move {
        dispatcher.dispatch(&meta(), &[skipping]).await.unwrap();
    });
    let compared = scene.compare_folds(vec![tasks()], store, fresh.clone()).await;
    let [comparison] = <[_; 1]>::try_from(compared).unwrap();
    assert_eq!((comparison.documents, comparison.unreplayed), (if poisoned { 3 } else { 2 }, None));
    assert_eq!(comparison.findings, Findings::default());
    assert_eq!(fresh.tables().await.unwrap()[0].table.build, 2, "it was not skipped meanwhile");
}

#[tokio::test]
async fn a_replay_stops_exactly_at_an_event_that_cannot_be_folded() {
    let scene = Scene::of(3).await;
    let directory = tempfile::tempdir().unwrap();
    let fresh = Arc::new(SqliteViews::open(&directory.path().join("views.db")).unwrap());
    let mut replay = replay(&scene.stack, Skips::default(), fresh).await;
    let events: Vec<_> = scene.stack.events().await.into_iter().map(Arc::new).collect();
    scene.stack.send(scene.ids[0], CANCEL).await;
    let cancelled = Arc::new(scene.stack.events().await.pop().unwrap());
    let submitted = events.iter().position(|event| event.stream.id == scene.ids[0]).unwrap();
    let mut without = events;
    without.remove(submitted);
    without.push(cancelled.clone());
    let Err(ReplayError::Fold(failure)) = replay.take(&without, Position::MAX).await else { panic!("it was folded") };
    assert_eq!((failure.position(), replay.position()), (cancelled.position, cancelled.position - 1));
}

#[tokio::test]
async fn what_is_written_meanwhile_is_no_difference_and_hides_none() {
    let mut scene = Scene::of(TASKS).await;
    let altered = scene.ids[2];
    // All of these stand behind the first page.
    for id in &scene.ids[..20] {
        scene.stack.send(*id, CANCEL).await;
    }
    let store = scene.stack.stores.views.clone();
    let events: Vec<_> = scene.stack.events().await.into_iter().map(Arc::new).collect();
    scene.alter("UPDATE TABLE SET status = 'running' WHERE id = ?1", scene.ids[30]);
    let table = scene.live.table().clone();
    let path = scene.stack.directory.path().join("data/views.db");
    let mut live = std::mem::replace(&mut scene.live, replay(&scene.stack, Skips::default(), store.clone()).await);
    let moving = Arc::new(Weather::over(store));
    moving.between_pages.set(async move {
        live.take(&events, Position::MAX).await.unwrap();
        let sql = format!("UPDATE {table} SET status = 'running' WHERE id = ?1");
        assert_eq!(Connection::open(path).unwrap().execute(&sql, [altered.as_bytes()]).unwrap(), 1);
    });
    let comparison = scene.compare_with(moving).await;
    let expected = [(altered, Difference::Fields), (scene.ids[30], Difference::Fields)];
    assert_eq!((differing(&comparison), comparison.findings.restless), (expected.to_vec(), 0));
}

/// A comparison that looks at it again meets a document that is newer than what it folded.
#[tokio::test]
async fn a_document_that_changes_at_each_look_is_looked_at_once_more() {
    let mut scene = Scene::of(TASKS).await;
    let (changing, position) = (scene.ids[0], scene.stack.events().await.len() as Position);
    scene.stack.send(changing, TaskCommand::Start { worker: Uuid::now_v7(), at: Utc::now() }).await;
    scene.stack.send(changing, CANCEL).await;
    let store = scene.stack.stores.views.clone();
    let events: Vec<_> = scene.stack.events().await.into_iter().map(Arc::new).collect();
    let another = replay(&scene.stack, Skips::default(), store.clone()).await;
    let live = Arc::new(tokio::sync::Mutex::new(std::mem::replace(&mut scene.live, another)));
    let take = |upto: Position| {
        let (live, events) = (live.clone(), events.clone());
        async move { live.lock().await.take(&events, upto).await.unwrap() }
    };
    let moving = Arc::new(Weather::over(store));
    moving.between_pages.set(take(position + 1));
    moving.before_load.set(take(position + 2));
    let comparison = scene.compare_with(moving).await;
    assert_eq!((differing(&comparison), comparison.findings.restless), (vec![], 0));
    let folded = live.lock().await;
    assert_eq!(folded.position(), position + 2, "else nothing changed meanwhile");
}
