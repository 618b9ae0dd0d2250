//! A program outside that works with Marvin, run as whoever wrote it would run it.
use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::support::{ADMIN_EMAIL, ADMIN_PASSWORD, DEADLINE};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a program has said, by line.
type Lines = Arc<Mutex<Vec<String>>>;

/// It ends with the test.
pub struct Outside {
    child: Child,
    printed: Lines,
    /// What it printed, and what it complained of.
    said: Lines,
}

impl Outside {
    /// Runs the program, which signs in at `url` as the admin.
    pub fn start(mut command: Command, url: &str) -> Self {
        let mut child = command
            .env("MARVIN_URL", url)
            .env("MARVIN_EMAIL", ADMIN_EMAIL)
            .env("MARVIN_PASSWORD", ADMIN_PASSWORD)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} can be run: {error}"));
        let (printed, said) = (Lines::default(), Lines::default());
        keep(child.stdout.take().unwrap(), vec![printed.clone(), said.clone()]);
        keep(child.stderr.take().unwrap(), vec![said.clone()]);
        Self { child, printed, said }
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    pub fn printed(&self) -> Vec<String> {
        self.printed.lock().unwrap().clone()
    }

    pub fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    pub async fn says(&self, words: &str) {
        let begun = Instant::now();
        while !self.said().contains(words) {
            assert!(begun.elapsed() < DEADLINE, "it does not say {words:?}, but {}", self.said());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn ended(mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < DEADLINE, "it does not end; it said {}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn keep(stream: impl Read + Send + 'static, kept: Vec<Lines>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            kept.iter().for_each(|lines| lines.lock().unwrap().push(line.clone()));
        }
    });
}
