//! Server, worker, PostgreSQL and RabbitMQ are killed at random while tasks run whose work is done outside, where each call is
//! written into a store of its own: every task ends, no step runs again behind its record, no effect is missing, and no agent
//! runs more than it may.
//!
//! `make test` runs it short. `make kills` runs it whole: 5,000 tasks and 15 kills of each. `RECOVERY_SEED` repeats a run.
use chrono::{DateTime, Utc};
use marvin_projections::steps::step_id;
use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

use super::{
    doctor::diagnose,
    journal::{self, Event},
    kills::{all_ended, views_reach},
    random::Random,
    support::{Client, Launch},
};

mod history;
mod orders;
mod outside;
mod programs;
mod services;

use history::{History, Recorded, Task};
use orders::{Agents, Kind, Orders};
use outside::Outside;
use programs::{Program, logs};
use services::{Service, Services};

/// Long enough for several programs to start beside each other on a busy machine. What is not there by then will not come.
const PATIENCE: Duration = Duration::from_secs(120);
/// Kills of each, and tasks whose work is done outside, where nobody asks for other numbers.
const KILLS: u64 = 3;
const TASKS: u64 = 300;
/// Calls that are open at each kill, at least.
const RUNNING_MIN: usize = 8;
/// Where too few tasks are left to reach that, so many more are asked for, this often.
const MORE: u64 = 8;
const MORE_AFTER: Duration = Duration::from_secs(3);
/// What was killed comes back within this.
const PAUSE_MS_MAX: u64 = 1_500;
/// One in so many outages of PostgreSQL is longer than any lease.
const LONG_ONE_IN: u64 = 3;
const LONG_PAUSE: Duration = Duration::from_secs(12);
/// Calls stay open this long behind a kill, at most, and behind such an outage: until the others have taken over.
const HELD_MS_MAX: u64 = 300;
const HELD_LONGER: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Server,
    Worker,
    Service(Service),
}

const TARGETS: [Target; 4] =
    [Target::Server, Target::Worker, Target::Service(Service::Postgres), Target::Service(Service::Rabbitmq)];

/// Everything that runs, and may be killed.
struct World {
    services: Services,
    server: Program,
    worker: Program,
}

impl World {
    fn start(launch: &Launch, services: Services) -> Self {
        let (server, worker) = (Program::new("serve", launch), Program::new("worker", launch));
        server.start();
        worker.start();
        Self { services, server, worker }
    }

    fn kill(&self, target: Target) {
        match target {
            Target::Server => self.server.kill(),
            Target::Worker => self.worker.kill(),
            Target::Service(service) => self.services.kill(service),
        }
    }

    /// Comes back once it is up.
    fn bring_back(&self, target: Target) {
        match target {
            Target::Server => self.server.start(),
            Target::Worker => self.worker.start(),
            Target::Service(service) => self.services.restart(service),
        }
    }
}

/// A number from the environment.
fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// One that no outgoing connection takes while the server is away.
fn free_port(random: &mut Random) -> u16 {
    let drawn = || 20_000 + u16::try_from(random.below(12_000)).unwrap();
    std::iter::repeat_with(drawn).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

fn shuffled(kills: u64, random: &mut Random) -> Vec<Target> {
    let mut targets: Vec<Target> = (0..kills).flat_map(|_| TARGETS).collect();
    for last in (1..targets.len()).rev() {
        targets.swap(last, usize::try_from(random.below(last as u64 + 1)).unwrap());
    }
    targets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_everything_repeat_lose_and_overrun_nothing() {
    let begun = Instant::now();
    let mut random = Random::printed();
    let (kills, tasks) = (number("RECOVERY_KILLS", KILLS), number("RECOVERY_TASKS", TASKS));
    fs::remove_dir_all(logs()).ok();
    fs::create_dir_all(logs()).unwrap();
    let services = Services::start();
    let outside = Outside::start().await;
    let launch = Launch::with_admin()
        .reaching_loopback()
        .set("MARVIN_LISTEN", &format!("127.0.0.1:{}", free_port(&mut random)))
        .set("MARVIN_INSTANCE", "outages")
        .set("MARVIN_DATABASE_URL", &services.postgres)
        .set("MARVIN_AMQP_URL", &services.rabbitmq);
    let world = Arc::new(World::start(&launch, services));
    let admin = world.server.admin().await;
    let agents = Agents::create(&admin, &outside).await;
    // A view that nothing stands in would prove nothing.
    admin.schedule(&agents.id(Kind::Starter).to_string()).await;
    let orders = Orders::new(random.next(), tasks, agents.clone());
    let killing = async {
        let killed = kill_all(&world, &outside, &orders, shuffled(kills, &mut random), &mut random).await;
        orders.allow(tasks);
        killed
    };
    let (killed, ()) = tokio::join!(killing, orders.submit_all(&admin));
    assert_eq!(killed, TARGETS.map(|target| (target, kills)).into());
    is_well(&admin).await;
    let events = all_ended(&admin).await;
    println!("{tasks} tasks ended after {:?}", begun.elapsed());
    check(&events, &orders, &agents, &outside);
    let head = events.last().unwrap().position;
    views_reach(&admin, head).await;
    world.worker.stop();
    diagnose(&world.server.stop()).expect_equal(head);
    println!("all is checked after {:?}", begun.elapsed());
}

/// Kills the targets one after the other, each while enough runs, and has each come back by itself. Answers how often each was.
async fn kill_all(
    world: &Arc<World>,
    outside: &Outside,
    orders: &Orders,
    targets: Vec<Target>,
    random: &mut Random,
) -> BTreeMap<Target, u64> {
    let (mut killed, mut coming_back) = (BTreeMap::new(), BTreeMap::new());
    let kills = targets.len() as u64;
    for (target, number) in targets.into_iter().zip(1..) {
        let (begun, stretch) = (Instant::now(), orders.count / (kills + 1));
        orders.allow(stretch * number);
        if let Some(back) = coming_back.remove(&target) {
            back_again(target, back).await;
        }
        // What was asked for before may still be under way, or some of this stretch may be done already.
        let before = orders.wide(stretch * (number - 1)) as u64 + random.below(stretch);
        let enough = usize::try_from(before.saturating_sub(stretch / 2)).unwrap();
        within("enough is done", outside.answered(enough)).await;
        outside.hold(true);
        let running = enough_running(outside, orders).await;
        let (worked, killing) = (world.clone(), target);
        tokio::task::spawn_blocking(move || worked.kill(killing)).await.unwrap();
        let pause = pause(target, random);
        println!(
            "kill {number}: {target:?}, {running} running, {:?} after the one before, away {pause:?}",
            begun.elapsed()
        );
        *killed.entry(target).or_default() += 1;
        let back = world.clone();
        let back = tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            tokio::task::spawn_blocking(move || back.bring_back(target)).await.unwrap();
        });
        let held = if pause == LONG_PAUSE {
            // Whoever runs a task is not to outlive its lease, although nobody can tell it that this has run out.
            back_again(target, back).await;
            HELD_LONGER
        } else {
            coming_back.insert(target, back);
            Duration::from_millis(random.below(HELD_MS_MAX))
        };
        tokio::time::sleep(held).await;
        outside.hold(false);
    }
    for (target, back) in coming_back {
        back_again(target, back).await;
    }
    killed
}

