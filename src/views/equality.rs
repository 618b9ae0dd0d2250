//! Compares every document that people read with one folded from the log alone. Works on few documents at a time, however many
//! there are, and beside nodes that go on writing.
use marvin_domain::{Envelope, Position};
use marvin_projections::{Fold, Skips};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use uuid::Uuid;

use super::{
    ListQuery, Order, SealedDocument, State, Stopped, Table, TableRow, ViewError, ViewId, ViewStore,
    documents::Documents,
    replay::{Replay, ReplayError},
    skips::skips,
};
use crate::{
    dispatch::{DispatchError, Dispatcher},
    log::{EventLog, ReadError, codec::Codec, tail::Tail},
    store::{StoreError, chain},
};

mod findings;
pub use findings::{Difference, Findings, NAMED_MAX};
use findings::{Found, difference};

/// Events read and folded at once.
const BATCH_EVENTS: u32 = 1_000;
/// Documents of a page, of either side: what a statement of a list is cut off at, so that no more is read than is asked for. Where
/// they are large, a list answers fewer.
const PAGE_DOCUMENTS: u32 = 51;
/// Documents loaded by one query, to be looked at again. Few, since each may be as large as a task's input and output.
const LOAD_DOCUMENTS: usize = 8;
/// Times that the documents are looked at again which others have changed meanwhile. Each look takes less time than the one
/// before, so that few are left soon.
const LOOKS_MAX: usize = 100;
/// Times that a table is replayed: once more for each event that is taken out of its projection meanwhile. Administrators do that one
/// by one.
const REPLAYS_MAX: usize = 3;

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
    /// The event that the replay could not take, although the table has come beyond it. Nothing is known of what is behind that.
    pub unreplayed: Option<Stopped>,
    /// Why the database reads no documents out of this table, which its registry names. Nothing is known of them then.
    pub unreadable: Option<String>,
    /// Indexes that somebody dropped.
    pub lost_indexes: u64,
}

