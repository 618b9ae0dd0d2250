//! Projectors: a crash anywhere repeats a batch with the same result.
use crate::stack::Stack;
use async_trait::async_trait;
use marvin::{
    log::{
        checkpoint::Checkpoint,
        subscription::{FollowError, Follower},
    },
    store::StoreError,
    views::{
        Filter, ListQuery, Order, SealedDocument, ViewError, ViewId, ViewStore, documents::Documents,
        projector::Projector, sqlite::SqliteViews,
    },
};
use marvin_domain::{Envelope, agent::AgentCommand, user::Role};
use marvin_projections::{Fold, RawDocument};
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::watch;
use uuid::Uuid;

/// A store that fails its next write, before or after it took place: the two halves of a crash.
struct Crashing {
    inner: SqliteViews,
    before: AtomicBool,
    after: AtomicBool,
}

fn crash() -> ViewError {
    ViewError::Unavailable(StoreError::Closed)
}

#[async_trait]
impl ViewStore for Crashing {
    async fn ensure(&self, view: ViewId) -> Result<(), ViewError> {
        self.inner.ensure(view).await
    }
    async fn checkpoint(&self, view: ViewId) -> Result<Option<Checkpoint>, ViewError> {
        self.inner.checkpoint(view).await
    }
    async fn load(&self, view: ViewId, ids: &[Uuid]) -> Result<Vec<SealedDocument>, ViewError> {
        self.inner.load(view, ids).await
    }
    async fn store(
        &self,
        view: ViewId,
        documents: Vec<SealedDocument>,
        checkpoint: Checkpoint,
    ) -> Result<(), ViewError> {
        if self.before.swap(false, Ordering::SeqCst) {
            return Err(crash());
        }
        self.inner.store(view, documents, checkpoint).await?;
        if self.after.swap(false, Ordering::SeqCst) { Err(crash()) } else { Ok(()) }
    }
    async fn list(&self, view: ViewId, query: ListQuery) -> Result<Vec<SealedDocument>, ViewError> {
        self.inner.list(view, query).await
    }
    async fn count(&self, view: ViewId, filters: Vec<Filter>) -> Result<u64, ViewError> {
        self.inner.count(view, filters).await
    }
}

struct Bench {
    stack: Stack,
    store: Arc<Crashing>,
    documents: Documents,
}

async fn bench() -> Bench {
    let stack = Stack::new().await;
    let inner = SqliteViews::open(&stack.directory.path().join("views.db")).unwrap();
    let store = Arc::new(Crashing { inner, before: AtomicBool::new(false), after: AtomicBool::new(false) });
    let documents = Documents::new(stack.stores.sealer.clone());
    Bench { stack, store, documents }
}

impl Bench {
    async fn projector(&self, fold: Arc<dyn Fold>) -> Projector {
        let projector = Projector::new(fold, self.store.clone(), self.documents.clone(), watch::channel(0).0);
        projector.prepare().await.unwrap();
        projector
    }

    async fn opened(&self, fold: &Arc<dyn Fold>) -> Vec<RawDocument> {
        let view = ViewId::of(&**fold);
        let query = ListQuery { filters: Vec::new(), order: Order::Newest, before: None, limit: 1_000 };
        self.documents.open(view, self.store.list(view, query).await.unwrap()).await.unwrap()
    }
}

async fn some_history(stack: &Stack) -> Vec<Arc<Envelope>> {
    let user = stack.user("a@example.com", &[Role::Member]).await;
    let agent = stack.agent("scribe").await;
    for number in 0..3 {
        stack.task(agent, user, json!({ "number": number })).await;
    }
    stack.send(agent, AgentCommand::Pause).await;
    stack.events().await.into_iter().map(Arc::new).collect()
}

#[tokio::test]
async fn a_crash_before_or_after_the_write_repeats_the_batch_with_the_same_result() {
    let crashed = bench().await;
    let events = some_history(&crashed.stack).await;
    for fold in marvin_projections::all() {
        let mut projector = crashed.projector(fold.clone()).await;
        crashed.store.before.store(true, Ordering::SeqCst);
        assert!(matches!(projector.take(&events[..3]).await, Err(FollowError::Again(_))));
        assert_eq!(projector.resume().await.unwrap(), 0, "a checkpoint without its documents");
        crashed.store.after.store(true, Ordering::SeqCst);
        assert!(matches!(projector.take(&events[..3]).await, Err(FollowError::Again(_))));
        assert_eq!(projector.resume().await.unwrap(), 3, "documents without their checkpoint");
        let once = crashed.opened(&fold).await;
        projector.take(&events[..3]).await.unwrap();
        assert_eq!(crashed.opened(&fold).await, once, "a repeated batch changed {}", fold.name());
        projector.take(&events[3..]).await.unwrap();
        assert_eq!(projector.resume().await.unwrap(), events.last().unwrap().position);
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_folded_stops_the_projection_at_its_position_and_writes_nothing() {
    let bench = bench().await;
    let events = some_history(&bench.stack).await;
    let fold = marvin_projections::fold_of::<marvin_projections::agents::Agents>();
    let mut projector = bench.projector(fold.clone()).await;
    let paused_without_agent = &events[events.len() - 1..];
    let outcome = projector.take(paused_without_agent).await;
    assert!(matches!(outcome, Err(FollowError::Stop { position, .. }) if position == paused_without_agent[0].position));
    assert_eq!(projector.resume().await.unwrap(), 0);
    assert!(bench.opened(&fold).await.is_empty());
}

#[tokio::test]
async fn a_document_copied_to_another_place_is_not_opened() {
    let bench = bench().await;
    let events = some_history(&bench.stack).await;
    let fold = marvin_projections::fold_of::<marvin_projections::tasks::Tasks>();
    bench.projector(fold.clone()).await.take(&events).await.unwrap();
    let view = ViewId::of(&*fold);
    let query = ListQuery { filters: Vec::new(), order: Order::Newest, before: None, limit: 2 };
    let mut documents = bench.store.list(view, query).await.unwrap();
    documents[0].body = documents[1].body.clone();
    let outcome = bench.documents.open(view, documents).await;
    assert!(matches!(outcome, Err(ViewError::Corrupt { .. })));
}
