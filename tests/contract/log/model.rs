//! Random commands, conflicts, retries, races and crashes: every log answers what a simple list in memory answers.
use futures_util::future::join_all;
use marvin::log::{Append, AppendError, EventLog, StreamAppend};
use marvin_domain::{AggregateKind, StreamId};
use proptest::{collection::vec, prelude::*, sample::Index};
use std::sync::Arc;
use uuid::Uuid;

use super::{Adapter, Subject, all, events, with_digest};

const STREAMS: u128 = 4;

/// Commands that race at most: every order of them is tried on the model.
const RACERS_MAX: usize = 4;

/// What may happen, one after the other.
#[derive(Debug, Clone)]
enum Step {
    /// A new command on some streams, each expected where it is, behind, or ahead.
    Append {
        streams: Vec<Expectation>,
        digest: Option<bool>,
        node: bool,
    },
    /// An earlier command again, perhaps under another digest.
    Repeat {
        which: Index,
        other_digest: bool,
        node: bool,
    },
    /// Several at once. Each is new, or the one before it once more.
    Race(Vec<Racer>),
    /// A new command whose caller goes away at once; then the process ends, and it is sent again after the restart.
    Crash {
        stream: u128,
        count: usize,
    },
    Restart,
}

#[derive(Debug, Clone, Copy)]
struct Expectation {
    stream: u128,
    off_by: i64,
    count: usize,
}

#[derive(Debug, Clone)]
struct Racer {
    streams: Vec<Expectation>,
    is_repeat: bool,
    node: bool,
}

fn racer() -> impl Strategy<Value = Racer> {
    (vec(expectation(), 1..3), prop::bool::weighted(0.3), any::<bool>()).prop_map(|(streams, is_repeat, node)| Racer {
        streams,
        is_repeat,
        node,
    })
}

fn expectation() -> impl Strategy<Value = Expectation> {
    let off_by = prop_oneof![8 => Just(0), 1 => Just(-1), 1 => Just(1)];
    (0..STREAMS, off_by, 1..4usize).prop_map(|(stream, off_by, count)| Expectation { stream, off_by, count })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (vec(expectation(), 1..4), any::<Option<bool>>(), any::<bool>())
            .prop_map(|(streams, digest, node)| Step::Append { streams, digest, node }),
        4 => (any::<Index>(), prop::bool::weighted(0.3), any::<bool>())
            .prop_map(|(which, other_digest, node)| Step::Repeat { which, other_digest, node }),
        4 => vec(racer(), 2..=RACERS_MAX).prop_map(Step::Race),
        1 => (0..STREAMS, 1..4usize).prop_map(|(stream, count)| Step::Crash { stream, count }),
        1 => Just(Step::Restart),
    ]
}

/// What an append answers, without what only a store knows.
#[derive(Debug, PartialEq)]
enum Answer {
    Written { sequence: u64, position: u64 },
    Repeated { sequence: u64, position: u64 },
    Conflict(StreamId),
    Reused,
}

/// The log as a list: each event's stream and command.
#[derive(Default, Clone)]
struct Model {
    events: Vec<(StreamId, Uuid, Uuid)>,
    digests: Vec<(Uuid, Option<String>)>,
}

impl Model {
    fn sequence(&self, stream: StreamId) -> u64 {
        self.events.iter().filter(|event| event.0 == stream).count() as u64
    }

    fn append(&mut self, append: &Append) -> Answer {
        if let Some((_, digest)) = self.digests.iter().find(|known| known.0 == append.command_id) {
            return if *digest == append.digest { self.first_result(append.command_id) } else { Answer::Reused };
        }
        let moved = append.streams.iter().find(|part| self.sequence(part.stream) != part.expected);
        if let Some(part) = moved {
            return Answer::Conflict(part.stream);
        }
        for part in &append.streams {
            self.events.extend(part.events.iter().map(|event| (part.stream, append.command_id, event.event_id)));
        }
        self.digests.push((append.command_id, append.digest.clone()));
        match self.first_result(append.command_id) {
            Answer::Repeated { sequence, position } => Answer::Written { sequence, position },
            other => other,
        }
    }

    fn first_result(&self, command: Uuid) -> Answer {
        let mine = || self.events.iter().enumerate().filter(|(_, event)| event.1 == command);
        let (first, (stream, ..)) = mine().next().unwrap();
        let of_stream = mine().filter(|(_, event)| event.0 == *stream).count();
        let before = self.events[..first].iter().filter(|event| event.0 == *stream).count();
        let position = mine().next_back().unwrap().0 as u64 + 1;
        Answer::Repeated { sequence: (before + of_stream) as u64, position }
    }
}

/// All orders of so many things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![Vec::new()] };
    let with_last = |order: &Vec<usize>| {
        let order = order.clone();
        (0..count).map(move |place| {
            let mut order = order.clone();
            order.insert(place, last);
            order
        })
    };
    orders(last).iter().flat_map(with_last).collect()
}

async fn send(log: &dyn EventLog, append: Append) -> Answer {
    match log.append(append).await {
        Ok(receipt) if receipt.repeated => Answer::Repeated { sequence: receipt.sequence, position: receipt.position },
        Ok(receipt) => Answer::Written { sequence: receipt.sequence, position: receipt.position },
        Err(AppendError::Conflict { stream, .. }) => Answer::Conflict(stream),
        Err(AppendError::Reused { .. }) => Answer::Reused,
        Err(other) => panic!("{other:?}"),
    }
}

