//! Asks the process that owns a data directory, where there is one.
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{ALIVE_INTERVAL, Answer, Request, socket_in};

/// The server accepts whoever connects, and takes a request, as soon as it comes.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the work takes is not known beforehand; but a server that has not said so long that it is at it does nothing. Five times
/// the interval, since a machine may be busy.
const ALIVE_PATIENCE: Duration = ALIVE_INTERVAL.saturating_mul(5);
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
/// Blocks for as long as the server says that it works on it.
///
/// # Errors
/// See [`ControlError`].
pub fn ask(data_dir: &Path, request: &Request) -> Result<Option<Answer>, ControlError> {
    let path = socket_in(data_dir);
    let stream = match connect(&path) {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(ControlError::Denied { path }),
        // Somebody listens there, and accepts nobody.
        Err(source) if matches!(source.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            return Err(ControlError::Silent { path, source });
        }
        // Absent, left behind by a process that was killed, or too long a path to have been made.
        Err(_) => return Ok(None),
    };
    let answer = exchange(stream, request).map_err(|source| ControlError::Silent { path: path.clone(), source })?;
    serde_json::from_slice(&answer).map(Some).map_err(|_| ControlError::Unknown { path })
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // It is also how long the system waits for a place among those who are to be accepted.
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    socket.set_read_timeout(Some(ALIVE_PATIENCE))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reader = BufReader::new(stream);
    pass_blanks(&mut reader)?;
    let mut answer = Vec::new();
    reader.take(ANSWER_BYTES_MAX).read_until(b'\n', &mut answer)?;
    if answer.last() == Some(&b'\n') { Ok(answer) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// However many: they come for as long as the work takes.
fn pass_blanks(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let read = reader.fill_buf()?;
        let blanks = read.iter().take_while(|byte| **byte == b' ').count();
        let is_over = read.len() > blanks || read.is_empty();
        reader.consume(blanks);
        if is_over {
            return Ok(());
        }
    }
}
