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
        Command::Doctor { views, .. } => cli::doctor::run(&settings, views),
        Command::Backup { directory, .. } => cli::backup::run(&settings, &directory),
        Command::Keys(Keys::Rotate { .. }) => cli::keys::rotate(&settings),
    }
}
