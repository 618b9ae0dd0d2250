//! Named secrets: set, replaced and removed by administrators. No answer holds a value.
use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path},
};
use chrono::{DateTime, Utc};
use garde::Validate;
use marvin_domain::secret::SecretName;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Value, json};

use super::{
    api::{Api, done, precondition},
    caller::Caller,
    conditional::{MARVIN_POSITION, etag},
    json::Json,
    problem::Problem,
    query::{NoParameters, Query},
};
use crate::{
    error::FieldError,
    secrets::{Listed, NAMES_MAX, SecretsError, VALUE_BYTES_MAX},
};

/// The body of a setting. Whatever form it has, no word of it is quoted.
#[derive(Debug, Validate)]
#[garde(allow_unvalidated)]
pub struct SetSecret {
    value: SecretString,
}

impl<'de> Deserialize<'de> for SetSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A type's own complaint would show what it found instead.
        let expected = || de::Error::custom("an object with the one field \"value\", a text");
        let Value::Object(mut fields) = Value::deserialize(deserializer)? else { return Err(expected()) };
        match (fields.remove("value"), fields.is_empty()) {
            (Some(Value::String(value)), true) => Ok(Self { value: SecretString::from(value) }),
            _ => Err(expected()),
        }
    }
}

impl SetSecret {
    fn check(&self) -> Result<(), Problem> {
        let value = self.value.expose_secret();
        let wrong = match value.len() {
            0 => "must not be empty".to_owned(),
            bytes if bytes > VALUE_BYTES_MAX => format!("must have at most {VALUE_BYTES_MAX} bytes"),
            _ if value.contains('\0') => "must not hold NUL characters".to_owned(),
            _ => return Ok(()),
        };
        Err(refused("/value", wrong))
    }
}

#[derive(Serialize)]
struct ListedBody {
    name: String,
    #[serde(serialize_with = "crate::time::required")]
    set_at: DateTime<Utc>,
}

impl From<Listed> for ListedBody {
    fn from(listed: Listed) -> Self {
        let set_at = DateTime::from_timestamp_millis(listed.set_at_ms).unwrap_or_default();
        Self { name: listed.name, set_at }
    }
}

fn refused(pointer: &str, detail: impl Into<String>) -> Problem {
    Problem::unprocessable("Some values were refused.", vec![FieldError::new(pointer, detail)])
}

/// `GET /api/v1/secrets`: their names, the one set last first. There are few, so this is one page.
pub async fn list(api: Data<Api>, _: Query<NoParameters>) -> Result<HttpResponse, Problem> {
    let items: Vec<_> = api.secrets.list().await?.into_iter().map(ListedBody::from).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next_cursor": null })))
}

/// `PUT /api/v1/secrets/{name}`: 201 for a new one, 200 for one that is replaced.
pub async fn set(
    api: Data<Api>,
    caller: Caller,
    name: Path<String>,
    body: Json<SetSecret>,
) -> Result<HttpResponse, Problem> {
    let name = SecretName::parse(&name).map_err(|error| refused("/name", error.to_string()))?;
    body.check()?;
    let location = format!("/api/v1/secrets/{}", name.as_str());
    let (receipt, is_new) = api.secrets.set(&api.meta(&caller), name, body.into_inner().value).await?;
    if !is_new {
        return Ok(done(&receipt));
    }
    let told = json!({ "id": receipt.stream.id, "sequence": receipt.sequence, "position": receipt.position });
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, location))
        .insert_header((MARVIN_POSITION, receipt.position.to_string()))
        .insert_header((header::ETAG, etag(receipt.sequence)))
        .json(told))
}

/// `DELETE /api/v1/secrets/{name}`
pub async fn remove(
    request: HttpRequest,
    api: Data<Api>,
    caller: Caller,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    let precondition = precondition(&request)?;
    let name = SecretName::parse(&name).map_err(|_| Problem::not_found())?;
    Ok(done(&api.secrets.remove(&api.meta(&caller), name, &precondition).await?))
}

impl From<SecretsError> for Problem {
    fn from(error: SecretsError) -> Self {
        match error {
            SecretsError::TooMany => refused("/name", format!("there are {NAMES_MAX} secrets already: remove one")),
            SecretsError::Dispatch(error) => error.into(),
            SecretsError::Subjects(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_malformed_setting_is_quoted() {
        let planted = "s3cret";
        for body in [
            format!("\"{planted}\""),
            format!("[\"{planted}\"]"),
            format!("{{\"{planted}\": 1}}"),
            format!("{{\"value\": [\"{planted}\"]}}"),
            format!("{{\"value\": \"{planted}\", \"{planted}\": 1}}"),
            format!("{{\"value\": {{\"{planted}\": \"{planted}\"}}}}"),
            format!("{{\"value\": \"{planted}\""),
            format!("{{\"value\": \"{planted}\\q\"}}"),
            planted.to_owned(),
        ] {
            let refused = super::super::parse::parse::<SetSecret>(body.as_bytes()).unwrap_err();
            let told = format!("{refused:?}{:?}", refused.errors());
            assert!(!told.contains(planted), "{body}: {told}");
        }
    }

    #[test]
    fn a_value_is_bounded_and_shown_nowhere() {
        let read = |value: String| SetSecret { value: SecretString::from(value) };
        assert!(read("x".repeat(VALUE_BYTES_MAX)).check().is_ok());
        for value in [String::new(), "x".repeat(VALUE_BYTES_MAX + 1), "a\0b".to_owned()] {
            assert_eq!(read(value).check().unwrap_err().status().as_u16(), 422);
        }
        assert!(!format!("{:?}", read("s3cret".into())).contains("s3cret"));
    }
}
