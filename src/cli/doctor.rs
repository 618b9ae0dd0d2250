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

/// The exit code where nothing was found to differ, but something was not compared to its end, or is not kept up. It is neither that
/// of a failure, 1, nor that of a mistake of usage, 2.
const INCOMPLETE: u8 = 3;

/// What a look at the data came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Whole,
    /// Something differs from the log, or cannot be folded from it.
    Differs,
    /// A view is stopped, not built, or was too restless to be compared.
    Incomplete,
}

impl Verdict {
    fn of(compared: &Compared) -> Self {
        let differs = |view: &ComparedView| {
            let ComparedView { findings, unreplayed, unreadable, lost_indexes, .. } = view;
            findings.differing > 0 || unreplayed.is_some() || unreadable.is_some() || *lost_indexes > 0
        };
        let is_left_open = |view: &ComparedView| view.findings.restless > 0 || view.stopped.is_some();
        if compared.views.iter().any(differs) {
            Self::Differs
        } else if !compared.unbuilt.is_empty() || compared.views.iter().any(is_left_open) {
            Self::Incomplete
        } else {
            Self::Whole
        }
    }
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Whole => Self::SUCCESS,
            Verdict::Differs => Self::FAILURE,
            Verdict::Incomplete => Self::from(INCOMPLETE),
        }
    }
}

/// Where no server runs, opens every store, which checks each file; with `views`, also compares every document with a fresh replay
/// of the log. With `accept_rollback`, what is ahead of a log that was set back begins anew, and a new history is drawn: no server
/// may run then.
///
/// # Errors
/// When a store cannot be opened or read.
pub fn run(settings: &Settings, views: bool, accept_rollback: bool) -> anyhow::Result<ExitCode> {
    let runtime = Runtime::new()?;
    let verdict = runtime.block_on(async {
        match accept_rollback {
            true => accept(settings, views).await,
            false => {
                let mut desk = Desk::of(settings);
                let verdict = look(&mut desk, views).await;
                desk.close().await;
                verdict
            }
        }
    });
    Ok(verdict?.into())
}

async fn look(desk: &mut Desk<'_>, views: bool) -> anyhow::Result<Verdict> {
    let examined = desk.ask(Request::Examine).await?;
    tell_examined(examined, desk.is_own())?;
    if views { tell_compared(desk.ask(Request::CompareViews).await?) } else { Ok(Verdict::Whole) }
}

/// As [`look`], on stores that are opened however far they are ahead of the log.
async fn accept(settings: &Settings, views: bool) -> anyhow::Result<Verdict> {
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
        if views { tell_compared(perform(Request::CompareViews, &hands).await) } else { Ok(Verdict::Whole) }
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

fn tell_compared(answer: Answer) -> anyhow::Result<Verdict> {
    let compared = match answer {
        Answer::Compared(compared) => compared,
        other => bail!(unexpected(other)),
    };
    for name in &compared.unbuilt {
        println!("{name}: nothing to compare, since no table of this version is built yet");
    }
    compared.views.iter().for_each(tell);
    Ok(Verdict::of(&compared))
}

fn unexpected(answer: Answer) -> String {
    match answer {
        Answer::Failed { reason } => reason,
        _ => "the server did something else".to_owned(),
    }
}

fn tell(view: &ComparedView) {
    let ComparedView { name, position, documents, findings, stopped, unreplayed, unreadable, lost_indexes } = view;
    let Findings { differing, named, restless } = findings;
    if let Some(reason) = unreadable {
        println!("{name}: its documents cannot be read: {reason}");
    } else if let Some(Stopped { position, reason }) = unreplayed {
        println!("{name}: cannot be compared, since a replay stops at position {position}: {reason}");
    } else {
        println!("{name}: {documents} documents at position {position}, {differing} differ from a replay");
    }
    for (id, difference) in named {
        println!("  {id} differs: it {difference}");
    }
    if *differing > named.len() as u64 {
        println!("  and {} more", differing - named.len() as u64);
    }
    if *lost_indexes > 0 {
        println!("  {lost_indexes} of its indexes are not there: its lists are slow");
    }
    if *differing > 0 || unreadable.is_some() || *lost_indexes > 0 {
        println!("  `marvin rebuild {name}` builds them anew, from the log");
    }
    if *restless > 0 {
        println!("  {restless} changed too fast to be compared: look again when there is less to do");
    }
    if let Some(Stopped { position, reason }) = stopped {
        println!("  it is stopped at position {position}: {reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> ComparedView {
        let findings = Findings::default();
        ComparedView {
            name: "tasks".into(),
            position: 12,
            documents: 3,
            findings,
            stopped: None,
            unreplayed: None,
            unreadable: None,
            lost_indexes: 0,
        }
    }

    fn verdict(unbuilt: &[&str], view: ComparedView) -> Verdict {
        let unbuilt = unbuilt.iter().map(|name| (*name).to_owned()).collect();
        Verdict::of(&Compared { unbuilt, views: vec![self::view(), view] })
    }

    #[test]
    fn what_was_not_compared_or_is_not_kept_up_is_not_whole() {
        let stopped = Some(Stopped { position: 9, reason: "no".into() });
        let differing = Findings { differing: 1, ..Findings::default() };
        let restless = Findings { restless: 1, ..Findings::default() };
        assert_eq!(verdict(&[], view()), Verdict::Whole);
        assert_eq!(verdict(&["agents"], view()), Verdict::Incomplete);
        assert_eq!(verdict(&[], ComparedView { stopped: stopped.clone(), ..view() }), Verdict::Incomplete);
        assert_eq!(verdict(&[], ComparedView { findings: restless, ..view() }), Verdict::Incomplete);
        assert_eq!(verdict(&[], ComparedView { unreplayed: stopped.clone(), ..view() }), Verdict::Differs);
        assert_eq!(verdict(&[], ComparedView { unreadable: Some("no".into()), ..view() }), Verdict::Differs);
        assert_eq!(verdict(&[], ComparedView { lost_indexes: 1, ..view() }), Verdict::Differs);
        let both = ComparedView { findings: differing, stopped, ..view() };
        assert_eq!(verdict(&["agents"], both), Verdict::Differs, "what differs is said before all else");
    }
}
