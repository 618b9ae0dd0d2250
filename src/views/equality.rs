//! Compares every document that people read with one folded from the log alone. Works on few documents at a time, however many
//! there are, and beside nodes that go on writing.
use marvin_domain::{Envelope, Position};
use marvin_projections::{Fold, RawDocument, Skips};
use serde::{Deserialize, Serialize};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
};
use uuid::Uuid;

use super::{
    ListQuery, Order, SealedDocument, State, Stopped, Table, TableRow, ViewError, ViewId, ViewStore,
    documents::Documents,
    replay::{Replay, ReplayError},
};
use crate::log::{EventLog, ReadError, codec::Codec};

/// Events read and folded at once.
const BATCH_EVENTS: u32 = 1_000;
/// Documents of a page, of either side: what a statement of a list is cut off at, so that no more is read than is asked for. Where
/// they are large, a list answers fewer.
const PAGE_DOCUMENTS: u32 = 51;
/// Documents loaded by one query, to be looked at again. Few, since each may be as large as a task's input and output.
const LOAD_DOCUMENTS: usize = 8;
/// Differing documents that are named, of each table: enough to look into, few enough to read and for one answer.
pub const NAMED_MAX: usize = 20;
/// Times that the documents are looked at again which others have changed meanwhile. Each look takes less time than the one
/// before, so that few are left soon.
const LOOKS_MAX: usize = 100;

/// What a table says that a replay does not, or the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    Missing,
    Surplus,
    Unreadable,
    Position,
    Fields,
    Content,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::Surplus => "is in no event",
            Self::Unreadable => "cannot be opened",
            Self::Position => "is of another position",
            Self::Fields => "has other index fields",
            Self::Content => "has other contents",
        })
    }
}

/// One live table beside its replay.
#[derive(Debug)]
pub struct Comparison {
    pub table: Table,
    /// How far both were when they were compared.
    pub position: Position,
    pub documents: u64,
    pub findings: Findings,
    /// Why the table is not kept up, if it is not.
    pub stopped: Option<Stopped>,
}

/// What is known of the documents that differed at the first look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    pub differing: u64,
    /// The first [`NAMED_MAX`] of those, in the order of their ids.
    pub named: BTreeMap<Uuid, Difference>,
    /// Documents that changed at each look; nothing is known of them.
    pub restless: u64,
}

