//! Ids in paths: the canonical text of a UUIDv7 and nothing else, so that a resource has one address.
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use serde::{Deserialize, Deserializer, de};
use uuid::{Uuid, Version};

use super::problem::Problem;

/// The `{id}` of a path. Another form of id is 404, as if it had never been given out, which is so.
///
/// A path with two ids takes them in order as `web::Path<(PathId, PathId)>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathId(pub Uuid);

impl PathId {
    /// Reads lowercase, hyphenated text; none when it is another form or another version of UUID.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Uuid::try_parse(text).ok()?;
        let mut canonical = Uuid::encode_buffer();
        let is_canonical = id.hyphenated().encode_lower(&mut canonical) == text;
        (is_canonical && id.get_version() == Some(Version::SortRand) && id.get_variant() == uuid::Variant::RFC4122)
            .then_some(Self(id))
    }
}

impl FromRequest for PathId {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.match_info().get("id").and_then(Self::parse).ok_or_else(Problem::not_found))
    }
}

impl<'de> Deserialize<'de> for PathId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("not an id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::StatusCode;
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, call_service, init_service};
    use actix_web::{App, web};
    use rstest::rstest;

    const ID: &str = "018f5f3a-7c1e-7d4b-8a55-0123456789ab";

    #[rstest]
    #[case::canonical(ID, true)]
    #[case::upper_case("018F5F3A-7C1E-7D4B-8A55-0123456789AB", false)]
    #[case::without_hyphens("018f5f3a7c1e7d4b8a550123456789ab", false)]
    #[case::braced("{018f5f3a-7c1e-7d4b-8a55-0123456789ab}", false)]
    #[case::urn("urn:uuid:018f5f3a-7c1e-7d4b-8a55-0123456789ab", false)]
    #[case::version_4("018f5f3a-7c1e-4d4b-8a55-0123456789ab", false)]
    #[case::other_variant("018f5f3a-7c1e-7d4b-ca55-0123456789ab", false)]
    #[case::nil("00000000-0000-0000-0000-000000000000", false)]
    #[case::empty("", false)]
    #[case::word("latest", false)]
    fn only_the_canonical_text_of_a_uuid_v7_is_an_id(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(PathId::parse(text).is_some(), valid);
    }

    #[rstest]
    #[case("/one/018f5f3a-7c1e-7d4b-8a55-0123456789ab", 200)]
    #[case("/one/018F5F3A-7C1E-7D4B-8A55-0123456789AB", 404)]
    #[case("/one/%00", 404)]
    #[case("/two/018f5f3a-7c1e-7d4b-8a55-0123456789ab/018f5f3a-7c1e-7d4b-8a55-0123456789ab", 200)]
    #[case("/two/018f5f3a-7c1e-7d4b-8a55-0123456789ab/latest", 404)]
    #[actix_web::test]
    async fn another_form_of_id_in_a_path_is_404(#[case] path: &str, #[case] status: u16) {
        let app = App::new()
            .wrap(from_fn(crate::http::describe::describe))
            .route("/one/{id}", web::get().to(async |_: PathId| ""))
            .route("/two/{id}/{other}", web::get().to(async |_: web::Path<(PathId, PathId)>| ""));
        let app = init_service(app).await;
        let response = call_service(&app, TestRequest::get().uri(path).to_request()).await;
        assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
    }
}
