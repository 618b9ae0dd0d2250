//! `marvin rebuild NAME`: builds read models anew beside those that serve, and shows how that goes.
use anyhow::{Context, bail};
use std::{
    io::{IsTerminal, Write, stdout},
    process::ExitCode,
    time::{Duration, Instant},
};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

use super::ask::Desk;
use crate::{
    config::Settings,
    control::{Answer, Request},
    views::{
        Stopped,
        admin::{Rebuild, Standing},
    },
};

/// Between two looks at how it goes.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Between two lines where there is no terminal to draw on.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// A node that died may hold a duty for 4 s, and the others look each second whether it is free.
const HOLDER_PATIENCE: Duration = Duration::from_secs(6);
/// Characters of a full bar: half of a narrow terminal.
const BAR_CHARS: usize = 30;

/// Rebuilds these projections and waits until each is done. With `cancel`, calls their rebuilds off.
///
/// # Errors
/// When it could not be begun, or nobody is there to do it.
pub fn run(settings: &Settings, names: &[String], cancel: bool) -> anyhow::Result<ExitCode> {
    let runtime = Runtime::new()?;
    let done = runtime.block_on(async {
        let mut desk = Desk::of(settings);
        let done = match cancel {
            true => call_off(&mut desk, names).await,
            false => Watch::begin(settings, &mut desk, names).await,
        };
        desk.close().await;
        done
    });
    // A server that does not answer must not keep whoever gave up waiting.
    runtime.shutdown_background();
    done
}

async fn call_off(desk: &mut Desk<'_>, names: &[String]) -> anyhow::Result<ExitCode> {
    for name in names {
        let standing = one(desk.ask(Request::CancelRebuild { projection: name.clone() }).await?)?;
        println!("{}: the rebuild is called off; the next one goes on where this one was", standing.name);
    }
    Ok(ExitCode::SUCCESS)
}

fn all(answer: Answer) -> anyhow::Result<Vec<Standing>> {
    match answer {
        Answer::Projections { standings } => Ok(standings),
        _ => bail!("the server did something else"),
    }
}

fn one(answer: Answer) -> anyhow::Result<Standing> {
    match all(answer)?.pop() {
        Some(standing) => Ok(standing),
        None => bail!("the server did something else"),
    }
}

/// How far one rebuild is.
enum Outcome {
    Going { rebuild: Rebuild, is_held: bool },
    Done,
    Stopped(Stopped),
    CalledOff,
}

/// `build` is the table that was asked for.
fn outcome(standing: Standing, build: u32) -> Outcome {
    match standing.rebuild {
        Some(Rebuild { build: going, stopped: Some(stopped), .. }) if going == build => Outcome::Stopped(stopped),
        Some(rebuild) if rebuild.build == build => Outcome::Going { rebuild, is_held: standing.holder.is_some() },
        _ if standing.build.is_some_and(|live| live >= build) => Outcome::Done,
        _ => Outcome::CalledOff,
    }
}

struct Watch<'a, 'd> {
    desk: &'d mut Desk<'a>,
    interrupted: Signal,
    /// How long nobody may be there who does the work, where no server runs here.
    patience: Duration,
    page: Page,
}

impl<'a, 'd> Watch<'a, 'd> {
    async fn begin(settings: &Settings, desk: &'d mut Desk<'a>, names: &[String]) -> anyhow::Result<ExitCode> {
        // Heard from before anything is begun: it always says how to call off what was.
        let interrupted = signal(SignalKind::interrupt())?;
        let mut begun = Vec::new();
        for name in names {
            let standing = one(desk.ask(Request::Rebuild { projection: name.clone() }).await?)?;
            let build = standing.rebuild.map(|rebuild| rebuild.build).or(standing.build);
            begun.push((standing.name, build.unwrap_or_default()));
        }
        // Files have one process, and this is it. A database may have other nodes.
        let patience = settings.database_url.as_ref().map_or(Duration::ZERO, |_| HOLDER_PATIENCE);
        let mut watch = Self { desk, interrupted, patience, page: Page::default() };
        let mut code = ExitCode::SUCCESS;
        for (name, build) in begun {
            if !watch.follow(&name, build).await? {
                code = ExitCode::FAILURE;
            }
        }
        Ok(code)
    }

    /// Shows how one rebuild goes until it ends; answers whether its table is the one that is read now.
    async fn follow(&mut self, name: &str, build: u32) -> anyhow::Result<bool> {
        let mut held = Instant::now();
        loop {
            let asked = async {
                let asked = self.desk.ask(Request::Projections).await;
                let standings =
                    all(asked.with_context(|| format!("the rebuild of {name} goes on with the next server"))?)?;
                sleep(LOOK_INTERVAL).await;
                anyhow::Ok(standings)
            };
            let standings = tokio::select! {
                standings = asked => standings.inspect_err(|_| self.page.end())?,
                _ = self.interrupted.recv() => {
                    self.page.end();
                    bail!("{name} goes on being rebuilt; `marvin rebuild {name} --cancel` calls it off");
                }
            };
            let Some(standing) = standings.into_iter().find(|standing| standing.name == name) else {
                bail!("the server does not know {name}: use the same version")
            };
            match outcome(standing, build) {
                Outcome::Going { rebuild, is_held } => {
                    self.page.show(name, &rebuild);
                    if is_held || !self.desk.is_own() {
                        held = Instant::now();
                    } else if held.elapsed() >= self.patience {
                        self.page.end();
                        bail!("{name} is not being rebuilt, since no server runs: the next one that starts does it");
                    }
                }
                outcome => return Ok(self.told(name, outcome)),
            }
        }
    }

