//! `marvin doctor`: says whether the data are whole and the views what the log says, also while a server runs on them.
use anyhow::{Context, bail};
use std::process::ExitCode;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::ask::Desk;
use crate::{
    config::Settings,
    control::{Answer, Hands, Request, perform},
    datadir::DataDirError,
    doctor::{Compared, ComparedView, Examination},
    rollback::SetBack,
    stores::{StartError, Stores},
    time::rfc3339,
    views::{Stopped, equality::Findings},
};

/// Where no server runs, opens every store, which checks each file; with `views`, also compares every document with a fresh replay
/// of the log. With `accept_rollback`, what is ahead of a log that was set back begins anew, and a new history is drawn: no server
/// may run then.
///
/// # Errors
/// When a store cannot be opened or read.
pub fn run(settings: &Settings, views: bool, accept_rollback: bool) -> anyhow::Result<ExitCode> {
    let runtime = Runtime::new()?;
    let healthy = runtime.block_on(async {
        match accept_rollback {
            true => accept(settings, views).await,
            false => {
                let mut desk = Desk::of(settings);
                let healthy = look(&mut desk, views).await;
                desk.close().await;
                healthy
            }
        }
    });
    Ok(if healthy? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Answers whether nothing differs.
async fn look(desk: &mut Desk<'_>, views: bool) -> anyhow::Result<bool> {
    let examined = desk.ask(Request::Examine).await?;
    tell_examined(examined, desk.is_own())?;
    if views { tell_compared(desk.ask(Request::CompareViews).await?) } else { Ok(true) }
}

/// As [`look`], on stores that are opened however far they are ahead of the log.
async fn accept(settings: &Settings, views: bool) -> anyhow::Result<bool> {
    Stores::require(settings).await?;
    let stores = match Stores::open_accepting_rollback(settings).await {
        Err(error @ StartError::DataDir(DataDirError::InUse(_))) => {
            return Err(error).context("--accept-rollback changes what a server works with, so stop that first");
        }
        opened => opened?,
    };
    let hands = Hands::on(&stores);
    let told = async {
        tell_examined(perform(Request::Examine, &hands).await, true)?;
        tell_accepted(&stores.accepted, &stores.erased_again);
        if views { tell_compared(perform(Request::CompareViews, &hands).await) } else { Ok(true) }
    };
    let told = told.await;
    stores.close().await;
    told
}

/// A file is checked when a process opens it: by this one, or by the server when it started.
fn tell_examined(answer: Answer, by_this_process: bool) -> anyhow::Result<()> {
    let Examination { events, in_files, history, behind, drawn_at } = match answer {
        Answer::Examined(examination) => examination,
        other => bail!(unexpected(other)),
    };
    let checked = match (in_files, by_this_process) {
        (true, true) => ", every file passes its check",
        (true, false) => ", every file passed its check when the server started",
        (false, _) => "",
    };
    println!("log: {events} events{checked}");
    println!("history: {history}, drawn at {} behind position {behind}", rfc3339(drawn_at));
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

/// Answers whether nothing differs.
fn tell_compared(answer: Answer) -> anyhow::Result<bool> {
    let Compared { unbuilt, views } = match answer {
        Answer::Compared(compared) => compared,
        other => bail!(unexpected(other)),
    };
    for name in unbuilt {
        println!("{name}: nothing to compare, since no table of this version is built yet");
    }
    views.iter().for_each(tell);
    Ok(views.iter().all(|view| view.findings.differing == 0))
}

fn unexpected(answer: Answer) -> String {
    match answer {
        Answer::Failed { reason } => reason,
        _ => "the server did something else".to_owned(),
    }
}

fn tell(view: &ComparedView) {
    let ComparedView { name, position, documents, findings, stopped } = view;
    let Findings { differing, named, restless } = findings;
    println!("{name}: {documents} documents at position {position}, {differing} differ from a replay");
    for (id, difference) in named {
        println!("  {id} differs: it {difference}");
    }
    if *differing > named.len() as u64 {
        println!("  and {} more", differing - named.len() as u64);
    }
    if *differing > 0 {
        println!("  `marvin rebuild {name}` builds them anew, from the log");
    }
    if *restless > 0 {
        println!("  {restless} changed too fast to be compared: look again when there is less to do");
    }
    if let Some(Stopped { position, reason }) = stopped {
        println!("  it is stopped at position {position}: {reason}");
    }
}
