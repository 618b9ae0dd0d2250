//! Celery as the reference for whole tasks: its worker of two processes, and a program that makes round trips as it is told.
use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// Where its Python is; `.ci/bench` sets it.
const PYTHON_VARIABLE: &str = "MARVIN_BENCH_PYTHON";
const PROCESSES: &str = "2";

/// Stopped when dropped.
pub struct Celery {
    worker: Child,
    driver: Child,
    told: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Celery {
    /// Both on this broker, results as messages of the same broker.
    pub fn start(amqp: &str) -> Self {
        let python = std::env::var(PYTHON_VARIABLE).expect("set by '.ci/bench': a Python with Celery");
        let begin = |arguments: &[&str]| {
            let mut command = Command::new(&python);
            command.args(arguments).current_dir(directory()).env("PYTHONDONTWRITEBYTECODE", "1");
            command.env("CELERY_BROKER", amqp).env("CELERY_BACKEND", "rpc://");
            command
        };
        let worker = ["-m", "celery", "-A", "tasks", "worker", "-P", "prefork", "-c", PROCESSES, "--loglevel=ERROR"];
        let worker = begin(&worker).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("Celery starts");
        let mut driver = begin(&["drive.py"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let (told, answers) = (driver.stdin.take().expect("a pipe"), driver.stdout.take().expect("a pipe"));
        Self { worker, driver, told, answers: BufReader::new(answers) }
    }

    /// Seconds of a round trip, `in_flight` of them under way at a time.
    pub fn together(&mut self, count: usize, in_flight: usize) -> f64 {
        self.ask(&format!("together {count} {in_flight}"))
    }

    /// The median time of a round trip that is alone.
    pub fn alone(&mut self, count: usize) -> f64 {
        self.ask(&format!("alone {count}"))
    }

    fn ask(&mut self, words: &str) -> f64 {
        writeln!(self.told, "{words}").expect("it reads");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        answer.trim().parse().expect("it answers a number unless a result was wrong, which it says above")
    }
}

impl Drop for Celery {
    fn drop(&mut self) {
        for child in [&mut self.driver, &mut self.worker] {
            // The worker's processes end with it when it is asked to end, and only then.
            let asked = Command::new("kill").arg(child.id().to_string()).status();
            drop(asked.and_then(|_| child.wait()));
        }
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/celery")
}
