//! The `marvin` program: reads its settings, runs what was asked, and says in one sentence why it could not.
use clap::Parser;
use marvin::{
    cli,
    config::{Cli, Command, Keys, Settings},
    telemetry,
};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Usage errors end here, with exit code 2.
    let command = Cli::parse().command;
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("marvin: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(command.flags(), std::env::vars_os())?;
    if let Command::Serve { check: true, .. } = command {
        print!("{settings}");
        return Ok(ExitCode::SUCCESS);
    }
    telemetry::init(&settings.log, settings.log_format)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    match command {
        Command::Serve { .. } => cli::serve::run(&settings).map(|()| ExitCode::SUCCESS),
        Command::Worker { .. } => cli::worker::run(&settings).map(|()| ExitCode::SUCCESS),
        Command::Doctor { views, accept_rollback, .. } => cli::doctor::run(&settings, views, accept_rollback),
        Command::Rebuild { name, cancel, .. } => {
            // The grammar asks for one name or for all.
            let all = || marvin_projections::all().iter().map(|fold| fold.name().to_owned()).collect();
            cli::rebuild::run(&settings, &name.map_or_else(all, |name| vec![name]), cancel)
        }
        Command::Backup { directory, .. } => cli::backup::run(&settings, &directory),
        Command::Keys(Keys::Rotate { .. }) => cli::keys::rotate(&settings),
    }
}