    /// Says how it ended; answers whether well.
    fn told(&mut self, name: &str, outcome: Outcome) -> bool {
        self.page.end();
        match outcome {
            Outcome::Done => println!("{name}: rebuilt"),
            Outcome::Stopped(Stopped { position, reason }) => {
                eprintln!("marvin: the rebuild of {name} is stopped at position {position}: {reason}");
                eprintln!("marvin: mend what is wrong and resume it, or skip that event: docs/projections.md says how");
                return false;
            }
            Outcome::CalledOff | Outcome::Going { .. } => {
                eprintln!("marvin: the rebuild of {name} was called off");
                return false;
            }
        }
        true
    }
}

/// What is shown while it goes: a bar on a terminal, else a line now and then.
struct Page {
    is_terminal: bool,
    drawn: bool,
    told: Option<Instant>,
}

impl Default for Page {
    fn default() -> Self {
        Self { is_terminal: stdout().is_terminal(), drawn: false, told: None }
    }
}

impl Page {
    fn show(&mut self, name: &str, rebuild: &Rebuild) {
        let line = line(name, rebuild);
        if self.is_terminal {
            // Over what was drawn before, and nothing of it left behind.
            print!("\r{} {line}\x1b[K", bar(rebuild.position, rebuild.target));
            stdout().flush().ok();
            self.drawn = true;
        } else if self.told.is_none_or(|told| told.elapsed() >= LINE_INTERVAL) {
            println!("{line}");
            self.told = Some(Instant::now());
        }
    }

    /// Leaves the bar, if there is one, above what comes.
    fn end(&mut self) {
        if std::mem::take(&mut self.drawn) {
            println!();
        }
    }
}

fn line(name: &str, rebuild: &Rebuild) -> String {
    let Rebuild { position, target, events_per_s, seconds_left, .. } = rebuild;
    let rate = events_per_s.map(|rate| format!(", {rate:.0} events/s")).unwrap_or_default();
    let left = seconds_left.map(|left| format!(", {left} s left")).unwrap_or_default();
    format!("{name}: position {position} of {target}{rate}{left}")
}

fn bar(position: u64, target: u64) -> String {
    let share = if target == 0 { 1.0 } else { (position as f64 / target as f64).min(1.0) };
    let full = (share * BAR_CHARS as f64) as usize;
    format!("[{}{}] {:>3.0}%", "#".repeat(full), ".".repeat(BAR_CHARS - full), (share * 100.0).floor())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::admin::Condition;
    use rstest::rstest;

    fn rebuild(build: u32, stopped: Option<Stopped>) -> Rebuild {
        Rebuild { build, position: 250, target: 1_000, events_per_s: None, seconds_left: None, stopped }
    }

    fn standing(build: Option<u32>, rebuild: Option<Rebuild>) -> Standing {
        Standing {
            name: "tasks".into(),
            version: 2,
            serving_version: build.map(|_| 2),
            build,
            position: 1_000,
            lag: 0,
            state: Condition::Live,
            holder: None,
            stopped: None,
            rebuild,
        }
    }

    #[test]
    fn a_rebuild_ends_with_its_own_table_alone() {
        let stopped = Some(Stopped { position: 251, reason: "no".into() });
        assert!(matches!(outcome(standing(Some(2), None), 2), Outcome::Done));
        assert!(matches!(outcome(standing(Some(3), None), 2), Outcome::Done), "and another one was faster");
        assert!(matches!(outcome(standing(Some(2), Some(rebuild(3, None))), 2), Outcome::Done));
        assert!(matches!(outcome(standing(Some(1), Some(rebuild(2, None))), 2), Outcome::Going { .. }));
        assert!(matches!(outcome(standing(None, Some(rebuild(2, None))), 2), Outcome::Going { .. }));
        assert!(matches!(outcome(standing(Some(1), Some(rebuild(2, stopped))), 2), Outcome::Stopped(_)));
        assert!(matches!(outcome(standing(Some(1), None), 2), Outcome::CalledOff));
    }

    #[test]
    fn a_table_that_stopped_and_still_serves_does_not_end_its_rebuild() {
        let stopped = Some(Stopped { position: 7, reason: "no".into() });
        let standing = Standing { stopped, state: Condition::Stopped, ..standing(Some(1), Some(rebuild(2, None))) };
        assert!(matches!(outcome(standing, 2), Outcome::Going { .. }));
    }

    #[test]
    fn a_line_says_what_is_known() {
        assert_eq!(line("tasks", &rebuild(2, None)), "tasks: position 250 of 1000");
        let paced = Rebuild { events_per_s: Some(99.6), seconds_left: Some(8), ..rebuild(2, None) };
        assert_eq!(line("tasks", &paced), "tasks: position 250 of 1000, 100 events/s, 8 s left");
    }

    #[rstest]
    #[case(0, 1_000, "[..............................]   0%")]
    #[case(499, 1_000, "[##############................]  49%")]
    #[case(1_000, 1_000, "[##############################] 100%")]
    #[case::of_an_empty_log(0, 0, "[##############################] 100%")]
    #[case::beyond_its_target(11, 10, "[##############################] 100%")]
    fn a_bar_is_as_full_as_the_table(#[case] position: u64, #[case] target: u64, #[case] drawn: &str) {
        assert_eq!(bar(position, target), drawn);
    }
}
