//! The live feed: the same events as a pull, resumed at any point, ended with the reader's rights.
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::support::{Client, DEADLINE, Feed, Server, eventually};

/// Rights are looked at twice a second; the rest is leave for a busy machine.
const END_MAX: Duration = Duration::from_secs(3);

#[tokio::test]
async fn the_feed_from_the_beginning_says_what_a_pull_says_and_goes_on_live() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.task_done(&agent, json!("words")).await;
    let mut feed = Feed::open(&admin, "", None).await;
    let later = admin.submit(&agent, json!("later")).await;
    let count = usize::try_from(later.position()).unwrap();
    let fed = feed.take(count).await;
    let query = "/api/v1/events?limit=1000";
    let pulled = admin.get_at(query, later.position()).await.expect(200).json().as_array().unwrap().clone();
    for (fed, pulled) in fed.iter().zip(&pulled) {
        assert_eq!((&fed.data, fed.id.to_string().as_str()), (pulled, pulled["position"].as_str().unwrap()));
        assert_eq!(fed.event, pulled["type"].as_str().unwrap());
    }
    assert_eq!(fed.last().unwrap().data["subject"], format!("task/{}", later.id()));
}

#[tokio::test]
async fn the_feed_begins_behind_what_was_asked_for_and_keeps_to_its_filters() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let first = admin.submit(&agent, json!(1)).await;
    let second = admin.submit(&agent, json!(2)).await;
    let after = first.position();
    let mut feed = Feed::open(&admin, &format!("?after={after}"), None).await;
    assert_eq!(feed.next().await.unwrap().id, after + 1);
    let mut resumed = Feed::open(&admin, "?after=0", Some(after)).await;
    assert_eq!(resumed.next().await.unwrap().id, after + 1, "Last-Event-ID wins: a reconnect repeats the address");
    let mut submitted = Feed::open(&admin, "?types=task.submitted", None).await;
    assert_eq!(submitted.take(2).await.iter().map(|event| event.id).collect::<Vec<_>>(), [after, second.position()]);
    let mut one = Feed::open(&admin, &format!("?subject=task/{}", second.id()), None).await;
    let subjects: Vec<_> = one.take(3).await.into_iter().map(|event| event.data["subject"].clone()).collect();
    assert_eq!(subjects, vec![json!(format!("task/{}", second.id())); 3]);
}

#[tokio::test]
async fn a_member_is_fed_only_what_is_theirs_to_see() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let ann = admin.colleague("ann", &["member"]).await;
    let mut feed = Feed::open(&ann, "", None).await;
    admin.task_done(&agent, json!("admin's words")).await;
    let own = ann.submit(&agent, json!("ann's words")).await;
    loop {
        let event = feed.next().await.unwrap();
        let subject = event.data["subject"].as_str().unwrap().to_owned();
        if event.id == own.position() {
            assert_eq!(event.data["data"]["personal"]["input"], "ann's words");
            break;
        }
        assert!(subject.starts_with("agent/") || subject == format!("user/{}", ann.user_id()), "{subject}");
    }
}

#[tokio::test]
async fn a_reader_who_is_cut_off_ten_times_resumes_without_a_skip_or_a_repeat() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let submitters: Vec<_> = (0..4)
        .map(|submitter| {
            let (admin, agent) = (admin.clone(), agent.clone());
            tokio::spawn(async move {
                let mut last = 0;
                for number in 0..50 {
                    last = admin.submit(&agent, json!([submitter, number])).await.position();
                }
                last
            })
        })
        .collect();
    let (mut seen, mut cuts) = (Vec::<(u64, Value)>::new(), Vec::new());
    for _ in 0..10 {
        let last = seen.last().map(|(id, _)| *id);
        let mut feed = Feed::open(&admin, "", last).await;
        // Anywhere from at once to a few batches on; the connection is dropped with whatever is on its way.
        let count = usize::from(uuid::Uuid::now_v7().as_bytes()[15]) % 60;
        cuts.push(count);
        seen.extend(feed.take(count).await.into_iter().map(|event| (event.id, event.data)));
    }
    let mut end = 0;
    for submitter in submitters {
        end = submitter.await.unwrap().max(end);
    }
    let mut feed = Feed::open(&admin, "", seen.last().map(|(id, _)| *id)).await;
    while seen.last().is_none_or(|(id, _)| *id < end) {
        let event = feed.next().await.unwrap();
        seen.push((event.id, event.data));
    }
    let ids: Vec<u64> = seen.iter().map(|(id, _)| *id).collect();
    // What the tasks caused may be among them already.
    let last = ids.last().copied().unwrap_or_default().max(end);
    assert_eq!(ids, (1..=last).collect::<Vec<_>>(), "cut after {cuts:?}");
    let submitted = seen.iter().filter(|(_, event)| event["type"] == "marvin.task.submitted.v1").count();
    assert_eq!(submitted, 200);
}

#[tokio::test]
async fn a_feed_ends_within_about_a_second_of_the_sign_out() {
    let server = Server::start();
    let (admin, elsewhere) = (Client::admin(&server).await, Client::admin(&server).await);
    let mut feed = Feed::open(&admin, "", None).await;
    let mut other = Feed::open(&elsewhere, "", None).await;
    feed.next().await.unwrap();
    admin.delete("/api/v1/session").await.expect(204);
    ends_soon(&mut feed).await;
    let agent = elsewhere.agent("rules", json!({ "rules": [] })).await;
    while other.next().await.unwrap().data["subject"] != format!("agent/{agent}") {}
}

