//! A receiver of webhooks: keeps every call, and answers as the test says, however badly.
use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::wait::eventually;

#[derive(Debug, Clone)]
pub struct Call {
    pub head: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Call {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a call is JSON")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// # Panics
    /// Where the call has no callback address.
    pub fn callback(&self) -> String {
        self.json()["callback_url"].as_str().expect("a callback address").to_owned()
    }
}

pub enum Reply {
    /// These very bytes.
    Bytes(Vec<u8>),
    /// These bytes, then more of the same until the caller hangs up or it was so many.
    Endless(Vec<u8>, u64),
    /// These bytes, then nothing until the caller hangs up.
    Hang(Vec<u8>),
    /// Nothing until the test says so, then these bytes.
    Held(Arc<Notify>, Vec<u8>),
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        let body = body.to_string();
        let head =
            format!("HTTP/1.1 {status} So\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        Self::Bytes(format!("{head}{body}").into_bytes())
    }

    pub fn status(status: u16, headers: &str) -> Self {
        Self::Bytes(format!("HTTP/1.1 {status} So\r\n{headers}content-length: 0\r\n\r\n").into_bytes())
    }
}

#[derive(Debug, Default)]
struct Seen {
    calls: Mutex<Vec<Call>>,
    /// Bytes that were written to callers.
    written: Mutex<u64>,
    /// How often a caller hung up on a reply that was not over.
    hung_up: Mutex<usize>,
}

/// Listens for as long as the test runs.
#[derive(Debug, Clone)]
pub struct Receiver {
    pub url: String,
    seen: Arc<Seen>,
}

impl Receiver {
    /// `reply` is told which call it is, from 0 on.
    pub async fn start(reply: impl Fn(usize, &Call) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("it is bound"));
        let (seen, reply) = (Arc::new(Seen::default()), Arc::new(reply));
        let receiver = Self { url, seen: seen.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, seen.clone(), reply.clone()));
            }
        });
        receiver
    }

    /// One that gives every call this answer.
    pub async fn answering(status: u16, body: Value) -> Self {
        Self::start(move |_, _| Reply::json(status, &body)).await
    }

    pub fn calls(&self) -> Vec<Call> {
        self.seen.calls.lock().unwrap().clone()
    }

    pub fn written(&self) -> u64 {
        *self.seen.written.lock().unwrap()
    }

    pub fn hung_up(&self) -> usize {
        *self.seen.hung_up.lock().unwrap()
    }

    /// The call of this number, from 0 on, once it has come.
    pub async fn call(&self, number: usize) -> Call {
        eventually(&format!("call {number} comes"), async || self.calls().get(number).cloned()).await
    }
}

/// What is answered to a call of this number.
type Replying = dyn Fn(usize, &Call) -> Reply + Send + Sync;

async fn serve(mut stream: TcpStream, seen: Arc<Seen>, reply: Arc<Replying>) -> Option<()> {
    let call = read(&mut stream).await?;
    let number = {
        let mut calls = seen.calls.lock().unwrap();
        calls.push(call.clone());
        calls.len() - 1
    };
    match reply(number, &call) {
        Reply::Bytes(bytes) => stream.write_all(&bytes).await.ok()?,
        Reply::Endless(bytes, most) => {
            let mut written = 0;
            while written < most && stream.write_all(&bytes).await.is_ok() {
                written += bytes.len() as u64;
                *seen.written.lock().unwrap() = written;
            }
            *seen.hung_up.lock().unwrap() += usize::from(written < most);
        }
        Reply::Hang(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            while let Ok(1..) = stream.read(&mut [0; 64]).await {}
            *seen.hung_up.lock().unwrap() += 1;
        }
        Reply::Held(go, bytes) => {
            go.notified().await;
            stream.write_all(&bytes).await.ok()?;
        }
    }
    stream.shutdown().await.ok()
}

/// Reads one call; none when the caller hangs up before it is whole.
pub async fn read(stream: &mut TcpStream) -> Option<Call> {
    let mut bytes = BytesMut::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes.split_to(end + 4).to_vec()).ok()?;
    let mut headers = HeaderMap::new();
    for line in head.lines().skip(1) {
        if let Some((name, value)) = line.split_once(':') {
            headers.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value.trim()).ok()?);
        }
    }
    // A call without a body need not say so.
    let length: usize = headers.get("content-length").map_or(Ok("0"), HeaderValue::to_str).ok()?.parse().ok()?;
    while bytes.len() < length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Call { head, headers, body: bytes.freeze() })
}
