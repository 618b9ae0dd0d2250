//! A person who stops watching a rebuild does not stop the rebuild.
use marvin::duty::{Duties, postgres::PostgresDuties};
use marvin::views::{State, ViewStore, postgres::PostgresViews};
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};
use uuid::Uuid;

use super::support::{Database, Launch};

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_a_rebuild_going_and_says_how_to_call_it_off() {
    let database = Database::shared();
    let launch = Launch::with_admin().on(&database);
    launch.clone().start().stop();
    let postgres = database.prepare().await;
    // Another node that has the duty, and never comes to an end.
    let duties = PostgresDuties(postgres.clone());
    let held = duties.take("projector:agents:1", Uuid::now_v7(), Duration::from_secs(600)).await.unwrap();
    assert!(held.is_some());
    let mut command = launch.command(&["rebuild", "agents"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut first = || lines.next().unwrap().unwrap();
    let told = tokio::task::block_in_place(&mut first);
    assert!(told.starts_with("agents: position 0 of "), "{told}");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ended = tokio::task::block_in_place(|| child.wait_with_output()).unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("agents goes on being rebuilt; `marvin rebuild agents --cancel` calls it off"), "{said}");
    let rows = PostgresViews::new(postgres).tables().await.unwrap();
    assert!(rows.iter().any(|row| row.table.name == "agents" && row.state == State::Building));
}
