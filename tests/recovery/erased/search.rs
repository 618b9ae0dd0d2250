//! Finds a person's secrets in bytes, in any of the forms in which a program would write them.
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use std::collections::BTreeMap;

/// What must stand nowhere once a person is erased.
pub struct Secrets {
    pub raw: Vec<u8>,
    pub wrapped: Vec<u8>,
    pub email_hmac: Vec<u8>,
}

impl Secrets {
    pub fn named(&self) -> [(&'static str, &[u8]); 3] {
        [("the raw key", &self.raw), ("the wrapped key", &self.wrapped), ("the email's HMAC", &self.email_hmac)]
    }

    /// Where any of them stands, and in which form.
    pub fn found(&self, contents: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
        self.named().iter().flat_map(|(name, secret)| found(name, secret, contents)).collect()
    }
}

/// Where `secret` stands, and in which form.
pub fn found(name: &str, secret: &[u8], contents: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let forms: Vec<_> = forms(secret).into_iter().map(|(form, bytes)| (form, characters(&bytes))).collect();
    let mut places = Vec::new();
    for (place, content) in contents {
        let content = characters(content);
        let within = forms.iter().filter(|(_, pattern)| content.contains(pattern));
        places.extend(within.map(|(form, _)| format!("{name} as {form} in {place}")));
    }
    places
}

/// One character a byte, since the search for text is the fast one.
fn characters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

pub fn forms(secret: &[u8]) -> Vec<(String, Vec<u8>)> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{secret:?}");
    let list = list.trim_matches(['[', ']']);
    let mut forms = vec![
        ("bytes".to_owned(), secret.to_vec()),
        ("hex".to_owned(), hex.clone().into_bytes()),
        ("upper hex".to_owned(), hex.to_uppercase().into_bytes()),
        ("a list".to_owned(), list.as_bytes().to_vec()),
        ("a dense list".to_owned(), list.replace(", ", ",").into_bytes()),
    ];
    for (alphabet, engine) in [("base64", STANDARD), ("URL-safe base64", URL_SAFE)] {
        for shift in 0..3 {
            // The characters at both ends depend on what stands around; those between do not.
            let encoded = engine.encode([&vec![b'x'; shift], secret].concat());
            let inner = encoded.trim_end_matches('=');
            let begin = if shift == 0 { 0 } else { 4 };
            forms.push((format!("{alphabet} at {shift}"), inner.as_bytes()[begin..inner.len() - 3].to_vec()));
        }
    }
    forms
}
