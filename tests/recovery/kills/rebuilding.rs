//! A server is killed in the middle of a rebuild, at one point after another, while people work.
use marvin::views::{State, TableRow};
use serde_json::{Value, json};

use super::views_reach;
use crate::{
    doctor::diagnose,
    planting::{many_agents, stores},
    support::{Client, Launch, Server, eventually},
};

/// The one whose rebuild is killed comes last, so that it has only begun when it is looked at.
const PROJECTIONS: [&str; 6] = ["tasks", "steps", "users", "inbox", "schedules", "agents"];
/// Agents that a debug build folds for a second or two.
const AGENTS: usize = 20_000;
/// The kills fall behind one fifth of the log, two fifths, and so on.
const KILLS: u64 = 4;
/// A rebuild that was done before the kill met it is begun again, so often.
const TRIES_MAX: usize = 10;

/// What the registry says of the agents' tables, as whoever was killed left it.
async fn tables(launch: &Launch) -> Vec<TableRow> {
    let stores = stores(launch).await;
    let rows = stores.views.tables().await.unwrap();
    stores.close().await;
    rows.into_iter().filter(|row| row.table.name == "agents").collect()
}

async fn agents(admin: &Client) -> Value {
    admin.get("/api/v1/projections/agents").await.expect(200).json()
}

/// Kills the server while the agents' new table is filled, behind the event at `point`. Answers the build that was being filled, and
/// how far it was.
async fn kill_behind(point: u64, mut server: Server, admin: &Client, end: u64) -> (Server, u32, u64) {
    for _ in 0..TRIES_MAX {
        let here = admin.at(&server);
        for name in PROJECTIONS {
            here.order(&format!("/api/v1/projections/{name}/rebuild")).await.expect(202);
        }
        eventually("the rebuild has come so far", async || {
            let rebuild = &agents(&here).await["rebuild"];
            (rebuild.is_null() || rebuild["position"].as_u64() >= Some(point)).then_some(())
        })
        .await;
        let stopped = server.kill9();
        let tables = tables(stopped.launch()).await;
        server = stopped.start();
        let filled = tables.iter().find(|row| row.state == State::Building);
        if let Some(row) = filled.filter(|row| (point..end).contains(&row.checkpoint.position)) {
            return (server, row.table.build, row.checkpoint.position);
        }
    }
    panic!("each rebuild was done before it could be killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_goes_on_where_it_was_killed_and_ends_as_if_nothing_had_happened() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.schedule(&agent).await;
    admin.task_done(&agent, json!({ "marker": 0 })).await;
    let stopped = server.stop();
    let end = many_agents(stopped.launch(), AGENTS).await;
    let mut server = stopped.start();
    views_reach(&admin.at(&server), end).await;
    let (mut tasks, mut killed) = (Vec::new(), Vec::<(u32, u64)>::new());
    for kill in 1..=KILLS {
        tasks.push(admin.at(&server).submit(&agent, json!({ "marker": kill })).await.id());
        // And behind the kill before: where a dead process has the duty for some seconds, it has to be taken up first.
        let reached = killed.last().map_or(0, |(_, reached)| *reached);
        let point = (end * kill / (KILLS + 1)).max(reached + 1);
        let (next, build, position) = kill_behind(point, server, &admin, end).await;
        println!("kill {kill} fell behind position {position} of build {build}");
        let going = agents(&admin.at(&next)).await["rebuild"]["position"].as_u64();
        assert!(going.is_none_or(|going| going >= position), "it began anew: {position}, then {going:?}");
        killed.push((build, position));
        server = next;
    }
    let admin = admin.at(&server);
    let (build, _) = *killed.last().unwrap();
    for name in PROJECTIONS {
        eventually("nothing is being rebuilt any more", async || {
            let standing = admin.get(&format!("/api/v1/projections/{name}")).await.expect(200).json();
            (standing["rebuild"].is_null() && standing["state"] == "live" && standing["lag"] == 0).then_some(())
        })
        .await;
    }
    for task in &tasks {
        assert_eq!(admin.task_ended(task).await["status"], "completed", "{task}");
    }
    // Each was told of once, also the one from before.
    eventually("everyone is told", async || (admin.unread().await == tasks.len() + 1).then_some(())).await;
    let head = admin.head().await;
    views_reach(&admin, head).await;
    let stopped = server.stop();
    let live = tables(stopped.launch()).await.into_iter().find(|row| row.state == State::Live).unwrap();
    assert_eq!(live.table.build, build, "what was killed is what is read now");
    diagnose(stopped.launch()).expect_equal(head);
}
