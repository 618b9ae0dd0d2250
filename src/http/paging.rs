//! Pages of lists: a bounded limit, an opaque cursor that belongs to one list as it is, and the answer's shape.
use std::fmt::Display;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use marvin_projections::Projection;
use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

use super::api::Api;
use super::problem::Problem;
use super::query::refused;
use crate::error::FieldError;
use crate::views::{Filter, ListQuery, Order, query::Listed};

/// Items of the largest page: as many as a table shows. How many bytes that is at most is the view store's to say.
pub const LIMIT_MAX: u16 = 200;

/// Items of a page when nobody asks: two screens.
pub const LIMIT_DEFAULT: u16 = 50;

/// Characters of a cursor that is looked at: more than the longest key comes to, a name of 200 characters of four bytes each.
const CURSOR_CHARS_MAX: usize = 2_048;

/// The first field of every cursor. Another form of cursor takes another number.
const CURSOR_VERSION: &str = "2";

/// How many items a page holds at most: 1 to [`LIMIT_MAX`], [`LIMIT_DEFAULT`] unless asked for.
///
/// A field `#[serde(default)] limit: Limit` of a query reads and refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(u16);

impl Limit {
    pub fn get(self) -> usize {
        usize::from(self.0)
    }

    /// How many items to fetch, one more than the page shows, to learn whether another page follows.
    pub fn and_one(self) -> usize {
        self.get() + 1
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(LIMIT_DEFAULT)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limit = u16::deserialize(deserializer)?;
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(de::Error::custom(format_args!("the limit is between 1 and {LIMIT_MAX}")));
        }
        Ok(Self(limit))
    }
}

/// Where a page continues: opaque to clients, bound to one list in one history of the log.
///
/// A field `cursor: Option<Cursor>` of a query reads it; [`Cursor::after`] checks it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

/// A list of a view, as cursors know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List {
    /// Without `:`.
    pub name: &'static str,
    /// The history that the log tells.
    pub incarnation: Uuid,
}

/// What a cursor stands behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After<K> {
    /// Of the view that gave the cursor.
    pub version: u32,
    pub last: K,
}

impl Cursor {
    /// The cursor behind the item `last` of a page that a view of this version gave.
    pub fn new(list: List, version: u32, last: &impl Display) -> Self {
        let List { name, incarnation } = list;
        Self(URL_SAFE_NO_PAD.encode(format!("{CURSOR_VERSION}:{name}:{}:{version}:{last}", incarnation.simple())))
    }

    /// Which item the page starts behind. Whether the view still has that version is known once it has answered.
    ///
    /// # Errors
    /// 400 when the cursor is none of ours, of another list, or of another history of the log.
    pub fn after<K: FromStr>(&self, list: List) -> Result<After<K>, Problem> {
        let within_bounds = Some(self.0.as_str()).filter(|text| text.len() <= CURSOR_CHARS_MAX);
        let bytes = within_bounds.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or_else(not_of_this_list)?;
        let text = String::from_utf8(bytes).map_err(|_| not_of_this_list())?;
        let incarnation = list.incarnation.simple().to_string();
        match text.splitn(5, ':').collect::<Vec<_>>()[..] {
            [CURSOR_VERSION, name, history, version, last] if name == list.name && history == incarnation => {
                let version = version.parse().map_err(|_| not_of_this_list())?;
                Ok(After { version, last: last.parse().map_err(|_| not_of_this_list())? })
            }
            _ => Err(not_of_this_list()),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The list has another order or other items by now, or is another one.
fn not_of_this_list() -> Problem {
    refused(vec![FieldError::new("/cursor", "not a cursor that this list gave out; begin again without one")])
}

/// One page of a list, as it is answered.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page of the first `limit` of what was asked for [`Limit::and_one`]; `key` names an item. Where some were left off for
    /// their bytes, it is a shorter one.
    pub fn of<K: Display>(list: List, listed: Listed<T>, limit: Limit, key: impl Fn(&T) -> K) -> Self {
        let Listed { documents: mut items, version, is_cut } = listed;
        let more = is_cut || items.len() > limit.get();
        items.truncate(limit.get());
        let last = items.last().filter(|_| more);
        let next_cursor = last.map(|last| Cursor::new(list, version, &key(last)).0);
        Self { items, next_cursor }
    }
}

/// Where a page of a view begins.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    list: List,
    /// None at the list's beginning.
    after: Option<After<Uuid>>,
}

impl Api {
    /// Where the page of this list begins that `cursor` leads to.
    ///
    /// # Errors
    /// 400 for a cursor that leads nowhere: see [`Cursor::after`].
    pub(super) fn start_of(&self, name: &'static str, cursor: Option<&Cursor>) -> Result<Start, Problem> {
        let list = List { name, incarnation: self.incarnation };
        Ok(Start { list, after: cursor.map(|cursor| cursor.after(list)).transpose()? })
    }

