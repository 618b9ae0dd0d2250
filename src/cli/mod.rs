//! What the command line asks for. Each command is one file.
pub mod doctor;
pub mod serve;