#[tokio::test]
async fn a_feed_ends_within_about_a_second_of_its_readers_erasure() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let bob = admin.colleague("bob", &["integrator"]).await;
    let mut feed = Feed::open(&bob, "", None).await;
    feed.next().await.unwrap();
    admin.delete(&format!("/api/v1/users/{}", bob.user_id())).await.expect(200);
    ends_soon(&mut feed).await;
}

/// Reads what is still on its way, to the end.
async fn ends_soon(feed: &mut Feed) {
    let begun = Instant::now();
    loop {
        let left = END_MAX.saturating_sub(begun.elapsed());
        match feed.next_within(left).await {
            Some(None) => return,
            Some(Some(_)) => {}
            None => panic!("the feed goes on after {:?}", begun.elapsed()),
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_ends_its_feeds_and_itself() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let mut feed = Feed::open(&admin, "", None).await;
    feed.next().await.unwrap();
    let begun = Instant::now();
    let stopping = tokio::task::spawn_blocking(move || server.stop());
    while feed.next().await.is_some() {}
    stopping.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

/// A reader whose side of the connection holds little, and who has read the answer's head and not gone on.
fn stalled(server: &Server, reader: &Client, query: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let address: SocketAddr = server.address().parse().unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let (address, cookie) = (server.address(), reader.cookie());
    let path = format!("/api/v1/events/stream{query}");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\n\r\n").unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    stream
}

/// Everything that still comes over the connection, until it ends or that is enough.
async fn rest(mut stream: TcpStream, is_enough: impl Fn(&[u8]) -> bool + Send + 'static) -> Vec<u8> {
    let reading = tokio::task::spawn_blocking(move || {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let (mut rest, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
        let begun = Instant::now();
        while !is_enough(&rest) {
            assert!(begun.elapsed() < DEADLINE, "{} bytes came, and that is not enough", rest.len());
            match stream.read(&mut piece) {
                Ok(0) => return rest,
                Ok(count) => rest.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return rest,
                Err(error) => panic!("the connection goes on: {error}"),
            }
        }
        rest
    });
    reading.await.unwrap()
}

/// Tasks whose words are far more than a connection holds. Answers the position of the last.
async fn many_words(server: &Server, words: &str) -> (Client, Client, u64) {
    const TASKS: usize = 200;
    let admin = Client::admin(server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let bob = admin.colleague("bob", &["member"]).await;
    let words = words.repeat(100_000 / words.len());
    let mut last = 0;
    for _ in 0..TASKS {
        last = bob.submit(&agent, json!(words)).await.position();
    }
    (admin, bob, last)
}

const MARKER: &str = "bob's words";
/// What a connection may hold whose reader does not read: the sending side by itself, and a chunk.
const HELD_BYTES_MAX: usize = 6 * 1024 * 1024;

#[tokio::test]
async fn a_reader_who_had_stopped_reading_gets_no_words_of_who_was_erased_meanwhile() {
    let server = Server::start();
    let (admin, bob, last) = many_words(&server, MARKER).await;
    let stream = stalled(&server, &admin, "?types=task.submitted");
    tokio::time::sleep(Duration::from_secs(1)).await;
    admin.delete(&format!("/api/v1/users/{}", bob.user_id())).await.expect(200);
    eventually("the words are gone", async || {
        let page = admin.get(&format!("/api/v1/events?after={}&limit=1", last - 1)).await.expect(200);
        let event = &page.json()[0];
        (event["data"]["erased"] == true).then_some(())
    })
    .await;
    let its_end = format!("id: {last}\n").into_bytes();
    let is_last = move |told: &[u8]| {
        let end = &told[told.len().saturating_sub(200_000)..];
        told.ends_with(b"\n\n\r\n") && end.windows(its_end.len()).any(|line| line == its_end)
    };
    let told = String::from_utf8_lossy(&rest(stream, is_last).await).into_owned();
    assert!(told.contains(r#""erased":true"#));
    let words = told.matches(MARKER).count() * MARKER.len();
    assert!((1..=HELD_BYTES_MAX).contains(&words), "{words} bytes of {} were sent", told.len());
}

#[tokio::test]
async fn a_feed_ends_with_its_readers_rights_though_nobody_reads_it() {
    let server = Server::start();
    let (admin, _, last) = many_words(&server, MARKER).await;
    let stream = stalled(&server, &admin, "?types=task.submitted");
    admin.delete("/api/v1/session").await.expect(204);
    tokio::time::sleep(END_MAX).await;
    let told = rest(stream, |_| false).await;
    assert!(told.len() <= HELD_BYTES_MAX, "{} bytes came", told.len());
    assert!(!String::from_utf8_lossy(&told).contains(&format!("id: {last}\n")));
}

#[tokio::test]
async fn a_server_that_stops_waits_for_no_reader_who_does_not_read() {
    let server = Server::start();
    let (admin, _, _) = many_words(&server, MARKER).await;
    let _stream = stalled(&server, &admin, "?types=task.submitted");
    let begun = Instant::now();
    tokio::task::spawn_blocking(move || server.stop()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}
