//! Reads a query string strictly: each parameter known, given once, well encoded and of its type; else 400 that names it.
use std::collections::BTreeMap;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use serde::de::value::{Error, MapDeserializer, StringDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::parse::pointer;
use super::problem::Problem;
use crate::error::FieldError;

/// The parameters of a query. `T` should deny unknown fields.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T> std::ops::Deref for Query<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(parse(request.query_string()).map(Self))
    }
}

/// For calls without parameters: one that is given all the same would be passed over silently.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParameters {}

/// Reads `query`, the part of a URL behind its question mark.
///
/// # Errors
/// 400 with a pointer that names the parameter.
pub fn parse<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let parameters = split(query).map_err(|error| refused(vec![error]))?;
    let values = parameters.into_iter().map(|(name, value)| (name, Text(value)));
    serde_path_to_error::deserialize(MapDeserializer::<_, Error>::new(values))
        .map_err(|error| refused(vec![FieldError::new(pointer(error.path().iter()), error.inner().to_string())]))
}

/// The 400 for a value of a query that its type cannot refuse on its own, such as a cursor of another list.
pub fn refused(errors: Vec<FieldError>) -> Problem {
    Problem::malformed("A query parameter was refused.").with_errors(errors)
}

fn split(query: &str) -> Result<BTreeMap<String, String>, FieldError> {
    let mut parameters = BTreeMap::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let name =
            decode(name).ok_or_else(|| FieldError::new("", "a parameter's name is not percent-encoded UTF-8"))?;
        let at = format!("/{name}");
        let value = decode(value).ok_or_else(|| FieldError::new(&at, "the value is not percent-encoded UTF-8"))?;
        // Not every database takes one, and nothing here has one.
        if value.contains('\0') {
            return Err(FieldError::new(at, "the value holds a NUL"));
        }
        if parameters.insert(name, value).is_some() {
            return Err(FieldError::new(at, "the parameter is given twice"));
        }
    }
    Ok(parameters)
}

/// Undoes form encoding; none where a `%` lacks its two digits or the bytes are not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// One value as text, which becomes whatever type its field has.
struct Text(String);

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let value = self.0.parse().map_err(|_| Error::custom(concat!("not a value of type ", stringify!($type))))?;
            visitor.$visit(value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Text {
    type Error = Error;

    parsed! {
        deserialize_bool visit_bool bool,
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
        deserialize_f64 visit_f64 f64,
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let name: StringDeserializer<Error> = self.0.into_deserializer();
        visitor.visit_enum(name)
    }

    forward_to_deserialize_any! {
        i128 u128 f32 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Text {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Filter {
        kind: Option<Kind>,
        #[serde(default)]
        after: u64,
        unread: Option<bool>,
        text: Option<String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Insight,
        Rules,
    }

    #[test]
    fn no_query_is_every_default() {
        assert_eq!(parse::<Filter>("").unwrap(), Filter { kind: None, after: 0, unread: None, text: None });
        assert_eq!(parse::<Filter>("&&").unwrap(), parse::<Filter>("").unwrap());
    }

    #[test]
    fn values_take_the_type_of_their_field() {
        let filter =
            parse::<Filter>("kind=rules&after=18446744073709551615&unread=true&text=a+b%26%C3%A9%3D=c").unwrap();
        let text = Some("a b&é==c".to_owned());
        assert_eq!(filter, Filter { kind: Some(Kind::Rules), after: u64::MAX, unread: Some(true), text });
    }

    #[rstest]
    #[case::unknown("knid=rules", "/knid")]
    #[case::unknown_choice("kind=webhook", "/kind")]
    #[case::empty_choice("kind=", "/kind")]
    #[case::word_for_number("after=soon", "/after")]
    #[case::negative("after=-1", "/after")]
    #[case::too_big("after=18446744073709551616", "/after")]
    #[case::empty_number("after=", "/after")]
    #[case::not_a_bool("unread=1", "/unread")]
    #[case::twice("after=1&after=1", "/after")]
    #[case::twice_encoded("after=1&%61fter=2", "/after")]
    #[case::cut_escape("text=%4", "/text")]
    #[case::bare_percent("text=100%", "/text")]
    #[case::no_hex("text=%zz", "/text")]
    #[case::signed_hex("text=%+1", "/text")]
    #[case::not_utf8("text=%ff", "/text")]
    #[case::name_not_utf8("%ff=1", "")]
    #[case::name_with_brackets("kind[]=rules", "/kind[]")]
    fn a_refused_parameter_is_400_and_named(#[case] query: &str, #[case] pointer: &str) {
        let refused = parse::<Filter>(query).unwrap_err();
        assert_eq!(refused.status().as_u16(), 400);
        assert_eq!(refused.errors()[0].pointer, pointer, "{refused:?}");
    }
}