struct World {
    subject: Subject,
    other: Arc<dyn EventLog>,
    model: Model,
    sent: Vec<Append>,
    salt: Uuid,
}

impl World {
    async fn new(adapter: Adapter) -> Self {
        let subject = adapter.log().await;
        let other = subject.other_node().await;
        Self { subject, other, model: Model::default(), sent: Vec::new(), salt: Uuid::new_v4() }
    }

    async fn restart(self) -> Self {
        let Self { subject, other, model, sent, salt } = self;
        drop(other);
        let subject = subject.reopen().await;
        let other = subject.other_node().await;
        Self { subject, other, model, sent, salt }
    }

    fn node(&self, other: bool) -> &dyn EventLog {
        if other { &*self.other } else { &*self.subject.log }
    }

    fn stream(&self, number: u128) -> StreamId {
        StreamId { kind: AggregateKind::Task, id: Uuid::from_u128(self.salt.as_u128() ^ number) }
    }

    fn command(&mut self, streams: &[Expectation], digest: Option<bool>) -> Append {
        let mut command = Append { command_id: Uuid::now_v7(), digest: None, streams: Vec::new() };
        for part in streams {
            let stream = self.stream(part.stream);
            // A command names a stream once.
            if command.streams.iter().all(|known| known.stream != stream) {
                let expected = self.model.sequence(stream).saturating_add_signed(part.off_by);
                command.streams.push(StreamAppend { stream, expected, events: events(part.count) });
            }
        }
        if let Some(digest) = digest {
            command = with_digest(command, if digest { "one" } else { "two" });
        }
        self.sent.push(command.clone());
        command
    }

    async fn check(&mut self, command: Append, node: bool) {
        let expected = self.model.append(&command);
        assert_eq!(send(self.node(node), command).await, expected);
    }

    /// The answers are those of the model in some order, and the log goes on from there.
    async fn race(&mut self, racers: &[Racer]) {
        let mut commands: Vec<(Append, bool)> = Vec::new();
        for racer in racers {
            let command = match commands.last() {
                Some((before, _)) if racer.is_repeat => before.clone(),
                _ => self.command(&racer.streams, None),
            };
            commands.push((command, racer.node));
        }
        let sending = commands.iter().map(|(command, node)| send(self.node(*node), command.clone()));
        let answers = join_all(sending).await;
        let explained = orders(commands.len()).into_iter().find_map(|order| {
            let mut model = self.model.clone();
            let is_so = order.iter().all(|&at| model.append(&commands[at].0) == answers[at]);
            is_so.then_some(model)
        });
        self.model = explained.unwrap_or_else(|| panic!("no order of {commands:?} answers {answers:?}"));
    }

    async fn take(mut self, step: Step) -> Self {
        match step {
            Step::Append { streams, digest, node } => {
                let command = self.command(&streams, digest);
                self.check(command, node).await;
            }
            Step::Repeat { which, other_digest, node } => {
                if !self.sent.is_empty() {
                    let mut command = which.get(&self.sent).clone();
                    if other_digest {
                        command = with_digest(command, "another");
                    }
                    self.check(command, node).await;
                }
            }
            Step::Race(racers) => self.race(&racers).await,
            Step::Crash { stream, count } => {
                let command = self.command(&[Expectation { stream, off_by: 0, count }], None);
                let (log, sent) = (self.subject.log.clone(), command.clone());
                let sending = tokio::spawn(async move { log.append(sent).await });
                tokio::task::yield_now().await;
                sending.abort();
                drop(sending.await);
                self = self.restart().await;
                // Wholly there or not at all: either way it stands now where it would have stood then.
                let (Answer::Written { sequence, position } | Answer::Repeated { sequence, position }) =
                    self.model.append(&command)
                else {
                    panic!("a right expectation is no conflict")
                };
                let answer = send(&*self.subject.log, command).await;
                let places = [Answer::Written { sequence, position }, Answer::Repeated { sequence, position }];
                assert!(places.contains(&answer), "{answer:?}");
            }
            Step::Restart => self = self.restart().await,
        }
        self
    }

    async fn compare(&self) {
        let stored = all(&*self.subject.log).await;
        let stored: Vec<_> = stored.iter().map(|event| (event.stream, event.command_id, event.event_id)).collect();
        // An event id is drawn per sending, and only one sending is written.
        assert_eq!(stored, self.model.events);
        for number in 0..STREAMS {
            let events = self.subject.log.read_stream(self.stream(number), 0, 1_000).await.unwrap();
            let sequences: Vec<_> = events.iter().map(|event| event.sequence).collect();
            assert_eq!(sequences, (1..=self.model.sequence(self.stream(number))).collect::<Vec<_>>());
        }
    }
}

fn run(adapter: fn() -> Adapter, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    proptest!(ProptestConfig { cases, ..ProptestConfig::default() }, |(steps in vec(step(), 1..40))| {
        runtime.block_on(async {
            let mut world = World::new(adapter()).await;
            for step in steps {
                world = world.take(step).await;
            }
            world.compare().await;
        });
    });
}

#[test]
fn sqlite_answers_what_a_list_in_memory_answers() {
    run(|| Adapter::Sqlite, 48);
}

#[test]
fn postgres_answers_what_a_list_in_memory_answers() {
    run(|| Adapter::Postgres, 24);
}
