//! `marvin doctor`: looks for damage in a data directory that no server uses.
use marvin_projections::RawDocument;
use std::{collections::BTreeMap, process::ExitCode, sync::Arc};
use uuid::Uuid;

use crate::{
    config::Settings,
    dispatch::Dispatcher,
    log::{incarnation::Incarnation, tail::Tail},
    rollback::SetBack,
    stores::Stores,
    time::rfc3339,
    views::{
        ListQuery, Order, PAGE_DOCUMENTS_MAX, State, Table, ViewId, ViewStore, documents::Documents, keeper::skips,
        replay::replay, sqlite::SqliteViews,
    },
};

/// Opens every store, which checks each file; with `views`, also compares every document with a fresh replay of the log. With
/// `accept_rollback`, what is ahead of a log that was set back begins anew, and a new history is drawn.
///
/// # Errors
/// When a store cannot be opened or read, also while a server has the directory.
pub fn run(settings: &Settings, views: bool, accept_rollback: bool) -> anyhow::Result<ExitCode> {
    tokio::runtime::Runtime::new()?.block_on(async {
        Stores::require(settings).await?;
        let stores = match accept_rollback {
            true => Stores::open_accepting_rollback(settings).await?,
            false => Stores::open(settings).await?,
        };
        println!("log: {} events, every file passes its check", *stores.log.head().borrow());
        tell_history(&stores).await?;
        if accept_rollback {
            tell_accepted(&stores.accepted, &stores.erased_again);
        }
        let differences = if views { compare(&stores).await? } else { 0 };
        stores.close().await;
        Ok(if differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

async fn tell_history(stores: &Stores) -> anyhow::Result<()> {
    let Incarnation { id, behind, drawn_at } = stores.incarnation().await?;
    println!("history: {id}, drawn at {} behind position {}", rfc3339(drawn_at), behind.position);
    Ok(())
}

fn tell_accepted(accepted: &[SetBack], erased_again: &[Uuid]) {
    if accepted.is_empty() {
        println!("rollback: the log was not set back, so nothing was changed");
    }
    for SetBack { file, follower, checkpoint, .. } in accepted {
        println!("rollback: {file}: {follower} was at position {} and begins anew", checkpoint.position);
    }
    for user in erased_again {
        println!("rollback: log.db: the erasure of user {user} is recorded again, since their key is gone");
    }
}

/// Compares every document of every view with one folded from the log alone; answers how many differ.
async fn compare(stores: &Stores) -> anyhow::Result<usize> {
    let live = &*stores.views;
    let directory = tempfile::tempdir()?;
    let fresh: Arc<dyn ViewStore> = Arc::new(SqliteViews::open(&directory.path().join("views.db"))?);
    let tail = Tail::new(stores.log.clone(), stores.codec.clone());
    let documents = Documents::new(stores.sealer.clone());
    let dispatcher = Dispatcher::new(stores.log.clone(), stores.codec.clone());
    let mut differences = 0;
    for fold in marvin_projections::all() {
        let view = ViewId::of(&*fold);
        let rows = live.tables().await?;
        let serving = rows.iter().find(|row| row.state == State::Live && row.table.is_of(view));
        let upto = serving.map_or(0, |row| row.checkpoint.position);
        let found = match serving {
            Some(row) => all(live, &documents, &row.table).await?,
            None => Opened::new(),
        };
        let skips = skips(&*fold, &dispatcher, &tail).await?;
        let replayed = replay(&tail, fold.clone(), skips, fresh.clone(), documents.clone(), upto).await?;
        let wrong = differing(&found, &all(&*fresh, &documents, &replayed).await?);
        println!("{}: {} documents at position {upto}, {} differ from a replay", view.name, found.len(), wrong.len());
        for id in &wrong {
            println!("  {id} differs: delete views.db, the next start builds it anew");
        }
        differences += wrong.len();
    }
    Ok(differences)
}

type Opened = BTreeMap<Uuid, RawDocument>;

async fn all(store: &dyn ViewStore, documents: &Documents, table: &Table) -> anyhow::Result<Opened> {
    let (mut found, mut before) = (Opened::new(), None);
    loop {
        let query = ListQuery { filters: Vec::new(), order: Order::Newest, before, limit: PAGE_DOCUMENTS_MAX };
        let page = store.list(table, query).await?.documents;
        let Some(last) = page.last() else { return Ok(found) };
        before = Some(last.id);
        found.extend(documents.open(table, page).await?.into_iter().map(|document| (document.id, document)));
    }
}

fn differing(found: &Opened, expected: &Opened) -> Vec<Uuid> {
    let mut wrong: Vec<Uuid> =
        found.iter().filter(|(id, document)| expected.get(id) != Some(document)).map(|(id, _)| *id).collect();
    wrong.extend(expected.keys().filter(|id| !found.contains_key(id)));
    wrong
}
