//! Who may ask, what a client may send, and what is left of a socket.
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Write},
    net::Shutdown,
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt,
    task::{JoinHandle, spawn_blocking},
};
use uuid::Uuid;

use super::{
    client::ANSWER_BYTES_MAX,
    server::{CONNECTIONS_MAX, told_of},
    *,
};
use crate::{
    config::{Flags, Settings},
    doctor::ComparedView,
    stores::Stores,
    views::{
        Stopped, Table, ViewId,
        equality::{Comparison, Difference, Findings, NAMED_MAX},
    },
};

/// Long enough for any work here on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stores that are served at a control socket, until dropped.
struct Served {
    directory: TempDir,
    hands: Hands,
    _stores: Stores,
    listening: JoinHandle<()>,
}

impl Served {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = Some(directory.path().display().to_string());
        let settings = Settings::load(&Flags { data_dir, ..Flags::default() }, []).unwrap();
        let stores = Stores::open(&settings).await.unwrap();
        let hands = Hands::on(&stores);
        let listening = tokio::spawn(listen(directory.path(), hands.clone()));
        Self { directory, hands, _stores: stores, listening }
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(socket_in(self.directory.path())).unwrap()
    }

    /// Sends these bytes and nothing more; answers what came back.
    async fn say(&self, bytes: impl Into<Vec<u8>>) -> Answer {
        let (mut stream, bytes) = (self.connect(), bytes.into());
        let answered = spawn_blocking(move || {
            // The server may hang up on a request that goes on and on.
            stream.write_all(&bytes).ok();
            stream.shutdown(Shutdown::Write).ok();
            answer_on(stream)
        });
        answered.await.unwrap()
    }

    async fn ask(&self, request: Request) -> Answer {
        let directory = self.directory.path().to_owned();
        spawn_blocking(move || ask(&directory, &request)).await.unwrap().unwrap().unwrap()
    }

    /// # Panics
    /// Unless the next request is served.
    async fn expect_alive(&self) {
        let answer = self.ask(Request::BackUp { directory: "relative".into() }).await;
        assert_eq!(answer, Answer::failed("relative is not an absolute path"));
    }
}

