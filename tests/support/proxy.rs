//! A TCP proxy that can fail on purpose: it passes bytes on, holds them back, or cuts connections.
#![allow(dead_code)]
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What happens to bytes on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Fine,
    /// Connections stay, and nothing arrives.
    Silent,
    /// Connections stay, and what is said on them is never heard, nor anything that follows on them in a better weather.
    Lost,
    /// What the client says arrives, and the answers are held back.
    Unanswered,
    /// Everything arrives this much later.
    Slow(Duration),
    /// A new connection is made and logged in, and then its first statement gets no answer.
    SilentAfterLogin,
    /// What the client says arrives, the answers do not: the connection is cut when the server answers.
    AnswersCut,
    /// Nothing the client says arrives: the connection is cut as soon as it speaks, and new ones are.
    Cut,
}

pub struct Proxy {
    pub address: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
    cuts: Arc<AtomicUsize>,
}

impl Proxy {
    pub async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (weather, cuts) = (Arc::new(watch::channel(Weather::Fine).0), Arc::new(AtomicUsize::new(0)));
        let (changes, counted) = (weather.clone(), cuts.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                let (weather, cuts) = (changes.subscribe(), counted.clone());
                tokio::spawn(async move {
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    // Either end takes the other with it.
                    tokio::select! {
                        () = pass(from_client, to_server, weather.clone(), Weather::Cut) => {}
                        () = pass(from_server, to_client, weather, Weather::AnswersCut) => {}
                    }
                    cuts.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, weather, cuts }
    }

    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Connections that have ended.
    pub fn ended(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

/// Passes bytes on until one end closes, or bytes come in a weather that cuts this direction.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut weather: watch::Receiver<Weather>,
    cutting: Weather,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let holds = |weather: &Weather| match weather {
            Weather::Silent => true,
            Weather::Unanswered => cutting == Weather::AnswersCut,
            _ => false,
        };
        if weather.wait_for(|weather| !holds(weather)).await.is_err() {
            return;
        }
        // A statement without parameters, which is how a connection is set up.
        if *weather.borrow() == Weather::SilentAfterLogin && cutting == Weather::Cut && buffer[0] == b'Q' {
            weather.wait_for(|weather| *weather != Weather::SilentAfterLogin).await.ok();
            return;
        }
        let now = *weather.borrow();
        if now == Weather::Lost {
            std::future::pending().await
        }
        if let Weather::Slow(delay) = now {
            tokio::time::sleep(delay).await;
        }
        if now == cutting || now == Weather::Cut {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
