//! Listens on the control socket for as long as the process serves.
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    convert::Infallible,
    fs::{self, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{ReadHalf, WriteHalf},
    },
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::warn;

use super::{ALIVE_INTERVAL, Answer, Hands, REQUEST_BYTES_MAX, Request, perform, sentence, socket_in};

/// Who asks at once: one backup or rotation, one comparison, some who are told that it is under way, and a few who watch a rebuild.
pub(super) const CONNECTIONS_MAX: usize = 8;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;
/// A client has this long to send its line, and to take the answer: both are a few bytes on the same machine.
const LINE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries when the system gives no further connection.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// The owner alone connects.
const MODE: u32 = 0o600;

/// Takes the socket in `data_dir`, which this process owns, and answers what listens on it. Where it cannot be had, that is
/// said in the log and the server goes on without it: serving matters more.
pub fn listen(data_dir: &Path, hands: Hands) -> impl Future<Output = ()> + Send + use<> {
    let path = socket_in(data_dir);
    let bound = bind(&path).inspect_err(|error| {
        let (path, error) = (path.display(), sentence(error));
        warn!(%path, error, "the control socket cannot be made: backups, rotations and rebuilds from the command line need this server stopped");
    });
    async move {
        if let Ok((listener, _removed_at_the_end)) = bound {
            accept(listener, &hands).await;
        }
    }
}

/// Removes the socket's file when the server ends.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

fn bind(path: &Path) -> io::Result<(UnixListener, Place)> {
    match fs::symlink_metadata(path) {
        // Whoever owns the directory is its only server: this one was left by a process that was killed.
        Ok(standing) if standing.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(ErrorKind::AlreadyExists, "something that is no socket has its name")),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let place = Place(path.to_owned());
    // Before anybody can connect, which takes a listener.
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((UnixListener::from_std(socket.into())?, place))
}

async fn accept(listener: UnixListener, hands: &Hands) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Dropped with this loop, and with it whoever still waits.
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(error = %error, "a control connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().try_acquire_owned() else {
            // An empty socket takes this line at once; nobody is waited for.
            stream.try_write(&line_of(&Answer::failed("too many ask at once: ask again"))).ok();
            continue;
        };
        let hands = hands.clone();
        connections.spawn(async move {
            let _place = place;
            answer(stream, &hands).await;
        });
    }
}

async fn answer(mut stream: UnixStream, hands: &Hands) {
    let request = timeout(LINE_TIMEOUT, read(&mut stream)).await;
    let (mut reader, writer) = stream.split();
    let answer = match request {
        Ok(Ok(request)) => {
            let ends_with_its_client = request.ends_with_its_client();
            tokio::select! {
                answer = told_of(perform(request, hands), &writer) => answer,
                () = hung_up(&mut reader), if ends_with_its_client => return,
            }
        }
        Ok(Err(reason)) => Answer::failed(reason),
        Err(_) => Answer::failed(format!("the request did not come within {} s", LINE_TIMEOUT.as_secs())),
    };
    // A client that went away, or does not read, is no concern of anybody else.
    timeout(LINE_TIMEOUT, stream.write_all(&line_of(&answer))).await.ok();
}

async fn read(stream: &mut UnixStream) -> Result<Request, String> {
    let mut line = Vec::new();
    let read = BufReader::new(stream.take(REQUEST_BYTES_MAX)).read_until(b'\n', &mut line).await;
    read.map_err(|error| error.to_string())?;
    match line.last() {
        Some(b'\n') => serde_json::from_slice(&line).map_err(|error| format!("not a request: {error}")),
        _ if line.len() as u64 == REQUEST_BYTES_MAX => {
            Err(format!("the request has more than {REQUEST_BYTES_MAX} bytes"))
        }
        _ => Err("the request ends before its line does".into()),
    }
}

/// Does the work, and says now and then that it is being done.
pub(super) async fn told_of<T>(work: impl Future<Output = T>, client: &WriteHalf<'_>) -> T {
    tokio::select! {
        done = work => done,
        never = say_so(client) => match never {},
    }
}

async fn say_so(client: &WriteHalf<'_>) -> Infallible {
    loop {
        sleep(ALIVE_INTERVAL).await;
        // A client that went away, or does not read, is no concern of the work.
        client.try_write(b" ").ok();
    }
}

/// Waits for the client to hang up. What it says behind its line is passed over.
async fn hung_up(client: &mut ReadHalf<'_>) {
    let mut said = [0; 64];
    while client.read(&mut said).await.is_ok_and(|count| count > 0) {}
}

fn line_of(answer: &Answer) -> Vec<u8> {
    let mut line = serde_json::to_vec(answer)
        .unwrap_or_else(|_| br#"{"answer":"failed","reason":"a path is not UTF-8"}"#.to_vec());
    line.push(b'\n');
    line
}
