//! The request headers that make a call conditional or repeatable: `If-Match`, `If-None-Match`, `Marvin-Min-Position`,
//! `Idempotency-Key`; and the `ETag` that answers them.
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::problem::Problem;

/// How far a view is, on answers to queries; where a command's events stand, on answers to commands.
pub const MARVIN_POSITION: HeaderName = HeaderName::from_static("marvin-position");

const MARVIN_MIN_POSITION: HeaderName = HeaderName::from_static("marvin-min-position");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Characters of an idempotency key: fixed by the API; holds any id or hash that a client would take.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;

/// The entity tag of a resource at `sequence`.
pub fn etag(sequence: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{sequence}\"")).expect("digits in quotes are valid header text")
}

/// The states of a resource in which a change is still wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfMatch(Tags);

impl IfMatch {
    /// Reads `If-Match`; none when it is absent.
    ///
    /// # Errors
    /// 400 when it is not a list of entity tags (RFC 9110, section 13.1.1).
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        Ok(tags(headers, &header::IF_MATCH)?.map(Self))
    }

    /// Whether a resource at `sequence` is in one of these states. A weak tag never is: it promises too little.
    pub fn matches(&self, sequence: u64) -> bool {
        match &self.0 {
            Tags::Any => true,
            Tags::Listed(tags) => tags.iter().any(|tag| !tag.weak && tag.value == sequence.to_string()),
        }
    }

    /// Refuses when a resource at `sequence` is in none of these states.
    ///
    /// # Errors
    /// 412.
    pub fn check(condition: Option<&Self>, sequence: u64) -> Result<(), Problem> {
        match condition {
            Some(wanted) if !wanted.matches(sequence) => {
                Err(Problem::precondition_failed(format!("The resource is at sequence {sequence}.")))
            }
            _ => Ok(()),
        }
    }
}

/// The representations that a caller already holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfNoneMatch(Tags);

