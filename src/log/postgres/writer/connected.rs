//! The writer's connection: one batch and its answer, or one batch behind the other while many ask.
use futures_util::{StreamExt, stream::FuturesOrdered};
use marvin_domain::Position;
use std::collections::VecDeque;
use tokio::{sync::watch, task::yield_now, time::timeout};
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

/// What was under way when something went wrong.
pub(super) struct Unanswered {
    /// What the server said to the oldest batch; none when the connection was lost.
    pub error: Option<StoreError>,
    /// Oldest first. Of those behind the oldest nothing is known.
    pub batches: Vec<Batch>,
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
    /// A second batch is sent behind the first once half of those wait who asked lately; smaller ones would cost a commit each.
    pub async fn stream(
        &mut self,
        gathering: &mut Gathering,
        head: &watch::Sender<Position>,
    ) -> Result<(), Unanswered> {
        let (Line { client, wire, .. }, statements) = (&mut self.line, &self.statements);
        let client = &*client;
        let mut answers = FuturesOrdered::new();
        let mut under_way = VecDeque::<Batch>::new();
        let mut asked_lately = 0;
        loop {
            let mut waiting = gathering.count();
            if under_way.is_empty() {
                for _ in 0..YIELDS_MAX {
                    if waiting * BATCHES_MAX < asked_lately {
                        yield_now().await;
                        waiting = gathering.count();
                    }
                }
                if waiting == 0 {
                    return Ok(());
                }
            }
            let is_worth_a_commit = under_way.is_empty() || waiting * BATCHES_MAX >= asked_lately;
            if waiting > 0 && is_worth_a_commit && under_way.len() < BATCHES_MAX {
                let others: usize = under_way.iter().map(|batch| batch.appends.len()).sum();
                asked_lately = (others + waiting).max(asked_lately - asked_lately / 8);
                let batch = gathering.next_batch();
                let appends = batch.appends.clone();
                under_way.push_back(batch);
                answers.push_back(async move {
                    let batch: Vec<_> = appends.iter().collect();
                    timeout(STATEMENT_TIMEOUT, statements.append(client, &batch)).await
                });
            }
            tokio::select! {
                biased;
                Some(answer) = answers.next() => match answer {
                    Ok(Ok(outcomes)) => {
                        let batch = under_way.pop_front().expect("it was asked for");
                        let last = outcomes.iter().flatten().map(|receipt: &Receipt| receipt.position).max();
                        advance(head, last.unwrap_or(0));
                        batch.answer(outcomes);
                    }
                    Ok(Err(error)) => return Err(Unanswered { error: Some(error.into()), batches: under_way.into() }),
                    Err(_late) => return Err(Unanswered { error: None, batches: under_way.into() }),
                },
                _ended = &mut *wire => return Err(Unanswered { error: None, batches: under_way.into() }),
                true = gathering.one_more(), if !gathering.is_full() => {}
            }
        }
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
