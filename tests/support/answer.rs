//! An answer of the server, read whole, with the questions that tests ask of it.
use bytes::Bytes;
use reqwest::header::HeaderMap;
use serde_json::Value;

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.bytes().await.expect("the body arrives whole") }
    }

    /// # Panics
    /// With the body, unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The text of a header; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The `id` of a command's answer.
    #[track_caller]
    pub fn id(&self) -> String {
        self.json()["id"].as_str().expect("the answer has an id").to_owned()
    }

    /// The `Marvin-Position` of the answer.
    #[track_caller]
    pub fn position(&self) -> u64 {
        self.header("marvin-position").parse().expect("the answer has a Marvin-Position")
    }

    /// The items of a list.
    #[track_caller]
    pub fn items(&self) -> Vec<Value> {
        self.json()["items"].as_array().expect("the answer is a list").clone()
    }

    /// The problem document of a refusal, checked to be complete.
    ///
    /// # Panics
    /// Unless the answer has this status and is a problem document with all that each must have.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{text}");
        let problem = self.json();
        assert!(problem["type"].as_str().is_some_and(|kind| kind.starts_with("/problems/")), "{text}");
        assert_eq!(problem["status"], status, "{text}");
        for field in ["title", "instance"] {
            assert!(problem[field].as_str().is_some_and(|field| !field.is_empty()), "{field} of {text}");
        }
        let trace = problem["trace_id"].as_str().unwrap_or_default();
        assert!(trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit()), "trace_id of {text}");
        assert_eq!(self.header("marvin-trace-id"), trace, "the answer and its document name one trace");
        problem
    }

    /// Where the refused values are, in the order of the problem document.
    #[track_caller]
    pub fn pointers(&self) -> Vec<String> {
        let problem = self.json();
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["pointer"].as_str().unwrap_or_default().to_owned()).collect()
    }
}