impl Comparison {
    fn has_faults(&self) -> bool {
        self.findings != Findings::default() || self.unreplayed.is_some()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error(transparent)]
    Skips(#[from] DispatchError),
    #[error("{0} cannot be compared")]
    Replay(String, #[source] ReplayError),
    /// The table that people read from.
    #[error(transparent)]
    Live(ViewError),
    #[error(transparent)]
    View(#[from] ViewError),
}

#[derive(Clone, Copy)]
enum Side {
    Live,
    Fresh,
}

impl Side {
    fn failed(self, error: ViewError) -> CompareError {
        match self {
            Self::Live => CompareError::Live(error),
            Self::Fresh => CompareError::View(error),
        }
    }
}

/// What both sides are read with.
pub struct Comparer {
    pub log: Arc<dyn EventLog>,
    pub codec: Codec,
    pub documents: Documents,
    /// Reads which events are taken out of a projection.
    pub dispatcher: Dispatcher,
    pub live: Arc<dyn ViewStore>,
    /// Where the log is folded into: an empty store, to be thrown away.
    pub fresh: Arc<dyn ViewStore>,
}

/// A live table, and its replay as far as it came.
struct Pair {
    fold: Arc<dyn Fold>,
    skips: Skips,
    row: TableRow,
    replay: Replay,
    unreplayed: Option<Stopped>,
}

impl Pair {
    fn is_behind(&self) -> bool {
        self.unreplayed.is_none() && self.replay.position() < self.row.checkpoint.position
    }
}

impl Comparer {
    /// Compares each live table of this program's versions, in the order of `folds`.
    ///
    /// # Errors
    /// When either side cannot be read. What cannot be folded is told of its table alone, and so is a table that somebody damaged.
    pub async fn compare(&self, folds: Vec<Arc<dyn Fold>>) -> Result<Vec<Comparison>, CompareError> {
        let rows = self.live.tables().await?;
        let mut pairs = Vec::with_capacity(folds.len());
        for fold in folds {
            let view = ViewId::of(&*fold);
            let live = rows.iter().find(|row| row.state == State::Live && row.table.is_of(view));
            if let Some(row) = live.cloned() {
                let skips = self.skips(&*fold).await?;
                pairs.push(self.pair(fold, skips, row).await?);
            }
        }
        self.replay(&mut pairs).await?;
        let mut comparisons = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let row = pair.row.clone();
            comparisons.push(match self.compare_one(pair).await {
                Err(CompareError::Live(error)) if is_of_table(&error) => self.unreadable(row, error).await?,
                compared => compared?,
            });
        }
        Ok(comparisons)
    }

    /// A table that is not there although the registry says so is damaged; one that the registry forgot meanwhile was replaced.
    async fn unreadable(&self, row: TableRow, error: ViewError) -> Result<Comparison, CompareError> {
        let rows = self.live.tables().await?;
        if !rows.iter().any(|known| known.table == row.table && known.state == State::Live) {
            return Err(ViewError::Gone.into());
        }
        let reason = match error {
            ViewError::Gone => "it is not in the database".to_owned(),
            error => chain(&error),
        };
        let TableRow { table, checkpoint, stopped, .. } = row;
        let findings = Findings::default();
        let unreadable = Some(reason);
        Ok(Comparison {
            table,
            position: checkpoint.position,
            documents: 0,
            findings,
            stopped,
            unreplayed: None,
            unreadable,
            lost_indexes: 0,
        })
    }

    async fn skips(&self, fold: &dyn Fold) -> Result<Skips, CompareError> {
        let tail = Tail::new(self.log.clone(), self.codec.clone());
        Ok(skips(fold, &self.dispatcher, &tail).await?)
    }

    async fn pair(&self, fold: Arc<dyn Fold>, skips: Skips, row: TableRow) -> Result<Pair, CompareError> {
        let replay = Replay::begin(fold.clone(), skips.clone(), self.fresh.clone(), self.documents.clone()).await?;
        Ok(Pair { fold, skips, row, replay, unreplayed: None })
    }

    /// Brings each replay to where its table is, or to what it cannot take. Every event is opened once, whatever the number of
    /// projections.
    async fn replay(&self, pairs: &mut [Pair]) -> Result<(), CompareError> {
        loop {
            let behind: Vec<_> = pairs.iter().filter(|pair| pair.is_behind()).collect();
            let Some(after) = behind.iter().map(|pair| pair.replay.position()).min() else { return Ok(()) };
            let end = behind.iter().map(|pair| pair.row.checkpoint.position).max().unwrap_or(after);
            let events = self.events(after, end).await?;
            if events.is_empty() {
                return Ok(());
            }
            for pair in pairs.iter_mut().filter(|pair| pair.is_behind()) {
                match pair.replay.take(&events, pair.row.checkpoint.position).await {
                    Ok(()) => {}
                    Err(ReplayError::Fold(failure)) => {
                        pair.unreplayed = Some(Stopped { position: failure.position(), reason: chain(&failure) });
                    }
                    Err(error) => return Err(CompareError::Replay(pair.row.table.name.clone(), error)),
                }
            }
        }
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

    /// What an event that was taken out meanwhile changes is no fault: then all is folded once more, without it.
    async fn compare_one(&self, mut pair: Pair) -> Result<Comparison, CompareError> {
        let mut replays = 1;
        loop {
            let comparison = self.compare_pair(&mut pair).await?;
            if !comparison.has_faults() || replays == REPLAYS_MAX {
                return Ok(comparison);
            }
            let skips = self.skips(&*pair.fold).await?;
            if skips == pair.skips {
                return Ok(comparison);
            }
            self.fresh.drop_table(pair.replay.table()).await?;
            pair = self.pair(pair.fold, skips, pair.row).await?;
            self.catch_up(&mut pair).await?;
            replays += 1;
        }
    }

    async fn compare_pair(&self, pair: &mut Pair) -> Result<Comparison, CompareError> {
        let (table, fresh_table) = (pair.row.table.clone(), pair.replay.table().clone());
        let (position, stopped) = (pair.replay.position(), pair.row.stopped.clone());
        let (mut documents, mut doubtful, mut findings) = (0, Vec::new(), Findings::default());
        if pair.unreplayed.is_some() {
            let unreplayed = pair.unreplayed.clone();
            let (unreadable, lost_indexes) = (None, 0);
            return Ok(Comparison {
                table,
                position,
                documents,
                findings,
                stopped,
                unreplayed,
                unreadable,
                lost_indexes,
            });
        }
        let mut live = Pages::of(self, Side::Live, &table);
        let mut fresh = Pages::of(self, Side::Fresh, &fresh_table);
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
                self.look_again(pair, std::mem::take(&mut doubtful), &mut findings).await?;
            }
        }
        self.look_again(pair, doubtful, &mut findings).await?;
        let unreplayed = pair.unreplayed.clone();
        let lost_indexes = self.live.lost_indexes(&table).await.map_err(|error| Side::Live.failed(error))?;
        let unreadable = None;
        Ok(Comparison { table, position, documents, findings, stopped, unreplayed, unreadable, lost_indexes })
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
            if pair.unreplayed.is_some() {
                return Ok(());
            }
            let mut restless = Vec::new();
            for ids in doubtful.chunks(LOAD_DOCUMENTS) {
                let shown = self.load(Side::Live, &pair.row.table, ids).await?;
                let folded = self.load(Side::Fresh, pair.replay.table(), ids).await?;
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

    fn store(&self, side: Side) -> &dyn ViewStore {
        match side {
            Side::Live => &*self.live,
            Side::Fresh => &*self.fresh,
        }
    }

    async fn load(&self, side: Side, table: &Table, ids: &[Uuid]) -> Result<BTreeMap<Uuid, Found>, CompareError> {
        let sealed = self.store(side).load(table, ids).await.map_err(|error| side.failed(error))?.documents;
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

/// Whether the database would answer the same again: a table that was dropped, or has lost a column.
fn is_of_table(error: &ViewError) -> bool {
    matches!(error, ViewError::Gone | ViewError::Unavailable(StoreError::Refused(_)))
}

/// The documents of one table, page by page, highest id first.
struct Pages<'a> {
    comparer: &'a Comparer,
    side: Side,
    table: &'a Table,
    before: Option<Uuid>,
    ended: bool,
    found: VecDeque<Found>,
}

impl<'a> Pages<'a> {
    fn of(comparer: &'a Comparer, side: Side, table: &'a Table) -> Self {
        Self { comparer, side, table, before: None, ended: false, found: VecDeque::new() }
    }

    /// Reads the next page when there is nothing left of the last one.
    async fn fill(&mut self) -> Result<(), CompareError> {
        if !self.found.is_empty() || self.ended {
            return Ok(());
        }
        let query = ListQuery { filters: Vec::new(), order: Order::Newest, before: self.before, limit: PAGE_DOCUMENTS };
        let store = self.comparer.store(self.side);
        let sealed = store.list(self.table, query).await.map_err(|error| self.side.failed(error))?.documents;
        self.before = sealed.last().map(|last| last.id);
        self.ended = sealed.is_empty();
        self.found = self.comparer.open(self.table, sealed).await?.into();
        Ok(())
    }
}