async fn back_again(target: Target, back: tokio::task::JoinHandle<()>) {
    within(&format!("{target:?} is back"), back).await.unwrap();
}

async fn within<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Waits until enough calls are open, and answers how many.
async fn enough_running(outside: &Outside, orders: &Orders) -> usize {
    let begun = Instant::now();
    loop {
        if let Ok(running) = tokio::time::timeout(MORE_AFTER, outside.open(RUNNING_MIN)).await {
            return running;
        }
        let answered = outside.answered_now();
        assert!(begun.elapsed() < PATIENCE, "fewer than {RUNNING_MIN} tasks run, and {answered} are answered");
        orders.allow_more(MORE);
    }
}

fn pause(target: Target, random: &mut Random) -> Duration {
    let pause = Duration::from_millis(random.below(PAUSE_MS_MAX));
    match target {
        Target::Service(Service::Postgres) if random.below(LONG_ONE_IN) == 0 => LONG_PAUSE,
        _ => pause,
    }
}

/// Everything that was killed is used again, by everyone.
async fn is_well(admin: &Client) {
    let begun = Instant::now();
    loop {
        let ready = admin.get("/readyz").await;
        let degraded = ready.json()["degraded"].clone();
        if ready.status == 200 && degraded.as_array().is_some_and(Vec::is_empty) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not become well again: {}", ready.json());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn check(events: &[Event], orders: &Orders, agents: &Agents, outside: &Outside) {
    journal::check_contiguous(events);
    let tasks = journal::tasks(events);
    let acknowledged = orders.acknowledged.lock().unwrap();
    let asked: BTreeMap<u64, String> =
        tasks.values().filter(|task| task.parent.is_none()).map(|task| (task.marker, task.id.to_owned())).collect();
    assert_eq!(asked, *acknowledged, "each order is one task");
    let mut seen = Vec::with_capacity(tasks.len());
    for task in tasks.values() {
        let kind = agents.kind(task.agent);
        journal::check_journal(task, kind.steps());
        let children: Vec<_> = tasks.values().filter(|child| child.parent == Some(task.id)).collect();
        assert_eq!(children.len(), usize::from(kind == Kind::Starter), "task {}", task.id);
        let id = Uuid::parse_str(task.id).unwrap();
        let steps = task.events.iter().filter(|event| event.kind == "task.step_completed" && kind != Kind::Starter);
        let last = task.events.last().unwrap().kind.clone();
        seen.push(Task { id, last, steps: steps.map(|event| recorded(id, event)).collect() });
    }
    let history = History { tasks: seen, done: outside.done(), limits: agents.limits() };
    assert_eq!(history.faults(), []);
    assert_eq!(outside.complaints(), Vec::<String>::new());
    let most: Vec<_> = [Kind::Single, Kind::Few, Kind::Many].map(|kind| history.most_at_once(agents.id(kind)).0).into();
    // How many there are at once beyond one is left to chance; that none was more than allowed is looked at above.
    assert!(most[0] == 1 && most[1] > 1, "agents were at work: {most:?}");
    let cut = history.done.iter().filter(|done| done.answer.is_none()).count();
    let asked = history.done.iter().filter(|done| done.asked.is_some()).count();
    let lost = events.iter().filter(|event| event.kind == "task.heartbeat_lost").count();
    println!(
        "{} events, {} tasks, {asked} calls of which {cut} were cut off, {lost} attempts lost, at once: {most:?}",
        events.len(),
        tasks.len()
    );
}

fn recorded(task: Uuid, event: &Event) -> Recorded {
    let number = |fact: &str| u32::try_from(event.facts[fact].as_u64().unwrap()).unwrap();
    let at: DateTime<Utc> = event.time.parse().unwrap();
    Recorded {
        step: step_id(task, number("step")),
        attempt: number("attempt"),
        at_ms: at.timestamp_millis(),
        result: event.personal["result"].clone(),
    }
}
