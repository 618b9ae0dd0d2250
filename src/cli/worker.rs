//! `marvin worker`: agents in a process of their own beside the servers, until it is told to stop.
use actix_web::rt::System;
use anyhow::{Context, bail};
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tracing::info;

use super::serve::{ENGINE_PATIENCE, STOP_PATIENCE_S, stop_asked};
use crate::{
    config::Settings,
    http::metrics,
    node::{self, Node},
    stores::Stores,
};

/// Runs until SIGTERM or Ctrl-C.
///
/// # Errors
/// Why it could not start, in words.
pub fn run(settings: &Settings) -> anyhow::Result<()> {
    if settings.database_url.is_none() {
        bail!(
            "a worker shares its log with a server: set MARVIN_DATABASE_URL. In files, marvin serve runs the agents itself"
        );
    }
    let engine = Builder::new_multi_thread().thread_name("engine").enable_all().build()?;
    let runtime = &engine;
    let worked = std::thread::scope(|scope| {
        System::new().block_on(async {
            let recorder = metrics::install()?;
            let measured = settings.metrics_listen.map(|address| {
                metrics::listener(address, recorder)
                    .with_context(|| format!("MARVIN_METRICS_LISTEN {address} cannot be used"))
            });
            if let Some((address, server)) = measured.transpose()? {
                tokio::spawn(server);
                info!(%address, "metrics are served");
            }
            let (stop_asked, (ended, worked)) = (stop_asked()?, oneshot::channel());
            // On a thread of its own, for as long as it takes: this one answers who asks for metrics.
            scope.spawn(move || ended.send(runtime.block_on(work(settings, stop_asked))).ok());
            worked.await.context("the worker's thread panicked")?
        })
    });
    engine.shutdown_timeout(ENGINE_PATIENCE);
    worked
}

async fn work(settings: &Settings, stop_asked: impl Future<Output = ()>) -> anyhow::Result<()> {
    // A worker makes no instance: a mistyped name would have it wait for work for ever.
    Stores::require(settings).await?;
    // Where callbacks go: to the servers.
    let public_url = settings.public_origin(settings.listen).to_string();
    let mut node = Node::start(Stores::open_beside(settings).await?, settings, public_url)?;
    node.first_look().await;
    let worker = node.work();
    // Where there is no broker to share, it hears of work by itself.
    if settings.amqp_url.is_none() {
        node.keep(node.relay().run_within(node.tail.clone(), node.health.clone()));
    }
    println!("Marvin's worker {} is ready", worker.id);
    stop_asked.await;
    info!("stopping: what runs is finished");
    node::drain(&worker, Duration::from_secs(STOP_PATIENCE_S)).await;
    node.stop().await;
    node.stores.close().await;
    Ok(())
}
