//! Signs calls as Standard Webhooks says, with a named secret.
use base64::{Engine, engine::general_purpose::STANDARD};
use marvin_domain::secret::SecretName;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use std::ops::RangeInclusive;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{agent::TaskFailure, secrets::Secrets};

const PREFIX: &str = "whsec_";
/// Bytes of a signing key (Standard Webhooks, "Symmetric").
const KEY_BYTES: RangeInclusive<usize> = 24..=64;

/// The secret of this name, fit to sign with.
///
/// # Errors
/// `secret_missing`, `secret_unusable`; passing: `secrets_unavailable`. No message holds anything of the value.
pub async fn key(secrets: &Secrets, name: &str) -> Result<SecretString, TaskFailure> {
    let missing = || TaskFailure::lasting("secret_missing", format!("there is no secret {name}"));
    let parsed = SecretName::parse(name).map_err(|_| missing())?;
    let value = secrets.value(&parsed).await;
    let value = value.map_err(|_| TaskFailure::passing("secrets_unavailable", "secrets cannot be read now"))?;
    let value = value.ok_or_else(missing)?;
    if is_usable(value.expose_secret()) {
        return Ok(value);
    }
    let message = format!("the secret {name} is no key to sign with: whsec_ and 24 to 64 bytes in base64");
    Err(TaskFailure::lasting("secret_unusable", message))
}

fn is_usable(value: &str) -> bool {
    let key = value.strip_prefix(PREFIX).and_then(|key| STANDARD.decode(key).ok()).map(Zeroizing::new);
    key.is_some_and(|key| KEY_BYTES.contains(&key.len()))
}

/// The headers of a call: its id, its time in seconds since 1970, and the signature over both and the body.
pub fn headers(id: Uuid, at_s: i64, body: &[u8], key: Option<&SecretString>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut set = |name: &'static str, value: &str| {
        let value = HeaderValue::try_from(value).expect("ids, digits and base64 are header text");
        headers.insert(HeaderName::from_static(name), value);
    };
    let id = id.to_string();
    set(HEADER_WEBHOOK_ID, &id);
    set(HEADER_WEBHOOK_TIMESTAMP, &at_s.to_string());
    if let Some(key) = key {
        let signature = Webhook::new(key.expose_secret()).and_then(|webhook| webhook.sign(&id, at_s, body));
        set(HEADER_WEBHOOK_SIGNATURE, &signature.expect("the key was checked, and JSON is UTF-8"));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_signed_as_the_standard_example_is() {
        // https://www.standardwebhooks.com, section "Verifying webhooks": its own test vector.
        let key = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let webhook = Webhook::new(key.expose_secret()).unwrap();
        let signed = webhook.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#).unwrap();
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let told = headers(Uuid::nil(), 7, b"{}", Some(&key));
        assert_eq!(told["webhook-signature"], webhook.sign(&Uuid::nil().to_string(), 7, b"{}").unwrap());
        assert!(!headers(Uuid::nil(), 7, b"{}", None).contains_key("webhook-signature"));
    }

    #[test]
    fn a_key_has_its_prefix_and_enough_bytes() {
        let encoded = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (value, usable) in [
            (encoded(24), true),
            (encoded(64), true),
            (encoded(23), false),
            (encoded(65), false),
            (STANDARD.encode([7; 32]), false),
            ("whsec_".into(), false),
            ("whsec_not base64 at all, really".into(), false),
            (format!("{}\n", encoded(32)), false),
        ] {
            assert_eq!(is_usable(&value), usable, "{value}");
        }
    }
}