    /// The newest documents under these conditions from `start` on, and only as long as one more `fits`; `id` is that of a document.
    ///
    /// # Errors
    /// 400 for a cursor of another version of the view; 503 while no table can answer.
    pub(super) async fn page_of<P: Projection>(
        &self,
        start: Start,
        filters: Vec<Filter>,
        limit: Limit,
        id: impl Fn(&P::Document) -> Uuid,
        fits: impl FnMut(&P::Document) -> bool,
    ) -> Result<Page<P::Document>, Problem> {
        let before = start.after.map(|after| after.last);
        let asked = u32::try_from(limit.and_one()).expect("a limit is at most 200");
        let query = ListQuery { filters, order: Order::Newest, before, limit: asked };
        let listed = self.views.list::<P>(query).await?;
        if start.after.is_some_and(|after| after.version != listed.version) {
            return Err(not_of_this_list());
        }
        Ok(Page::of(start.list, cut(listed, fits), limit, id))
    }
}

/// The first one, and those behind it up to the first that does not fit.
fn cut<D>(mut listed: Listed<D>, mut fits: impl FnMut(&D) -> bool) -> Listed<D> {
    if let Some(count) = listed.documents.iter().position(|document| !fits(document)) {
        let count = count.max(1);
        listed.is_cut |= count < listed.documents.len();
        listed.documents.truncate(count);
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::query::parse;
    use proptest::prelude::*;
    use rstest::rstest;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        #[serde(default)]
        limit: Limit,
        cursor: Option<Cursor>,
    }

    #[rstest]
    #[case::default("", 50)]
    #[case::least("limit=1", 1)]
    #[case::most("limit=200", 200)]
    fn a_limit_within_bounds_is_taken(#[case] query: &str, #[case] limit: usize) {
        assert_eq!(parse::<Asked>(query).unwrap().limit.get(), limit);
    }

    #[rstest]
    #[case("limit=0")]
    #[case("limit=201")]
    #[case("limit=-1")]
    #[case("limit=65536")]
    #[case("limit=ten")]
    #[case("limit=")]
    fn a_limit_out_of_bounds_is_400(#[case] query: &str) {
        let refused = parse::<Asked>(query).unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.errors()[0].pointer.as_str()), (400, "/limit"));
    }

    const AGENTS: List = List { name: "agents", incarnation: Uuid::from_u128(1) };
    const NUMBERS: List = List { name: "numbers", ..AGENTS };

    fn cursor(list: List, last: impl Display) -> String {
        Cursor::new(list, 1, &last).0
    }

    fn listed(documents: Vec<u64>) -> Listed<u64> {
        Listed { documents, version: 1, is_cut: false }
    }

    fn spelled(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text.replace("INCARNATION", &AGENTS.incarnation.simple().to_string()))
    }

    #[rstest]
    #[case::empty(String::new())]
    #[case::not_base64("!!".into())]
    #[case::padded(format!("{}=", cursor(AGENTS, 7)))]
    #[case::cut(cursor(AGENTS, 7)[..4].into())]
    #[case::another_list(cursor(List { name: "tasks", ..AGENTS }, 7))]
    #[case::another_incarnation(cursor(List { incarnation: Uuid::from_u128(2), ..AGENTS }, 7))]
    #[case::another_key(cursor(AGENTS, "x"))]
    #[case::the_form_before(spelled("1:agents:7"))]
    #[case::another_form(spelled("3:agents:INCARNATION:1:7"))]
    #[case::no_version_of_a_view(spelled("2:agents:INCARNATION::7"))]
    #[case::too_few_fields(spelled("2:agents:INCARNATION:1"))]
    #[case::not_utf8(URL_SAFE_NO_PAD.encode(b"2:agents:\xff"))]
    #[case::huge("A".repeat(100_000))]
    fn a_cursor_that_this_list_did_not_give_out_is_400(#[case] cursor: String) {
        let refused = Cursor(cursor).after::<u64>(AGENTS).unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.errors()[0].pointer.as_str()), (400, "/cursor"));
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_repeat() {
        let list: Vec<u64> = (1..=7).rev().collect();
        let limit = Limit(3);
        let (mut seen, mut cursor) = (Vec::new(), None::<Cursor>);
        loop {
            let after: u64 = cursor.as_ref().map_or(u64::MAX, |cursor| cursor.after::<u64>(NUMBERS).unwrap().last);
            let fetched = list.iter().copied().filter(|n| *n < after).take(limit.and_one()).collect();
            let page = Page::of(NUMBERS, listed(fetched), limit, |n| *n);
            assert!(page.items.len() <= limit.get());
            seen.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = parse::<Asked>(&format!("cursor={next}")).unwrap().cursor,
                None => break,
            }
        }
        assert_eq!(seen, list);
    }

    #[test]
    fn a_page_that_ends_the_list_has_a_null_cursor() {
        let page = Page::of(NUMBERS, listed(vec![2, 1]), Limit(2), |n| *n);
        assert_eq!(serde_json::to_string(&page).unwrap(), r#"{"items":[2,1],"next_cursor":null}"#);
    }

    #[test]
    fn a_page_that_is_cut_for_its_bytes_leads_on_behind_its_last_one() {
        let page = Page::of(NUMBERS, Listed { is_cut: true, ..listed(vec![9, 8]) }, Limit(50), |n| *n);
        assert_eq!((page.items, page.next_cursor), (vec![9, 8], Some(cursor(NUMBERS, 8))));
    }

    #[rstest]
    #[case::all_fit(9, &[3, 2, 1], false)]
    #[case::two_fit(5, &[3, 2], true)]
    #[case::the_first_is_too_much(1, &[3], true)]
    fn a_page_ends_before_what_does_not_fit(#[case] most: u64, #[case] kept: &[u64], #[case] is_cut: bool) {
        let mut sum = 0;
        let listed = cut(listed(vec![3, 2, 1]), |n| {
            sum += n;
            sum <= most
        });
        assert_eq!((&*listed.documents, listed.is_cut), (kept, is_cut));
    }

    proptest! {
        #[test]
        fn any_key_survives_its_cursor(key in "\\PC{0,200}", version: u32) {
            let cursor = Cursor::new(AGENTS, version, &key);
            prop_assert!(cursor.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(cursor.after::<String>(AGENTS).unwrap(), After { version, last: key });
        }
    }
}
