//! `marvin doctor --views` as a fresh process: every document against a replay of the log into an empty store.
use std::collections::BTreeMap;

use super::support::Launch;

/// What it said of a stopped server's data.
#[derive(Debug)]
pub struct Diagnosis {
    pub exit: i32,
    pub text: String,
    /// By view: documents, position, and how many differ.
    pub views: BTreeMap<String, (u64, u64, u64)>,
}

pub fn diagnose(launch: &Launch) -> Diagnosis {
    let output = launch.run(&["doctor", "--views"]);
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let views = text.lines().filter_map(view).collect();
    Diagnosis { exit: output.status.code().unwrap(), text, views }
}

/// Reads `tasks: 12 documents at position 34, 0 differ from a replay`.
fn view(line: &str) -> Option<(String, (u64, u64, u64))> {
    let (name, rest) = line.split_once(": ")?;
    let (documents, rest) = rest.split_once(" documents at position ")?;
    let (position, rest) = rest.split_once(", ")?;
    let differ = rest.strip_suffix(" differ from a replay")?;
    Some((name.to_owned(), (documents.parse().ok()?, position.parse().ok()?, differ.parse().ok()?)))
}

impl Diagnosis {
    /// # Panics
    /// Unless every view has documents, is at `head`, and differs in none of them.
    #[track_caller]
    pub fn expect_equal(&self, head: u64) {
        assert_eq!(self.exit, 0, "{}", self.text);
        let names: Vec<&str> = self.views.keys().map(String::as_str).collect();
        assert_eq!(names, ["agents", "inbox", "tasks", "users"], "{}", self.text);
        for (name, (documents, position, differ)) in &self.views {
            assert!(*documents > 0, "{name} has no documents: {}", self.text);
            assert_eq!((*position, *differ), (head, 0), "{name}: {}", self.text);
        }
    }
}
