//! Tasks: how fast whole ones are done beside Celery, how fast the broker is told, what a forecast costs, and whether very many
//! schedules that are due at once fire once each.
use marvin::security::cipher::Suite;
use std::{path::Path, sync::Arc};
use tokio::runtime::Runtime;

#[path = "support/app.rs"]
#[allow(dead_code, reason = "each program uses its part")]
mod app;
#[path = "tasks/celery.rs"]
mod celery;
#[path = "tasks/due.rs"]
mod due;
#[path = "tasks/forecast.rs"]
mod forecast;
#[path = "tasks/relay.rs"]
mod relay;
#[path = "support/mod.rs"]
mod support;
#[path = "tasks/whole.rs"]
mod whole;
use app::Served;
use celery::Celery;
use support::{Ratio, Target, note, sample::Keys, setting, take_turns};
use whole::Whole;

const ROUNDS: usize = 7;
/// Tasks of a round, and how many are under way at a time.
const TASKS: usize = 1_600;
const IN_FLIGHT: usize = 32;
/// Tasks of a round that are alone.
const LONE_TASKS: usize = 100;

fn main() {
    let runtime = Runtime::new().expect("a runtime starts");
    let rounds = setting("MARVIN_BENCH_ROUNDS", ROUNDS);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on the disk of the build");
    let amqp = std::env::var("MARVIN_TEST_AMQP").expect("set by '.ci/services run'");
    let parts = std::env::var("MARVIN_BENCH_PARTS").unwrap_or_else(|_| "forecast due relay whole".into());
    let wants = |part: &str| parts.contains(part);
    if wants("forecast") {
        forecast::forecast(rounds);
    }
    if wants("due") {
        due::fire(&runtime, &directory.path().join("due"));
    }
    if wants("relay") {
        let keys = Arc::new(runtime.block_on(Keys::new(directory.path(), Suite::default())));
        relay::tell(&runtime, rounds, &keys, &directory.path().join("relay"), &amqp);
    }
    if wants("whole") {
        let mut celery = Celery::start(&amqp);
        whole(&runtime, rounds, "embedded", &directory.path().join("embedded"), &[], 3.0, &mut celery);
        let (database, redis) = (variable("MARVIN_TEST_POSTGRES"), variable("MARVIN_TEST_REDIS"));
        let services = [
            ("MARVIN_DATABASE_URL", &*database),
            ("MARVIN_REDIS_URL", &*redis),
            ("MARVIN_AMQP_URL", &*amqp),
            ("MARVIN_INSTANCE", "bench_tasks"),
        ];
        whole(&runtime, rounds, "on services", &directory.path().join("node"), &services, 1.5, &mut celery);
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).expect("set by '.ci/services run'")
}

fn whole(
    runtime: &Runtime,
    rounds: usize,
    mode: &str,
    directory: &Path,
    settings: &[(&str, &str)],
    target: f64,
    celery: &mut Celery,
) {
    let mut whole = Whole::new(runtime, Served::start(runtime, directory, settings), IN_FLIGHT);
    let times = take_turns(rounds, || celery.together(TASKS, IN_FLIGHT), || whole.together(runtime, TASKS, IN_FLIGHT));
    note(&format!("{:.0} whole tasks a second {mode}", 1.0 / times.ours()));
    times.report(
        &format!("whole tasks, {IN_FLIGHT} in flight, {mode}, to Celery"),
        Target::AtLeast(target),
        Ratio::Rate,
    );
    take_turns(rounds, || celery.alone(LONE_TASKS), || whole.alone(runtime, LONE_TASKS)).report(
        &format!("whole task alone, {mode}, latency to Celery"),
        Target::AtMost(4.0),
        Ratio::Time,
    );
    whole.served.stop(runtime);
}
