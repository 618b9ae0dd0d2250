//! What the command line asks for. Each command is one file.
mod ask;
pub mod backup;
pub mod doctor;
pub mod keys;
pub mod rebuild;
pub mod serve;
pub mod worker;
