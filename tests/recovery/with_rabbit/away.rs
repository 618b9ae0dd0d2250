//! A broker that is away: tasks are done all the same, and no event is left out once it is back.
use super::{
    super::support::{
        eventually,
        proxy::{Proxy, Weather},
    },
    *,
};

/// A proxy in front of the shared broker, and the URL through it.
pub(super) async fn proxied() -> (Proxy, String) {
    let url = shared();
    let address = url.rsplit_once('@').unwrap().1.split('/').next().unwrap().to_owned();
    let proxy = Proxy::to(address.clone()).await;
    let through = url.replace(&address, &proxy.address.to_string());
    (proxy, through)
}

async fn degraded(admin: &Client) -> BTreeSet<String> {
    let ready = admin.get("/readyz").await.expect(200).json();
    ready["degraded"].as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap().to_owned()).collect()
}

fn positions(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| headers(message)["cloudEvents:position"].parse().unwrap()).collect()
}

/// Without repetitions, which the broker may bring; what is left has no gap.
fn check_gapless(mut positions: Vec<u64>) {
    positions.sort_unstable();
    positions.dedup();
    let (first, last) = (positions[0], *positions.last().unwrap());
    assert_eq!(positions, (first..=last).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_happens_while_the_broker_is_away_is_done_and_told_later() {
    let (proxy, url) = proxied().await;
    let scene = Scene::at(&url);
    let mut outside = scene.bound("#").await;
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agent = echo(&admin).await;
    admin.task_done(&agent, json!({ "text": "before" })).await;
    let mut told = until(&mut *outside, "marvin.task.completed.v1").await;
    proxy.set(Weather::Cut);
    eventually("it is told that the broker is away", async || {
        // Something to say, so that the relay notices.
        admin.task_done(&agent, json!({ "text": "away" })).await;
        let degraded = degraded(&admin).await;
        (degraded.contains("broker") && degraded.contains("relay")).then_some(())
    })
    .await;
    for text in 0..5 {
        let task = admin.task_done(&agent, json!({ "text": text.to_string() })).await;
        assert_eq!(task["status"], "completed");
    }
    proxy.set(Weather::Fine);
    eventually("it is well again", async || degraded(&admin).await.is_empty().then_some(())).await;
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    told.extend(until(&mut *outside, "marvin.agent.paused.v1").await);
    check_gapless(positions(&told));
}

#[tokio::test]
async fn a_server_starts_without_its_broker_and_takes_it_up_when_it_comes() {
    let (proxy, url) = proxied().await;
    proxy.set(Weather::Silent);
    let scene = Scene::at(&url);
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agent = echo(&admin).await;
    assert_eq!(admin.task_done(&agent, json!({ "text": "alone" })).await["status"], "completed");
    eventually("it is told", async || degraded(&admin).await.contains("broker").then_some(())).await;
    proxy.set(Weather::Cut);
    proxy.set(Weather::Fine);
    eventually("it is taken up", async || degraded(&admin).await.is_empty().then_some(())).await;
    eventually("work comes by it", async || {
        admin.task_done(&agent, json!({ "text": "together" })).await;
        (Metrics::of(&server).await.sum("marvin_work_messages_total") > 0).then_some(())
    })
    .await;
}

/// The relay goes on where it was: what was appended just before a crash is told behind it.
#[tokio::test]
async fn a_kill_leaves_no_event_untold() {
    let scene = Scene::new();
    let mut outside = scene.bound("#").await;
    let mut server = scene.launch.clone().start();
    let mut admin = Client::admin(&server).await;
    let agent = echo(&admin).await;
    for round in 0..6 {
        for text in 0..8 {
            admin.submit(&agent, json!({ "text": format!("{round}.{text}") })).await;
        }
        server = server.kill9().start();
        admin = admin.at(&server);
    }
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    let told = until(&mut *outside, "marvin.agent.paused.v1").await;
    let submitted: BTreeSet<_> = told
        .iter()
        .filter(|message| headers(message)["cloudEvents:type"] == "marvin.task.submitted.v1")
        .map(|message| message.id)
        .collect();
    assert_eq!(submitted.len(), 48);
    check_gapless(positions(&told));
}
