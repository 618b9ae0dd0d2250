//! Asks the process that owns a data directory, where there is one.
use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Answer, Request, socket_in};

/// The server takes a request as soon as it is sent; how long the work takes is not known beforehand.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// More than any answer has: a reason names a path or two, a comparison a few documents of each view.
pub(super) const ANSWER_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("{} cannot be used: run this as the user that runs the server", .path.display())]
    Denied { path: PathBuf },
    /// What was asked may have been done: asking again is safe.
    #[error("the server at {} ended, or was too busy, before it answered: look at its log and ask again", .path.display())]
    Silent {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the server at {} answers in a way this version does not know: use the same version", .path.display())]
    Unknown { path: PathBuf },
}

/// Sends `request` to the process that owns `data_dir` and waits until it is done; `None` when no process listens there.
/// Blocks for as long as the work takes.
///
/// # Errors
/// See [`ControlError`].
pub fn ask(data_dir: &Path, request: &Request) -> Result<Option<Answer>, ControlError> {
    let path = socket_in(data_dir);
    let stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(ControlError::Denied { path }),
        // Absent, left behind by a process that was killed, or too long a path to have been made.
        Err(_) => return Ok(None),
    };
    let answer = exchange(stream, request).map_err(|source| ControlError::Silent { path: path.clone(), source })?;
    serde_json::from_slice(&answer).map(Some).map_err(|_| ControlError::Unknown { path })
}

fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.set_write_timeout(Some(SEND_TIMEOUT))?;
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_until(b'\n', &mut answer)?;
    if answer.last() == Some(&b'\n') { Ok(answer) } else { Err(ErrorKind::UnexpectedEof.into()) }
}
