//! The writer's connection: one batch and its answer, or one batch behind the other while many ask.
use futures_util::{StreamExt, stream::FuturesOrdered};
use marvin_domain::Position;
use std::collections::VecDeque;
use tokio::{
    sync::watch,
    task::yield_now,
    time::{Instant, sleep_until},
};
use tokio_postgres::{Client, Error, Statement};

use super::{
    super::{
        advance,
        batch::{self, Outcome},
        lone,
    },
    gathering::{Batch, Gathering},
};
use crate::{
    log::{Append, Receipt, awake::awake},
    postgres::{
        Postgres, STATEMENT_TIMEOUT,
        lines::{Line, over},
    },
    store::StoreError,
};

/// The indexes are right whatever the planner knows of a table that was empty when it planned.
const PLANNING: &str = "SET enable_seqscan = off";
/// Batches under way at a time: while the server commits one, the next lies there already, and never waits for this node.
const BATCHES_MAX: usize = 2;
/// How often those who were just answered are let go first, before a small batch is sent.
const YIELDS_MAX: usize = 3;

/// A connection and the statements prepared on it.
pub(super) struct Connected {
    line: Line,
    statements: Statements,
}

struct Statements {
    lone: Statement,
    several: Statement,
}

impl Connected {
    pub async fn new(postgres: &Postgres) -> Result<Self, StoreError> {
        let mut line = Line::connect(postgres).await?;
        let client = &line.client;
        let preparing = async {
            client.batch_execute(PLANNING).await?;
            Ok::<_, Error>(Statements { lone: lone::prepare(client).await?, several: batch::prepare(client).await? })
        };
        let statements = over(&mut line.wire, preparing).await?;
        Ok(Self { line, statements })
    }

    /// Writes a batch. After `Unreachable` the connection is of no more use.
    pub async fn append(&mut self, batch: &[&Append]) -> Result<Vec<Outcome>, StoreError> {
        let Line { client, wire, .. } = &mut self.line;
        over(wire, awake(self.statements.append(client, batch))).await
    }

    /// Writes what waits and what joins it, until nobody waits or something goes wrong.
    ///
    /// A second batch is sent behind the first once half of those wait who asked lately; smaller ones would cost a commit each. None
    /// is sent behind a lone command, which may need a second statement.
    pub async fn stream(&mut self, gathering: &mut Gathering, head: &watch::Sender<Position>) -> Ended {
        let (Line { client, wire, .. }, statements) = (&mut self.line, &self.statements);
        let client = &*client;
        let mut answers = FuturesOrdered::new();
        let mut under_way = VecDeque::<Batch>::new();
        let mut ended = Ended::default();
        let mut late_at = Instant::now();
        let mut asked_lately: usize = 0;
        loop {
            let mut waiting = gathering.count();
            if under_way.is_empty() {
                for _ in 0..YIELDS_MAX {
                    if waiting * BATCHES_MAX < asked_lately {
                        yield_now().await;
                        waiting = gathering.count();
                    }
                }
                if waiting == 0 || !ended.refused.is_empty() {
                    return ended;
                }
            }
            let others: usize = under_way.iter().map(|batch| batch.appends.len()).sum();
            let is_next = match under_way.len() {
                0 => true,
                BATCHES_MAX.. => false,
                _ => others > 1 && waiting > 0 && waiting * BATCHES_MAX >= asked_lately,
            };
            if is_next && ended.refused.is_empty() {
                asked_lately = (others + waiting).max(asked_lately - asked_lately.div_ceil(8));
                let batch = gathering.next_batch();
                let appends = batch.appends.clone();
                let is_alone = under_way.is_empty();
                if is_alone {
                    late_at = Instant::now() + STATEMENT_TIMEOUT;
                }
                under_way.push_back(batch);
                answers.push_back(async move {
                    let batch: Vec<_> = appends.iter().collect();
                    if is_alone {
                        statements.append(client, &batch).await
                    } else {
                        batch::append(client, &statements.several, &batch).await
                    }
                });
            }
            let answer = tokio::select! {
                biased;
                Some(answer) = answers.next() => answer.map_err(StoreError::from),
                _ended = &mut *wire => return ended.lost(under_way),
                () = sleep_until(late_at) => return ended.lost(under_way),
                true = gathering.one_more(), if !gathering.is_full() => continue,
            };
            late_at = Instant::now() + STATEMENT_TIMEOUT;
            match answer {
                Err(StoreError::Unreachable(_)) => return ended.lost(under_way),
                Ok(outcomes) => {
                    let last = outcomes.iter().flatten().map(|receipt: &Receipt| receipt.position).max();
                    advance(head, last.unwrap_or(0));
                    under_way.pop_front().expect("it was asked for").answer(outcomes);
                }
                // What was sent behind it is answered, too, and nothing more is sent.
                Err(error) => ended.refused.push((under_way.pop_front().expect("it was asked for"), error)),
            }
        }
    }
}

/// What [`Connected::stream`] leaves to be told or written.
#[derive(Default)]
pub(super) struct Ended {
    /// What the server answered is no outcome.
    pub refused: Vec<(Batch, StoreError)>,
    /// Under way when the connection was lost, oldest first.
    pub lost: Option<VecDeque<Batch>>,
}

impl Ended {
    fn lost(self, under_way: VecDeque<Batch>) -> Self {
        Self { lost: Some(under_way), ..self }
    }
}

impl Statements {
    async fn append(&self, client: &Client, batch: &[&Append]) -> Result<Vec<Outcome>, Error> {
        if let [command] = batch
            && let Some(receipt) = lone::append(client, &self.lone, command).await?
        {
            return Ok(vec![Ok(receipt)]);
        }
        batch::append(client, &self.several, batch).await
    }
}
