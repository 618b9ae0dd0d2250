//! The programs under `examples/` that listen to the broker, each run as whoever reads them would run it.
use std::process::Command;

use super::{
    super::outside::{Outside, root},
    *,
};

mod events;
mod worker;

/// A program in Python with what it needs.
fn python(name: &str) -> Command {
    let python = root().join("examples/.venv/bin/python");
    assert!(python.exists(), "the examples' packages are needed: make venv");
    let mut command = Command::new(python);
    command.arg(root().join("examples").join(name)).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// As whoever sent it knows nothing of Marvin.
fn foreign(headers: &[(&str, &str)], body: &[u8]) -> Message {
    Message {
        id: Uuid::now_v7(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        content_type: "application/json".into(),
        body: body.to_vec().into(),
    }
}

/// What no program can read, for a channel.
fn poison(channel: &str) -> Vec<Message> {
    let hour = chrono::Utc::now().timestamp() / 3600;
    vec![
        foreign(&[], b""),
        foreign(&[], br#"{"facts": {}}"#),
        foreign(&[("marvin-key", &format!("{channel}/1"))], &[0; 100]),
        foreign(&[("marvin-key", &format!("{channel}/{hour}")), ("cloudEvents:position", "7")], &[0xff; 100]),
        foreign(&[("marvin-key", &format!("{channel}/{hour}"))], b"short"),
        foreign(&[("marvin-key", &format!("{channel}/{}", hour + 1))], &[0; 2 * 1024 * 1024]),
        foreign(&[("marvin-key", "\u{0}/é")], &[0; 100]),
    ]
}
