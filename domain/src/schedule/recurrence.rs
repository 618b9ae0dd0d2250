//! When a schedule fires: cron patterns on a zone's wall clock, and moments.
//!
//! A pattern is matched against what a clock on the wall shows, so daylight saving time needs rules of its own. A wall-clock time
//! that a forward jump leaves out fires at the jump, together with all others that it leaves out. A time that a backward jump shows
//! twice fires the first time only, unless the pattern's hour is `*` or `*/n`: then what is meant is a rhythm, and it goes on.
use chrono::{DateTime, Duration, LocalResult, NaiveDateTime, Offset, SubsecRound, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use serde::{Deserialize, Serialize};

/// Longest pattern, in characters: each minute of an hour can be listed in it.
pub const CRON_CHARS_MAX: usize = 200;
/// A moment may be this far ahead, in days: a century. Beyond it is a slip of the keyboard.
pub const AT_DAYS_MAX: i64 = 36_525;
/// How far a zone's offset is looked for at once: no zone changes it twice within a day.
const OFFSET_STEP: Duration = Duration::days(1);
/// Changes of the offset that are passed on the way to one firing: a pattern that names 29 February in a zone with four changes a
/// year passes 32.
const OFFSETS_MAX: u32 = 400;

/// What is repeated, or when it is done once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Minute, hour, day of the month, month, day of the week.
    Cron(String),
    At(DateTime<Utc>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    pub when: When,
    /// An IANA name.
    pub timezone: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    #[error("must be five fields: minute, hour, day of the month, month, day of the week; {0}")]
    Cron(String),
    #[error("must fire at some time: no such day comes")]
    NeverFires,
    #[error("must be in the future, and at most {AT_DAYS_MAX} days ahead")]
    Moment,
    #[error("must be the name of a time zone, as in Europe/Zurich")]
    Timezone,
}

/// A timing that was understood.
#[derive(Debug, Clone)]
pub enum Plan {
    At(DateTime<Utc>),
    Cron(Box<Pattern>),
}

#[derive(Debug, Clone)]
pub struct Pattern {
    cron: Cron,
    zone: Tz,
    /// Whether it goes on through an hour that the wall clock shows twice.
    is_rhythm: bool,
}

impl Timing {
    /// The same as planned instants are kept: a moment in whole milliseconds.
    #[must_use]
    pub fn exact(mut self) -> Self {
        if let When::At(at) = &mut self.when {
            *at = at.trunc_subsecs(3);
        }
        self
    }

    /// # Errors
    /// `Cron` or `Timezone`, whichever is found first.
    pub fn plan(&self) -> Result<Plan, TimingError> {
        let zone: Tz = self.timezone.parse().map_err(|_| TimingError::Timezone)?;
        match &self.when {
            When::At(at) => Ok(Plan::At(*at)),
            When::Cron(text) => {
                let (cron, is_rhythm) = parse(text)?;
                Ok(Plan::Cron(Box::new(Pattern { cron, zone, is_rhythm })))
            }
        }
    }

    /// The first instant behind `after`, which is the present or later.
    ///
    /// # Errors
    /// When there is none, or the timing is not understood.
    pub fn first_after(&self, after: DateTime<Utc>) -> Result<DateTime<Utc>, TimingError> {
        let plan = self.plan()?;
        let is_near = |at: &DateTime<Utc>| *at - after <= Duration::days(AT_DAYS_MAX);
        match (plan.next_after(after), plan) {
            (Some(next), Plan::Cron(_)) => Ok(next),
            (None, Plan::Cron(_)) => Err(TimingError::NeverFires),
            (next, Plan::At(_)) => next.filter(is_near).ok_or(TimingError::Moment),
        }
    }
}

fn parse(text: &str) -> Result<(Cron, bool), TimingError> {
    if text.len() > CRON_CHARS_MAX {
        return Err(TimingError::Cron(format!("at most {CRON_CHARS_MAX} characters")));
    }
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_, hour, _, _, _] = fields[..] else {
        return Err(TimingError::Cron(format!("this has {}", fields.len())));
    };
    if !text.is_ascii() || text.contains(['@', '+', '?']) {
        return Err(TimingError::Cron("names such as @daily, + and ? are not among them".to_owned()));
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    match parser.parse(text) {
        Ok(cron) => Ok((cron, hour.starts_with('*'))),
        // Its own words quote what was sent.
        Err(_) => Err(TimingError::Cron(format!("the {} is not understood", wrong_field(&parser, &fields)))),
    }
}

fn wrong_field(parser: &CronParser, fields: &[&str]) -> &'static str {
    const NAMES: [&str; 5] = ["minute", "hour", "day of the month", "month", "day of the week"];
    let is_wrong = |index: usize| {
        let mut alone = ["*"; 5];
        alone[index] = fields[index];
        parser.parse(&alone.join(" ")).is_err()
    };
    (0..NAMES.len()).find(|index| is_wrong(*index)).map_or("pattern", |index| NAMES[index])
}

