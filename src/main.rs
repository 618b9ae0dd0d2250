//! Starts the `marvin` program.
fn main() {}
