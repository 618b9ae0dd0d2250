//! The server is killed again and again while it works, and nothing that it acknowledged is lost, doubled or left behind.
use std::{collections::BTreeMap, time::Instant};

use super::{
    doctor::diagnose,
    journal::{self, Event, Task},
    load::{Agents, Kind, Load, SLOW_AT_ONCE, moved},
    random::Random,
    support::{Client, Server, eventually},
};

mod rebuilding;

const KILLS: usize = 5;
/// Tasks acknowledged between two kills, at least.
const ACKNOWLEDGED_MIN: usize = 200;
/// Events that surely come within the deadline of a wait while there is work: a handful of the slowest tasks.
const STRETCH_EVENTS: usize = 20;
/// The kill falls at random within so many further tasks.
const ACKNOWLEDGED_SPREAD: u64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn five_kills_lose_double_and_leave_behind_nothing() {
    let mut random = Random::printed();
    let mut server = Server::start();
    let admin = Client::admin(&server).await;
    let mut people = vec![admin.clone()];
    for name in ["bea", "carl"] {
        people.push(admin.colleague(name, &["member"]).await);
    }
    let agents = Agents::create(&admin).await;
    let load = Load::new(random.next(), agents.clone());
    for kill in 1..=KILLS {
        server = kill_once(server, &mut people, &load, &mut random, kill).await;
    }
    let events = all_ended(&people[0]).await;
    check_log(&events, &load, &agents, &people);
    load.repeat_all(&people).await;
    let mut again = events.clone();
    journal::read_on(&people[0], &mut again).await;
    assert_eq!(again.len(), events.len(), "a repeated key appends nothing");
    let head = events.last().unwrap().position;
    views_reach(&people[0], head).await;
    diagnose(server.stop().launch()).expect_equal(head);
}

/// Works until enough is acknowledged and tasks run, kills, starts again, and asks again what was never answered.
async fn kill_once(server: Server, people: &mut Vec<Client>, load: &Load, random: &mut Random, kill: usize) -> Server {
    let before = load.count();
    let enough = before + ACKNOWLEDGED_MIN + usize::try_from(random.below(ACKNOWLEDGED_SPREAD)).unwrap();
    let admin = people[0].clone();
    let killing = async {
        let running = eventually("enough is acknowledged and tasks run", async || {
            let running = admin.get("/api/v1/tasks?status=running").await.expect(200).items().len();
            (load.count() >= enough && running > 0).then_some(running)
        });
        let running = running.await;
        (server.kill9(), running)
    };
    let begun = Instant::now();
    let ((stopped, running), ()) = tokio::join!(killing, load.submit_until_it_dies(people));
    let acknowledged = load.count() - before;
    assert!(acknowledged >= ACKNOWLEDGED_MIN, "{acknowledged}");
    let unknown = load.unknown.lock().unwrap().len();
    assert!(unknown > 0, "the kill met nobody submitting");
    let server = stopped.start();
    *people = moved(people, &server);
    let there = load.settle(people, people[0].head().await).await;
    println!(
        "kill {kill} after {:?}: {acknowledged} acknowledged, {running} seen running, {unknown} unanswered of which {there} stood in the log",
        begun.elapsed()
    );
    server
}

/// Waits until nothing is left to do, and answers the whole log. Each further stretch of it may take as long as any state.
pub async fn all_ended(auditor: &Client) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let begun = events.len();
        let finished = eventually("the log goes on until all is done", async || {
            let before = events.len();
            journal::read_on(auditor, &mut events).await;
            // Looked at only once nothing new comes: the tests must not be the load.
            let finished = events.len() == before && is_finished(&events);
            (finished || events.len() >= begun + STRETCH_EVENTS).then_some(finished)
        });
        if finished.await {
            return events;
        }
    }
}

fn is_finished(events: &[Event]) -> bool {
    let tasks = journal::tasks(events);
    let told = events.iter().filter(|event| is_end_told(event)).count();
    tasks.values().all(Task::has_ended) && told >= tasks.len()
}

