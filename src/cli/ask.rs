//! Has a request carried out by the process that owns the data directory; where there is none, by this one.
use crate::{
    config::Settings,
    control::{self, Answer, Request},
    stores::Stores,
};

/// # Errors
/// When it was not done, in words.
pub fn carry_out(settings: &Settings, request: Request) -> anyhow::Result<Answer> {
    let answer = match control::ask(&settings.data_dir, &request)? {
        Some(answer) => answer,
        None => tokio::runtime::Runtime::new()?.block_on(async {
            Stores::require(settings).await?;
            let stores = Stores::open(settings).await?;
            let answer = control::perform(request, &control::Hands::on(&stores)).await;
            stores.close().await;
            anyhow::Ok(answer)
        })?,
    };
    match answer {
        Answer::Failed { reason } => Err(anyhow::anyhow!(reason)),
        done => Ok(done),
    }
}
