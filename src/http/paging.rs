//! Pages of lists: a bounded limit, an opaque cursor that belongs to one list, and the answer's shape.
use std::fmt::Display;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::problem::Problem;
use super::query::refused;
use crate::error::FieldError;

/// Items of the largest page: as many as a table shows, few enough that a page of full documents stays below a megabyte.
pub const LIMIT_MAX: u16 = 200;

/// Items of a page when nobody asks: two screens.
pub const LIMIT_DEFAULT: u16 = 50;

/// Characters of a cursor that is looked at: several times what the longest list name and key come to.
const CURSOR_CHARS_MAX: usize = 1024;

/// The first field of every cursor. Another form of cursor takes another number.
const CURSOR_VERSION: &str = "1";

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

/// Where a page continues: opaque to clients, bound to one list.
///
/// A field `cursor: Option<Cursor>` of a query reads it; [`Cursor::after`] checks it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// The cursor behind the item `last` of the list `list` (a fixed name without `:`).
    pub fn new(list: &str, last: &impl Display) -> Self {
        Self(URL_SAFE_NO_PAD.encode(format!("{CURSOR_VERSION}:{list}:{last}")))
    }

    /// The key of the item behind which the page starts.
    ///
    /// # Errors
    /// 400 when the cursor is none of ours, or of another list.
    pub fn after<K: FromStr>(&self, list: &str) -> Result<K, Problem> {
        let invalid = || refused(vec![FieldError::new("/cursor", "not a cursor that this list gave out")]);
        let within_bounds = Some(self.0.as_str()).filter(|text| text.len() <= CURSOR_CHARS_MAX);
        let bytes = within_bounds.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or_else(invalid)?;
        let text = String::from_utf8(bytes).map_err(|_| invalid())?;
        match text.splitn(3, ':').collect::<Vec<_>>()[..] {
            [CURSOR_VERSION, name, last] if name == list => last.parse().map_err(|_| invalid()),
            _ => Err(invalid()),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One page of a list, as it is answered.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page of the first `limit` of `fetched`, which was asked for [`Limit::and_one`]; `key` names an item.
    pub fn of<K: Display>(list: &str, mut fetched: Vec<T>, limit: Limit, key: impl Fn(&T) -> K) -> Self {
        let more = fetched.len() > limit.get();
        fetched.truncate(limit.get());
        let last = fetched.last().filter(|_| more);
        let next_cursor = last.map(|last| Cursor::new(list, &key(last)).0);
        Self { items: fetched, next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::query::parse;
    use proptest::prelude::*;
    use rstest::rstest;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct List {
        #[serde(default)]
        limit: Limit,
        cursor: Option<Cursor>,
    }

    #[rstest]
    #[case::default("", 50)]
    #[case::least("limit=1", 1)]
    #[case::most("limit=200", 200)]
    fn a_limit_within_bounds_is_taken(#[case] query: &str, #[case] limit: usize) {
        assert_eq!(parse::<List>(query).unwrap().limit.get(), limit);
    }

    #[rstest]
    #[case("limit=0")]
    #[case("limit=201")]
    #[case("limit=-1")]
    #[case("limit=65536")]
    #[case("limit=ten")]
    #[case("limit=")]
    fn a_limit_out_of_bounds_is_400(#[case] query: &str) {
        let refused = parse::<List>(query).unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.errors()[0].pointer.as_str()), (400, "/limit"));
    }

    #[rstest]
    #[case::empty(String::new())]
    #[case::not_base64("!!".into())]
    #[case::padded(format!("{}=", Cursor::new("agents", &7).0))]
    #[case::cut(Cursor::new("agents", &7).0[..4].into())]
    #[case::another_list(Cursor::new("tasks", &7).0)]
    #[case::another_key(Cursor::new("agents", &"x").0)]
    #[case::another_version(URL_SAFE_NO_PAD.encode("2:agents:7"))]
    #[case::too_few_fields(URL_SAFE_NO_PAD.encode("1:agents"))]
    #[case::not_utf8(URL_SAFE_NO_PAD.encode(b"1:agents:\xff"))]
    #[case::huge("A".repeat(100_000))]
    fn a_cursor_that_this_list_did_not_give_out_is_400(#[case] cursor: String) {
        let refused = Cursor(cursor).after::<u64>("agents").unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.errors()[0].pointer.as_str()), (400, "/cursor"));
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_repeat() {
        let list: Vec<u64> = (1..=7).rev().collect();
        let limit = Limit(3);
        let (mut seen, mut cursor) = (Vec::new(), None::<Cursor>);
        loop {
            let after: u64 = cursor.as_ref().map_or(u64::MAX, |cursor| cursor.after("numbers").unwrap());
            let fetched = list.iter().copied().filter(|n| *n < after).take(limit.and_one()).collect();
            let page = Page::of("numbers", fetched, limit, |n| *n);
            assert!(page.items.len() <= limit.get());
            seen.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = parse::<List>(&format!("cursor={next}")).unwrap().cursor,
                None => break,
            }
        }
        assert_eq!(seen, list);
    }

    #[test]
    fn a_page_that_ends_the_list_has_a_null_cursor() {
        let page = Page::of("numbers", vec![2, 1], Limit(2), |n| *n);
        assert_eq!(serde_json::to_string(&page).unwrap(), r#"{"items":[2,1],"next_cursor":null}"#);
    }

    proptest! {
        #[test]
        fn any_key_survives_its_cursor(key in "\\PC{0,200}") {
            let cursor = Cursor::new("secrets", &key);
            prop_assert!(cursor.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(cursor.after::<String>("secrets").unwrap(), key);
        }
    }
}