impl Plan {
    /// The first planned instant after `after`; none when there is none.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::At(at) => Some(*at).filter(|at| *at > after),
            Self::Cron(pattern) => pattern.next_after(after),
        }
    }

    /// The planned instants from `first`, which is one, to `until`: the latest `count_max` of them, oldest first.
    pub fn latest(&self, first: DateTime<Utc>, until: DateTime<Utc>, count_max: usize) -> Vec<DateTime<Utc>> {
        let mut window = Duration::minutes(i64::try_from(count_max).unwrap_or(i64::MAX / 60_000).max(1));
        loop {
            let reaches_first = until - window <= first;
            let mut at = if reaches_first { first - Duration::milliseconds(1) } else { until - window };
            let mut found = std::collections::VecDeque::new();
            let mut seen = 0_usize;
            while let Some(next) = self.next_after(at).filter(|next| *next <= until) {
                at = next;
                seen += 1;
                found.push_back(next);
                if found.len() > count_max {
                    found.pop_front();
                }
            }
            if reaches_first || seen >= count_max {
                return found.into();
            }
            window = window * 2;
        }
    }
}

impl Pattern {
    fn offset(&self, at: DateTime<Utc>) -> Duration {
        Duration::seconds(i64::from(self.zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()))
    }

    /// The first time of the pattern at or after `wall`, on a clock that never jumps.
    fn match_from(&self, wall: NaiveDateTime) -> Option<NaiveDateTime> {
        self.cron.find_next_occurrence(&wall.and_utc(), true).ok().map(|found| found.naive_utc())
    }

    /// The first instant in (`after`, `until`] with another offset than `after` has.
    fn change_within(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let offset = self.offset(after);
        let mut low = after;
        while low < until {
            let mut high = (low + OFFSET_STEP).min(until);
            if self.offset(high) == offset {
                low = high;
                continue;
            }
            while high - low > Duration::seconds(1) {
                let middle = low + Duration::seconds((high - low).num_seconds() / 2);
                if self.offset(middle) == offset { low = middle } else { high = middle }
            }
            return Some(high);
        }
        None
    }

    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // Whole seconds: changes of an offset are, too.
        let after = after.with_nanosecond(0)?;
        let local = (after + self.offset(after)).naive_utc();
        let (mut from, mut wall) = (after, local + Duration::seconds(1));
        // In the second of two hours that show the same, the first one has fired already.
        if let LocalResult::Ambiguous(first, second) = self.zone.from_local_datetime(&local)
            && !self.is_rhythm
            && second == after
        {
            let first = first.with_timezone(&Utc);
            let change = self.change_within(first, after)?;
            wall = (change + self.offset(first)).naive_utc();
        }
        for _ in 0..OFFSETS_MAX {
            let offset = self.offset(from);
            let matched = self.match_from(wall)?;
            let found = matched.and_utc() - offset;
            let Some(change) = self.change_within(from, found) else { return Some(found) };
            let (before, behind) = ((change + offset).naive_utc(), (change + self.offset(change)).naive_utc());
            if behind > before && matched <= behind {
                return Some(change);
            }
            wall = if behind < before && self.is_rhythm { behind } else { wall.max(before).max(behind) };
            from = change;
        }
        None
    }
}