impl Findings {
    fn add(&mut self, id: Uuid, difference: Difference) {
        self.differing += 1;
        self.named.insert(id, difference);
        if self.named.len() > NAMED_MAX {
            self.named.pop_last();
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error("{0} cannot be compared")]
    Replay(String, #[source] ReplayError),
    #[error(transparent)]
    View(#[from] ViewError),
}

/// What both sides are read with.
pub struct Comparer {
    pub log: Arc<dyn EventLog>,
    pub codec: Codec,
    pub documents: Documents,
    pub live: Arc<dyn ViewStore>,
    /// Where the log is folded into: an empty store, to be thrown away.
    pub fresh: Arc<dyn ViewStore>,
}

/// A live table, and its replay as far as it came.
struct Pair {
    row: TableRow,
    replay: Replay,
}

impl Comparer {
    /// Compares each live table of this program's versions, in the order of `folds`, whose skips are given.
    ///
    /// # Errors
    /// When either side cannot be read, or the log cannot be folded as far as the table has come.
    pub async fn compare(&self, folds: Vec<(Arc<dyn Fold>, Skips)>) -> Result<Vec<Comparison>, CompareError> {
        let rows = self.live.tables().await?;
        let mut pairs = Vec::with_capacity(folds.len());
        for (fold, skips) in folds {
            let view = ViewId::of(&*fold);
            let live = rows.iter().find(|row| row.state == State::Live && row.table.is_of(view));
            if let Some(row) = live.cloned() {
                let replay = Replay::begin(fold, skips, self.fresh.clone(), self.documents.clone()).await?;
                pairs.push(Pair { row, replay });
            }
        }
        self.replay(&mut pairs).await?;
        let mut comparisons = Vec::with_capacity(pairs.len());
        for pair in pairs {
            comparisons.push(self.compare_one(pair).await?);
        }
        Ok(comparisons)
    }

    /// Brings each replay to where its table is. Every event is opened once, whatever the number of projections.
    async fn replay(&self, pairs: &mut [Pair]) -> Result<(), CompareError> {
        let end = pairs.iter().map(|pair| pair.row.checkpoint.position).max().unwrap_or(0);
        let behind = pairs.iter().filter(|pair| pair.replay.position() < pair.row.checkpoint.position);
        let mut after = behind.map(|pair| pair.replay.position()).min().unwrap_or(end);
        while after < end {
            let events = self.events(after, end).await?;
            let Some(last) = events.last() else { break };
            after = last.position;
            for Pair { row, replay } in &mut *pairs {
                let taken = replay.take(&events, row.checkpoint.position).await;
                taken.map_err(|error| CompareError::Replay(row.table.name.clone(), error))?;
            }
        }
        Ok(())
    }

    /// Some events behind `after`, up to `end`. What is behind that is nobody's concern, whether or not it can be read.
    async fn events(&self, after: Position, end: Position) -> Result<Vec<Arc<Envelope>>, ReadError> {
        let limit = u32::try_from(end - after).map_or(BATCH_EVENTS, |left| left.min(BATCH_EVENTS));
        let rows = self.log.read(after, limit).await?;
        if let Some((position, _)) = (after + 1..).zip(&rows).find(|(position, row)| row.position != *position) {
            return Err(ReadError::Corrupt { position, reason: "it is missing".to_owned() });
        }
        Ok(self.codec.open(rows).await?.into_iter().map(Arc::new).collect())
    }

    async fn compare_one(&self, mut pair: Pair) -> Result<Comparison, CompareError> {
        let (table, fresh_table) = (pair.row.table.clone(), pair.replay.table().clone());
        let (position, stopped) = (pair.replay.position(), pair.row.stopped.clone());
        let (mut documents, mut doubtful, mut findings) = (0, Vec::new(), Findings::default());
        let mut live = Pages::of(self, &self.live, &table);
        let mut fresh = Pages::of(self, &self.fresh, &fresh_table);
        loop {
            live.fill().await?;
            fresh.fill().await?;
            let (shown, folded) = (live.found.front(), fresh.found.front());
            // Both come highest id first.
            let order = match (shown, folded) {
                (None, None) => break,
                (Some(_), None) => Ordering::Greater,
                (None, Some(_)) => Ordering::Less,
                (Some(shown), Some(folded)) => shown.id.cmp(&folded.id),
            };
            let shown = if order.is_ge() { live.found.pop_front() } else { None };
            let folded = if order.is_le() { fresh.found.pop_front() } else { None };
            documents += u64::from(shown.is_some());
            if difference(shown.as_ref(), folded.as_ref()).is_some() {
                doubtful.extend(shown.or(folded).map(|found| found.id));
            }
            if doubtful.len() == PAGE_DOCUMENTS as usize {
                self.look_again(&mut pair, std::mem::take(&mut doubtful), &mut findings).await?;
            }
        }
        self.look_again(&mut pair, doubtful, &mut findings).await?;
        Ok(Comparison { table, position, documents, findings, stopped })
    }

    /// What differs was perhaps changed, or its person erased, between one look and the other: looks again until what is left
    /// was not. Takes as many as one page has.
    async fn look_again(
        &self,
        pair: &mut Pair,
        mut doubtful: Vec<Uuid>,
        findings: &mut Findings,
    ) -> Result<(), CompareError> {
        for _ in 0..LOOKS_MAX {
            if doubtful.is_empty() {
                break;
            }
            self.catch_up(pair).await?;
            let mut restless = Vec::new();
            for ids in doubtful.chunks(LOAD_DOCUMENTS) {
                let shown = self.load(&self.live, &pair.row.table, ids).await?;
                let folded = self.load(&self.fresh, pair.replay.table(), ids).await?;
                for id in ids {
                    let shown = shown.get(id);
                    let opened = shown.and_then(|found| found.document.as_ref());
                    if opened.is_some_and(|document| document.position > pair.replay.position()) {
                        // The replay has not got there yet.
                        restless.push(*id);
                    } else if let Some(difference) = difference(shown, folded.get(id)) {
                        findings.add(*id, difference);
                    }
                }
            }
            doubtful = restless;
        }
        findings.restless += doubtful.len() as u64;
        Ok(())
    }

    async fn catch_up(&self, pair: &mut Pair) -> Result<(), CompareError> {
        let rows = self.live.tables().await?;
        let row = rows.into_iter().find(|row| row.table == pair.row.table);
        pair.row = row.ok_or(ViewError::Gone)?;
        self.replay(std::slice::from_mut(pair)).await
    }

    async fn load(
        &self,
        store: &Arc<dyn ViewStore>,
        table: &Table,
        ids: &[Uuid],
    ) -> Result<BTreeMap<Uuid, Found>, CompareError> {
        let sealed = store.load(table, ids).await?.documents;
        Ok(self.open(table, sealed).await?.into_iter().map(|found| (found.id, found)).collect())
    }

    /// Opens documents; of a page with one that cannot be opened, each by itself.
    async fn open(&self, table: &Table, sealed: Vec<SealedDocument>) -> Result<Vec<Found>, CompareError> {
        match self.documents.open(table, sealed.clone()).await {
            Ok(opened) => return Ok(opened.into_iter().map(Found::opened).collect()),
            Err(ViewError::Corrupt { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let mut found = Vec::with_capacity(sealed.len());
        for document in sealed {
            let id = document.id;
            match self.documents.open(table, vec![document]).await {
                Ok(opened) => found.extend(opened.into_iter().map(Found::opened)),
                Err(ViewError::Corrupt { .. }) => found.push(Found { id, document: None }),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }
}

/// A document of one side; none when it cannot be opened.
struct Found {
    id: Uuid,
    document: Option<RawDocument>,
}

impl Found {
    fn opened(document: RawDocument) -> Self {
        Self { id: document.id, document: Some(document) }
    }
}

fn difference(shown: Option<&Found>, folded: Option<&Found>) -> Option<Difference> {
    let (shown, folded) = match (shown, folded) {
        (Some(shown), Some(folded)) => (shown, folded),
        (Some(_), None) => return Some(Difference::Surplus),
        (None, Some(_)) => return Some(Difference::Missing),
        (None, None) => return None,
    };
    let (Some(shown), Some(folded)) = (&shown.document, &folded.document) else {
        return Some(Difference::Unreadable);
    };
    if shown == folded {
        None
    } else if shown.position != folded.position {
        Some(Difference::Position)
    } else if shown.keys != folded.keys {
        Some(Difference::Fields)
    } else {
        Some(Difference::Content)
    }
}

/// The documents of one table, page by page, highest id first.
struct Pages<'a> {
    comparer: &'a Comparer,
    store: &'a Arc<dyn ViewStore>,
    table: &'a Table,
    before: Option<Uuid>,
    ended: bool,
    found: VecDeque<Found>,
}

impl<'a> Pages<'a> {
    fn of(comparer: &'a Comparer, store: &'a Arc<dyn ViewStore>, table: &'a Table) -> Self {
        Self { comparer, store, table, before: None, ended: false, found: VecDeque::new() }
    }

    /// Reads the next page when there is nothing left of the last one.
    async fn fill(&mut self) -> Result<(), CompareError> {
        if !self.found.is_empty() || self.ended {
            return Ok(());
        }
        let query = ListQuery { filters: Vec::new(), order: Order::Newest, before: self.before, limit: PAGE_DOCUMENTS };
        let sealed = self.store.list(self.table, query).await?.documents;
        self.before = sealed.last().map(|last| last.id);
        self.ended = sealed.is_empty();
        self.found = self.comparer.open(self.table, sealed).await?.into();
        Ok(())
    }
}