fn is_end_told(event: &Event) -> bool {
    event.personal["title"].as_str().is_some_and(|title| title.ends_with("finished your task"))
}

fn check_log(events: &[Event], load: &Load, agents: &Agents, people: &[Client]) {
    journal::check_contiguous(events);
    let tasks = journal::tasks(events);
    let mut asked: BTreeMap<u64, &str> = BTreeMap::new();
    for task in tasks.values().filter(|task| task.parent.is_none()) {
        assert!(asked.insert(task.marker, task.id).is_none(), "order {} is there twice", task.marker);
    }
    let acknowledged = load.acknowledged.lock().unwrap();
    let answered: BTreeMap<u64, &str> = acknowledged.iter().map(|(order, id)| (order.marker, id.as_str())).collect();
    let lost: Vec<_> = answered.iter().filter(|(marker, id)| asked.get(marker) != Some(id)).collect();
    assert!(lost.is_empty(), "acknowledged and not in the log: {lost:?}");
    assert_eq!(asked.len(), answered.len(), "the log holds no other task");
    let told = journal::notifications(events);
    for task in tasks.values() {
        check_task(task, &tasks, &told, agents);
        assert!(people.iter().any(|person| person.user_id() == task.requester));
    }
    let most = journal::check_concurrency(events, agents);
    assert_eq!(most[&Kind::Slow], SLOW_AT_ONCE as usize, "the limit was reached, so that it was tried");
    let runs = journal::lost_attempts(events);
    let lost: Vec<usize> = runs.iter().map(|(_, lost)| lost.len()).collect();
    println!("{} events, {} tasks, attempts lost by run: {lost:?}, at once: {most:?}", events.len(), tasks.len());
    if std::env::var_os("MARVIN_TEST_STORE").is_some() {
        // Leases of a dead node run out in their own time, perhaps only after the next kill.
        assert!(lost.iter().sum::<usize>() >= KILLS, "tasks were running at the kills: {lost:?}");
        return;
    }
    assert_eq!(runs.len(), KILLS + 1);
    assert!(lost[..KILLS].iter().all(|lost| *lost > 0), "tasks were running at each kill: {lost:?}");
    assert_eq!(lost[KILLS], 0, "a run that nobody kills loses nothing");
}

/// The task did what its kind does: each step, each notification and each further task once.
fn check_task(
    task: &Task<'_>,
    tasks: &BTreeMap<&str, Task<'_>>,
    told: &BTreeMap<&str, Vec<(&str, &str)>>,
    agents: &Agents,
) {
    let kind = agents.kind(task.agent);
    let marker = task.marker;
    let (steps, mut titles): (&[&str], Vec<String>) = match kind {
        Kind::Slow | Kind::Quick => (&[], vec![]),
        Kind::Child => (&["evaluate", "notify"], vec![format!("child {marker}")]),
        Kind::Rules => {
            (&["evaluate", "notify", "task", "notify"], vec![format!("first {marker}"), format!("last {marker}")])
        }
    };
    journal::check_journal(task, steps);
    titles.push(format!("{kind:?} finished your task"));
    titles.sort_unstable();
    let expected: Vec<(&str, &str)> = titles.iter().map(|title| (task.requester, title.as_str())).collect();
    assert_eq!(told[task.id], expected, "task {}", task.id);
    let children: Vec<_> = tasks.values().filter(|child| child.parent == Some(task.id)).collect();
    assert_eq!(children.len(), usize::from(kind == Kind::Rules), "task {}", task.id);
    assert!(children.iter().all(|child| child.marker == marker && child.requester == task.requester));
}

/// Waits until every view shows what the log holds.
pub async fn views_reach(admin: &Client, head: u64) {
    for list in ["agents", "tasks", "users", "notifications"] {
        eventually(list, async || {
            let answer = admin.get_at(&format!("/api/v1/{list}?limit=1"), head).await;
            (answer.status == 200).then_some(())
        })
        .await;
    }
}