impl IfNoneMatch {
    /// Reads `If-None-Match`; none when it is absent.
    ///
    /// # Errors
    /// 400 when it is not a list of entity tags (RFC 9110, section 13.1.2).
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        Ok(tags(headers, &header::IF_NONE_MATCH)?.map(Self))
    }

    /// Whether the caller holds `value`, the tag without its quotes. A weak tag will do: nothing is overwritten.
    pub fn holds(&self, value: &str) -> bool {
        match &self.0 {
            Tags::Any => true,
            Tags::Listed(tags) => tags.iter().any(|tag| tag.value == value),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Any,
    Listed(Vec<Tag>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    weak: bool,
    value: String,
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Problem> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    let lines: Option<Vec<&str>> = headers.get_all(name).map(|value| value.to_str().ok()).collect();
    let tags = lines.and_then(|lines| parse_tags(&lines.join(",")));
    tags.map(Some).ok_or_else(|| Problem::malformed(format!("{name} is * or a list of entity tags such as \"7\".")))
}

/// Reads `*` or a comma-separated list. Tags may hold commas, so the quotes lead, not the commas.
fn parse_tags(text: &str) -> Option<Tags> {
    if text.trim() == "*" {
        return Some(Tags::Any);
    }
    let mut tags = Vec::new();
    let mut rest = text.trim_start();
    loop {
        // RFC 9110 asks recipients to pass over empty list elements.
        rest = rest.trim_start_matches([',', ' ', '\t']);
        if rest.is_empty() {
            return (!tags.is_empty()).then_some(Tags::Listed(tags));
        }
        let (weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |quoted| (true, quoted));
        let (value, behind) = quoted.strip_prefix('"')?.split_once('"')?;
        let is_tag_character = |byte: u8| byte == 0x21 || (0x23..=0x7e).contains(&byte);
        if !value.bytes().all(is_tag_character) {
            return None;
        }
        tags.push(Tag { weak, value: value.to_owned() });
        rest = behind.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
}

/// Reads `Marvin-Min-Position`: how far a view must have come before it may answer.
///
/// # Errors
/// 400 unless it is absent or one whole number.
pub fn min_position(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let refused = || Problem::malformed("Marvin-Min-Position is a position: a whole number, given once.");
    let Some(text) = single(headers, &MARVIN_MIN_POSITION).map_err(|Repeated| refused())? else { return Ok(None) };
    // `parse` alone would also take a leading plus sign.
    let digits = text.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).map(Some).ok_or_else(refused)
}

/// What a client calls one intended command, so that repeating the call does not repeat the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Reads `Idempotency-Key`; none when it is absent.
    ///
    /// # Errors
    /// 400 unless it has 1 to [`IDEMPOTENCY_KEY_CHARS_MAX`] visible ASCII characters and is given once.
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let refused = || Problem::malformed("Idempotency-Key has 1 to 255 visible ASCII characters and is given once.");
        let Some(value) = single(headers, &IDEMPOTENCY_KEY).map_err(|Repeated| refused())? else { return Ok(None) };
        let fits = (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&value.len());
        let text = value.to_str().ok().filter(|text| fits && text.bytes().all(|byte| byte.is_ascii_graphic()));
        text.map(|text| Some(Self(text.to_owned()))).ok_or_else(refused)
    }

    /// For calls that answer with a secret or a session, which must not be answered twice.
    ///
    /// # Errors
    /// 400 when the header is there.
    pub fn refuse(headers: &HeaderMap) -> Result<(), Problem> {
        if headers.contains_key(IDEMPOTENCY_KEY) {
            return Err(Problem::malformed("This call answers with a secret and takes no Idempotency-Key."));
        }
        Ok(())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

struct Repeated;

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Repeated> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (first, None) => Ok(first),
        _ => Err(Repeated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const TOO_LONG: &str = match str::from_utf8(&[b'k'; IDEMPOTENCY_KEY_CHARS_MAX + 1]) {
        Ok(text) => text,
        Err(_) => panic!("letters are UTF-8"),
    };

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn if_match(values: &[&str]) -> Result<Option<IfMatch>, Problem> {
        IfMatch::from_headers(&headers(&header::IF_MATCH, values))
    }

    #[rstest]
    #[case::same(&["\"7\""], true)]
    #[case::any(&["*"], true)]
    #[case::in_a_list(&["\"6\", \"7\""], true)]
    #[case::in_two_lines(&["\"6\"", "\"7\""], true)]
    #[case::behind_empty_elements(&[" , ,\"7\" ,"], true)]
    #[case::behind_a_comma_in_a_tag(&["\"a,b\",\"7\""], true)]
    #[case::stale(&["\"6\""], false)]
    #[case::weak(&["W/\"7\""], false)]
    #[case::padded(&["\"07\""], false)]
    #[case::foreign(&["\"abc\""], false)]
    #[case::empty_tag(&["\"\""], false)]
    fn if_match_lets_a_listed_strong_tag_pass(#[case] values: &[&str], #[case] passes: bool) {
        let condition = if_match(values).unwrap().unwrap();
        assert_eq!(condition.matches(7), passes);
        let refusal = IfMatch::check(Some(&condition), 7).err().map(|problem| problem.status().as_u16());
        assert_eq!(refusal, (!passes).then_some(412));
    }

    #[rstest]
    #[case::empty(&[""])]
    #[case::only_commas(&[",,"])]
    #[case::bare(&["7"])]
    #[case::unclosed(&["\"7"])]
    #[case::unseparated(&["\"7\"\"8\""])]
    #[case::lower_case_weak(&["w/\"7\""])]
    #[case::star_in_a_list(&["*, \"7\""])]
    #[case::star_twice(&["*", "*"])]
    #[case::space_in_a_tag(&["\"7 \""])]
    #[case::garbage_behind(&["\"7\" x"])]
    #[case::not_ascii(&["\"é\""])]
    fn a_malformed_if_match_is_400(#[case] values: &[&str]) {
        assert_eq!(if_match(values).unwrap_err().status().as_u16(), 400);
    }

    #[test]
    fn without_if_match_every_state_passes() {
        assert_eq!(if_match(&[]).unwrap(), None);
        assert!(IfMatch::check(None, 7).is_ok());
    }

    #[test]
    fn an_etag_comes_back_as_a_match() {
        let sent = etag(u64::MAX);
        assert!(if_match(&[sent.to_str().unwrap()]).unwrap().unwrap().matches(u64::MAX));
    }

    #[rstest]
    #[case("\"abc\"", true)]
    #[case("W/\"abc\"", true)]
    #[case("\"x\", \"abc\"", true)]
    #[case("*", true)]
    #[case("\"ab\"", false)]
    fn if_none_match_compares_weakly(#[case] value: &str, #[case] holds: bool) {
        let held = IfNoneMatch::from_headers(&headers(&header::IF_NONE_MATCH, &[value])).unwrap().unwrap();
        assert_eq!(held.holds("abc"), holds);
    }

    #[rstest]
    #[case::absent(&[], Some(None))]
    #[case::zero(&["0"], Some(Some(0)))]
    #[case::largest(&["18446744073709551615"], Some(Some(u64::MAX)))]
    #[case::too_large(&["18446744073709551616"], None)]
    #[case::empty(&[""], None)]
    #[case::negative(&["-1"], None)]
    #[case::signed(&["+1"], None)]
    #[case::fraction(&["1.0"], None)]
    #[case::word(&["latest"], None)]
    #[case::twice(&["1", "1"], None)]
    #[case::list(&["1, 2"], None)]
    fn a_min_position_is_one_whole_number(#[case] values: &[&str], #[case] expected: Option<Option<u64>>) {
        let read = min_position(&headers(&MARVIN_MIN_POSITION, values));
        assert_eq!(read.as_ref().err().map(|problem| problem.status().as_u16()), expected.is_none().then_some(400));
        assert_eq!(read.ok(), expected);
    }

    #[rstest]
    #[case::shortest(&["k"], true)]
    #[case::punctuation(&["\"7e9~!;,\""], true)]
    #[case::longest(&[&TOO_LONG[1..]], true)]
    #[case::too_long(&[TOO_LONG], false)]
    #[case::empty(&[""], false)]
    #[case::space(&["a b"], false)]
    #[case::tab(&["a\tb"], false)]
    #[case::not_ascii(&["clé"], false)]
    #[case::twice(&["a", "a"], false)]
    fn an_idempotency_key_is_visible_and_given_once(#[case] values: &[&str], #[case] fits: bool) {
        let read = IdempotencyKey::from_headers(&headers(&IDEMPOTENCY_KEY, values));
        assert_eq!(read.as_ref().err().map(|problem| problem.status().as_u16()), (!fits).then_some(400));
        assert_eq!(read.ok().flatten().map(|key| key.0), fits.then(|| values[0].to_owned()));
    }

    #[test]
    fn a_call_that_answers_a_secret_refuses_an_idempotency_key() {
        assert!(IdempotencyKey::refuse(&HeaderMap::new()).is_ok());
        assert!(IdempotencyKey::refuse(&headers(&IDEMPOTENCY_KEY, &["k"])).is_err());
    }
}
