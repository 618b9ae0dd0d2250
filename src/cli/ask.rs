//! Has requests carried out by the process that owns the data directory; where there is none, by this one.
use anyhow::bail;
use tokio::{runtime::Runtime, task::spawn_blocking};

use crate::{
    config::Settings,
    control::{self, Answer, Hands, Request},
    stores::Stores,
};

/// Carries out one request.
///
/// # Errors
/// When it was not done, in words.
pub fn carry_out(settings: &Settings, request: Request) -> anyhow::Result<Answer> {
    Runtime::new()?.block_on(async {
        let mut desk = Desk::of(settings);
        let answer = desk.ask(request).await;
        desk.close().await;
        answer
    })
}

/// Whoever carries requests out: the server that runs at the first of them, or else this process.
pub struct Desk<'a> {
    settings: &'a Settings,
    own: Option<(Stores, Hands)>,
    /// A server has answered. When it ends, another may be about to start, so the stores are not to be taken from it.
    is_served: bool,
}

impl<'a> Desk<'a> {
    pub fn of(settings: &'a Settings) -> Self {
        Self { settings, own: None, is_served: false }
    }

    /// Whether this process carries them out, because no server runs here.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// # Errors
    /// When it was not done, in words.
    pub async fn ask(&mut self, request: Request) -> anyhow::Result<Answer> {
        let answer = match &self.own {
            Some((_, hands)) => control::perform(request, hands).await,
            None => {
                let (data_dir, asked) = (self.settings.data_dir.clone(), request.clone());
                match spawn_blocking(move || control::ask(&data_dir, &asked)).await?? {
                    Some(answer) => {
                        self.is_served = true;
                        answer
                    }
                    None if self.is_served => bail!("the server has ended meanwhile: ask again"),
                    None => control::perform(request, self.open().await?).await,
                }
            }
        };
        match answer {
            Answer::Failed { reason } => Err(anyhow::anyhow!(reason)),
            done => Ok(done),
        }
    }

    async fn open(&mut self) -> anyhow::Result<&Hands> {
        Stores::require(self.settings).await?;
        let stores = Stores::open(self.settings).await?;
        let hands = Hands::on(&stores);
        let (_, hands) = self.own.insert((stores, hands));
        Ok(hands)
    }

    /// Leaves the stores as a stopped process should.
    pub async fn close(self) {
        if let Some((stores, _)) = self.own {
            stores.close().await;
        }
    }
}
