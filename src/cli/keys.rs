//! `marvin keys rotate`: a new key-encryption key, also while serving.
use std::process::ExitCode;

use super::ask::carry_out;
use crate::{
    config::Settings,
    control::{Answer, Request},
};

/// # Errors
/// When the rotation is not finished, in words; the key file opens everything then.
pub fn rotate(settings: &Settings) -> anyhow::Result<ExitCode> {
    let Answer::Rotated { keys, key_file } = carry_out(settings, Request::RotateKeys)? else {
        anyhow::bail!("the server did something else")
    };
    println!("{keys} keys were rewrapped under the new key in {}", key_file.display());
    println!("copy that file again, to every other node too; backups made before still need it as it was");
    Ok(ExitCode::SUCCESS)
}
