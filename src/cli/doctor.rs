//! `marvin doctor`: looks for damage in a data directory that no server uses.
use std::{process::ExitCode, sync::Arc};
use uuid::Uuid;

use crate::{
    config::Settings,
    dispatch::Dispatcher,
    log::{incarnation::Incarnation, tail::Tail},
    rollback::SetBack,
    stores::Stores,
    time::rfc3339,
    views::{
        Stopped,
        documents::Documents,
        equality::{Comparer, Comparison},
        skips::skips,
        sqlite::SqliteViews,
    },
};

/// Differing documents that are named, of each view: enough to look into, few enough to read.
const TOLD_MAX: usize = 20;

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
        let differs = views && compare(&stores).await?;
        stores.close().await;
        Ok(if differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
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

/// Compares every document of every view with one folded from the log alone; answers whether any differs.
async fn compare(stores: &Stores) -> anyhow::Result<bool> {
    let directory = tempfile::tempdir()?;
    let tail = Tail::new(stores.log.clone(), stores.codec.clone());
    let dispatcher = Dispatcher::new(stores.log.clone(), stores.codec.clone());
    let mut folds = Vec::new();
    for fold in marvin_projections::all() {
        let skips = skips(&*fold, &dispatcher, &tail).await?;
        folds.push((fold, skips));
    }
    let comparer = Comparer {
        log: stores.log.clone(),
        codec: stores.codec.clone(),
        documents: Documents::new(stores.sealer.clone()),
        live: stores.views.clone(),
        fresh: Arc::new(SqliteViews::open(&directory.path().join("views.db"))?),
    };
    let known: Vec<_> = folds.iter().map(|(fold, _)| fold.name()).collect();
    let comparisons = comparer.compare(folds).await?;
    for name in known.iter().filter(|name| comparisons.iter().all(|comparison| comparison.table.name != **name)) {
        println!("{name}: nothing to compare, since no table of this version is built yet");
    }
    comparisons.iter().for_each(tell);
    Ok(comparisons.iter().any(|comparison| !comparison.differing.is_empty()))
}

fn tell(comparison: &Comparison) {
    let Comparison { table, position, documents, differing, restless, stopped } = comparison;
    let name = &table.name;
    println!("{name}: {documents} documents at position {position}, {} differ from a replay", differing.len());
    for (id, difference) in differing.iter().take(TOLD_MAX) {
        println!("  {id} differs: it {difference}");
    }
    if differing.len() > TOLD_MAX {
        println!("  and {} more", differing.len() - TOLD_MAX);
    }
    if !differing.is_empty() {
        println!("  `marvin rebuild {name}` builds them anew, from the log");
    }
    if *restless > 0 {
        println!("  {restless} changed too fast to be compared: look again when there is less to do");
    }
    if let Some(Stopped { position, reason }) = stopped {
        println!("  it is stopped at position {position}: {reason}");
    }
}
