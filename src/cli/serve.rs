//! `marvin serve`: everything in one process, until it is told to stop.
use actix_web::{App as Server, HttpServer, middleware::from_fn, rt::System};
use anyhow::Context;
use std::{net::TcpListener, time::Duration};
use tokio::runtime::{Builder, Runtime};
use tracing::info;

use crate::{
    app::App,
    config::Settings,
    http::{self, describe::describe, headers::secure, line, metrics},
};

/// Requests and tasks that run when a stop is asked for may take this long to end.
pub(super) const STOP_PATIENCE_S: u64 = 30;
/// A computation that cannot be stopped may go on this long after everything else has ended.
pub(super) const ENGINE_PATIENCE: Duration = Duration::from_secs(1);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;
/// A client has this long to send its head; slower ones would hold connections for nothing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or Ctrl-C.
///
/// # Errors
/// Why it could not start, in words.
pub fn run(settings: &Settings) -> anyhow::Result<()> {
    // The engine has threads of its own, so that neither a slow request nor a large event holds up a heartbeat.
    let engine = Builder::new_multi_thread().thread_name("engine").enable_all().build()?;
    let served = System::new().block_on(serve(settings, &engine));
    engine.shutdown_timeout(ENGINE_PATIENCE);
    served
}

/// Runs `work` on the engine, whose loops then stay there, and waits for it.
fn on<T: Send>(engine: &Runtime, work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| scope.spawn(|| engine.block_on(work)).join())
        .expect("a start that panics ends the program")
}

async fn serve(settings: &Settings, engine: &Runtime) -> anyhow::Result<()> {
    // The sockets are taken first: an address in use stops the start before any store is opened.
    let listener = listen(settings)?;
    let bound = listener.local_addr()?;
    let recorder = metrics::install()?;
    let measured = settings.metrics_listen.map(|address| {
        metrics::listener(address, recorder).with_context(|| format!("MARVIN_METRICS_LISTEN {address} cannot be used"))
    });
    let measured = measured.transpose()?;
    let app = on(engine, App::start(settings, bound))?;
    if let Some((address, server)) = measured {
        tokio::spawn(server);
        info!(%address, "metrics are served");
    }
    let (api, health) = (app.api.clone(), app.health.clone());
    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
    let server = HttpServer::new(move || {
        Server::new()
            // The last one is the outermost: what is refused anywhere is described, secured and measured.
            .wrap(from_fn(describe))
            .wrap(from_fn(secure))
            .wrap(from_fn(metrics::measure))
            .configure(|config| http::configure(config, &api, &health))
    })
    .on_connect(line::keep)
    .workers(workers)
    .client_request_timeout(HEAD_TIMEOUT)
    .shutdown_timeout(STOP_PATIENCE_S)
    .disable_signals()
    .listen(listener)?
    .run();
    let handle = server.handle();
    let serving = tokio::spawn(server);
    // Heard from before the server says that it is ready: whoever reads that may ask it to stop at once.
    let stop_asked = stop_asked()?;
    let link = app.welcome(settings).await?;
    app.health.serve();
    announce(&app.api.public_url, link.as_deref());

    stop_asked.await;
    info!("stopping: what runs is finished");
    app.health.drain();
    // Views and agents go on while requests end: some wait for them.
    tokio::join!(handle.stop(true), app.drain(Duration::from_secs(STOP_PATIENCE_S)));
    app.close().await;
    serving.await??;
    Ok(())
}

fn listen(settings: &Settings) -> anyhow::Result<TcpListener> {
    let address = settings.listen;
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    // A server that was killed may start again at once on the same port.
    socket.set_reuse_address(true)?;
    socket
        .bind(&address.into())
        .and_then(|()| socket.listen(BACKLOG))
        .with_context(|| format!("MARVIN_LISTEN {address} cannot be used"))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Tells the person at the terminal where to go. On standard output, as the answer of this command.
fn announce(public_url: &str, link: Option<&str>) {
    println!("Marvin is ready at {public_url}");
    if let Some(link) = link {
        println!("Set it up within 15 minutes at {link}");
    }
}

/// Listens for SIGTERM and Ctrl-C from this call on; what it answers waits for the first of them.
pub(super) fn stop_asked() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
