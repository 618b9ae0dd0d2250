//! `marvin backup DIR`: a copy of the log and of the store of subjects as they stand at one moment, also while serving.
use anyhow::Context;
use std::{path::Path, process::ExitCode};

use super::ask::carry_out;
use crate::{
    config::Settings,
    control::{Answer, Request},
};

/// # Errors
/// When there is no backup, in words.
pub fn run(settings: &Settings, directory: &Path) -> anyhow::Result<ExitCode> {
    let directory = std::path::absolute(directory).context("the directory cannot be used")?;
    let answer = carry_out(settings, Request::BackUp { directory: directory.clone() })?;
    let Answer::BackedUp { events, key_file } = answer else { anyhow::bail!("the server did something else") };
    println!("log.db with {events} events and subjects.db are in {}", directory.display());
    println!("the key is not: without a copy of {}, kept elsewhere, nothing in them can be read", key_file.display());
    Ok(ExitCode::SUCCESS)
}