fn answer_on(stream: UnixStream) -> Answer {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

fn reason(answer: Answer) -> String {
    let Answer::Failed { reason } = answer else { panic!("{answer:?}") };
    reason
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_in_words_and_the_next_is_served() {
    let served = Served::start().await;
    let cases: [(&[u8], &str); 8] = [
        (b"", "ends before its line does"),
        (b"{\"ask\": \"rotate_keys\"}", "ends before its line does"),
        (b"\n", "not a request"),
        (b"GET / HTTP/1.1\r\n\r\n", "not a request"),
        (b"{\"ask\": \"delete_all\"}\n", "unknown variant"),
        (b"{\"ask\": \"back_up\"}\n", "missing field"),
        (b"{\"ask\": \"back_up\", \"directory\": \"/tmp/x\", \"force\": true}\n", "unknown field"),
        (&[0xff; 100], "ends before its line does"),
    ];
    for (bytes, expected) in cases {
        let reason = reason(served.say(bytes).await);
        assert!(reason.contains(expected), "{:?}: {reason}", String::from_utf8_lossy(bytes));
    }
    let nested = [b"[".repeat(20_000), b"\n".to_vec()].concat();
    assert!(reason(served.say(nested).await).contains("not a request"));
    served.expect_alive().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_end_is_cut_off() {
    let served = Served::start().await;
    let reason = reason(served.say(vec![b'x'; 4 * 1024 * 1024]).await);
    assert_eq!(reason, "the request has more than 32768 bytes");
    served.expect_alive().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_say_nothing_take_no_more_than_their_places_and_are_let_go() {
    let served = Served::start().await;
    let mut silent: Vec<UnixStream> = (0..CONNECTIONS_MAX - 1).map(|_| served.connect()).collect();
    served.expect_alive().await;
    // They are accepted in order: once the last of these is, every place is taken.
    silent.extend((0..2 * CONNECTIONS_MAX).map(|_| served.connect()));
    let last = silent.pop().unwrap();
    assert_eq!(reason(spawn_blocking(move || answer_on(last)).await.unwrap()), "too many ask at once: ask again");
    let first = silent.swap_remove(0);
    let reason = reason(spawn_blocking(move || answer_on(first)).await.unwrap());
    assert_eq!(reason, "the request did not come within 5 s");
    drop(silent);
    served.expect_alive().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_does_not_stop_what_it_asked_for() {
    let served = Served::start().await;
    let target = tempfile::tempdir().unwrap();
    let directory = target.path().join("backup");
    let mut line = serde_json::to_vec(&Request::BackUp { directory: directory.clone() }).unwrap();
    line.push(b'\n');
    let mut stream = served.connect();
    stream.write_all(&line).unwrap();
    drop(stream);
    let done = async {
        while !directory.join("log.db").exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.unwrap();
    served.expect_alive().await;
}

#[tokio::test]
async fn one_thing_is_done_at_a_time() {
    let served = Served::start().await;
    let target = tempfile::tempdir().unwrap();
    let back_up = Request::BackUp { directory: target.path().join("backup") };
    let (first, second) = tokio::join!(perform(back_up, &served.hands), perform(Request::RotateKeys, &served.hands));
    assert!(matches!(first, Answer::BackedUp { events: 0, .. }), "{first:?}");
    assert!(reason(second).contains("is under way"));
    let again = perform(Request::RotateKeys, &served.hands).await;
    assert!(matches!(again, Answer::Rotated { keys: 2, .. }), "{again:?}");
}

#[tokio::test]
async fn only_the_owner_connects_and_nothing_is_left_at_the_end() {
    let served = Served::start().await;
    let path = socket_in(served.directory.path());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    served.listening.abort();
    assert!(served.listening.await.unwrap_err().is_cancelled());
    assert!(!path.exists());
    assert_eq!(ask(served.directory.path(), &Request::RotateKeys).unwrap(), None, "nobody is there to be asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_of_a_killed_process_is_replaced() {
    let served = Served::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let path = socket_in(elsewhere.path());
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(ask(elsewhere.path(), &Request::RotateKeys).unwrap(), None, "a stale socket is nobody");
    let listening = tokio::spawn(listen(elsewhere.path(), served.hands.clone()));
    let answered = spawn_blocking(move || ask(elsewhere.path(), &Request::RotateKeys)).await.unwrap();
    assert!(matches!(answered.unwrap(), Some(Answer::Rotated { .. })));
    listening.abort();
}

/// Where the socket cannot be had, listening ends at once.
async fn expect_given_up(directory: &Path, served: &Served) {
    tokio::time::timeout(PATIENCE, listen(directory, served.hands.clone())).await.unwrap();
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone_and_the_server_goes_on_without() {
    let served = Served::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let path = socket_in(elsewhere.path());
    fs::write(&path, "mine").unwrap();
    expect_given_up(elsewhere.path(), &served).await;
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert_eq!(ask(elsewhere.path(), &Request::RotateKeys).unwrap(), None);
    let deep = elsewhere.path().join("d".repeat(200));
    fs::create_dir(&deep).unwrap();
    expect_given_up(&deep, &served).await;
    assert_eq!(ask(&deep, &Request::RotateKeys).unwrap(), None, "a path too long for a socket");
    assert!(!fs::symlink_metadata(&path).unwrap().file_type().is_socket());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_or_speaks_otherwise_is_told_from_one_that_answers() {
    for (said, expected) in [("", "before it answered"), ("{\"answer\": \"newer\"}\n", "use the same version")] {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket_in(directory.path())).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            (&stream).write_all(said.as_bytes()).unwrap();
        });
        let error = ask(directory.path(), &Request::RotateKeys).unwrap_err();
        assert!(sentence(&error).contains(expected), "{error}");
        server.join().unwrap();
    }
}

/// Listens where nobody answers.
fn mute() -> (TempDir, UnixListener) {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(socket_in(directory.path())).unwrap();
    (directory, listener)
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let begun = Instant::now();
    let (directory, listener) = mute();
    let error = ask(directory.path(), &Request::RotateKeys).unwrap_err();
    assert!(
        matches!(&error, ControlError::Silent { source, .. } if source.kind() == ErrorKind::WouldBlock),
        "{error:?}"
    );
    // What was connected and never accepted fills the queue, until the system lets nobody wait any more.
    let queue = std::iter::repeat_with(|| {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.connect(&SockAddr::unix(socket_in(directory.path())).unwrap()).map(|()| socket)
    });
    let _waiting: Vec<_> = queue.map_while(Result::ok).collect();
    let error = ask(directory.path(), &Request::RotateKeys).unwrap_err();
    assert!(matches!(&error, ControlError::Silent { .. }), "{error:?}");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    drop(listener);
}

#[test]
fn a_server_that_is_at_it_is_waited_for() {
    let (directory, listener) = mute();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        BufReader::new(&stream).read_line(&mut String::new()).unwrap();
        // More than an answer may have.
        stream.write_all(&vec![b' '; 2 * ANSWER_BYTES_MAX as usize]).unwrap();
        stream.write_all(b"{\"answer\":\"failed\",\"reason\":\"at last\"}\n").unwrap();
    });
    let answer = ask(directory.path(), &Request::RotateKeys).unwrap();
    assert_eq!(answer, Some(Answer::failed("at last")));
    server.join().unwrap();
}

#[tokio::test]
async fn while_something_is_done_the_client_hears_of_it() {
    let (mut server, mut client) = tokio::net::UnixStream::pair().unwrap();
    let (finish, finished) = tokio::sync::oneshot::channel();
    let heard = async {
        let mut blank = [0];
        client.read_exact(&mut blank).await.unwrap();
        finish.send(()).unwrap();
        blank
    };
    let (_, writer) = server.split();
    let (done, blank) = tokio::join!(told_of(finished, &writer), tokio::time::timeout(PATIENCE, heard));
    assert_eq!((done, blank), (Ok(()), Ok(*b" ")));
}

#[test]
fn the_answer_fits_even_when_every_document_of_every_view_differs() {
    let stopped = Stopped { position: u64::MAX, reason: "\u{1}".repeat(100_000) };
    let named = (0..NAMED_MAX as u128).map(|id| (Uuid::from_u128(id), Difference::Unreadable)).collect();
    let findings = Findings { differing: u64::MAX, named, restless: u64::MAX };
    let views = marvin_projections::all().into_iter().map(|fold| {
        let view = ViewId::of(&*fold);
        let (name, fields, indexes) = (view.name.to_owned(), Arc::from([]), Arc::from([]));
        ComparedView::from(Comparison {
            table: Table { name, version: view.version, build: 1, fields, indexes },
            position: u64::MAX,
            documents: u64::MAX,
            findings: findings.clone(),
            stopped: Some(stopped.clone()),
            unreplayed: Some(stopped.clone()),
            unreadable: Some("gone".into()),
            lost_indexes: u64::MAX,
        })
    });
    let answer = Answer::Compared(Compared { unbuilt: Vec::new(), views: views.collect() });
    let line = serde_json::to_vec(&answer).unwrap();
    assert!((line.len() as u64) < ANSWER_BYTES_MAX, "{} bytes", line.len());
    assert_eq!(serde_json::from_slice::<Answer>(&line).unwrap(), answer);
}
