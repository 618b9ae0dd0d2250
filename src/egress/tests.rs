//! Nothing that is not public is reached, however it is spelled or resolved; what is allowed is reached, so the tests can fail.
use super::*;
use async_trait::async_trait;
use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Counts who comes, and answers each.
struct Canary {
    port: u16,
    visits: Arc<AtomicUsize>,
}

async fn answer_all(listener: TcpListener, visits: Arc<AtomicUsize>, answer: Vec<u8>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        visits.fetch_add(1, Ordering::SeqCst);
        let answer = answer.clone();
        tokio::spawn(async move {
            let mut head = [0; 4_096];
            if let Ok(1..) = stream.read(&mut head).await {
                stream.write_all(&answer).await.ok();
            }
        });
    }
}

const SUNG: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

impl Canary {
    /// At every address that this machine has.
    async fn sing() -> Self {
        Self::sing_at("[::]:0", SUNG).await
    }

    async fn sing_at(address: &str, answer: &[u8]) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (port, visits) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(answer_all(listener, visits.clone(), answer.to_vec()));
        Self { port, visits }
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}

/// Answers every name with the next of these lists of addresses, over and over.
struct Turning {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Turning {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let read = |texts: &&[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self { answers: answers.iter().map(read).collect(), asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Lookup for Turning {
    async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.answers[turn % self.answers.len()].clone())
    }
}

fn to(url: impl Into<String>) -> Request {
    let (headers, body) = (HeaderMap::new(), Bytes::from_static(b"{}"));
    Request { url: url.into(), headers, body, timeout: Duration::from_secs(20), answer_bytes_max: 1_000 }
}

fn allowing(networks: &str) -> Egress {
    Egress::new(Allowed::parse(networks).unwrap()).unwrap()
}

const INNER_V4: [[u8; 4]; 26] = [
    [127, 0, 0, 1],
    [127, 0, 0, 2],
    [127, 255, 255, 254],
    [0, 0, 0, 0],
    [0, 1, 2, 3],
    [10, 0, 0, 1],
    [10, 255, 255, 255],
    [100, 64, 0, 1],
    [100, 100, 100, 200],
    [100, 127, 255, 255],
    [168, 63, 129, 16],
    [169, 254, 0, 1],
    [169, 254, 169, 254],
    [169, 254, 170, 2],
    [172, 16, 0, 1],
    [172, 31, 255, 255],
    [192, 0, 0, 192],
    [192, 0, 2, 1],
    [192, 88, 99, 1],
    [192, 168, 1, 1],
    [198, 18, 0, 1],
    [198, 51, 100, 7],
    [203, 0, 113, 9],
    [224, 0, 0, 1],
    [240, 0, 0, 1],
    [255, 255, 255, 255],
];

const INNER_V6: [&str; 28] = [
    "::",
    "::1",
    "0:0:0:0:0:0:0:1",
    "0000:0000:0000:0000:0000:0000:0000:0001",
    "::7f00:1",
    "::ffff:0:7f00:1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "100::1",
    "100:0:0:1::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:1::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2620:4f:8000::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fdff:ffff::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
];

/// The ways in which the same address of IPv4 gets into a URL.
fn spellings([a, b, c, d]: [u8; 4]) -> Vec<String> {
    let number = u32::from_be_bytes([a, b, c, d]);
    let dotted = format!("{a}.{b}.{c}.{d}");
    let (high, low) = (number >> 16, number & 0xffff);
    vec![
        dotted.clone(),
        format!("{dotted}."),
        format!("{number}"),
        format!("{number:#x}"),
        format!("{number:#X}").replace("0X", "0x"),
        format!("{number:#o}").replace("0o", "0"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("{a:#x}.{b}.0{c:o}.{d}"),
        format!("{a}.{}", number & 0x00ff_ffff),
        format!("{a}.{b}.{low}"),
        dotted.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        dotted.replace('.', "。"),
        dotted.chars().map(|letter| letter.to_digit(10).map_or(letter, fullwidth)).collect(),
        format!("[::ffff:{dotted}]"),
        format!("[::ffff:{high:x}:{low:x}]"),
        format!("[::{high:x}:{low:x}]"),
        format!("[64:ff9b::{dotted}]"),
        format!("[2002:{high:x}:{low:x}::1]"),
    ]
}

fn fullwidth(digit: u32) -> char {
    char::from_u32('０' as u32 + digit).unwrap()
}

/// How many of the spellings are the address itself, as the parser reads it.
const PLAIN_SPELLINGS: usize = 16;

fn hostile() -> BTreeSet<String> {
    let mut hosts: BTreeSet<String> = INNER_V4.into_iter().flat_map(spellings).collect();
    hosts.extend(INNER_V6.into_iter().map(|address| format!("[{address}]")));
    for name in ["localhost", "localhost.", "LOCALHOST", "ip6-localhost", "loc%61lhost", "ｌｏｃａｌｈｏｓｔ"]
    {
        hosts.insert(name.to_owned());
    }
    hosts
}

fn is_refused(answered: &Result<Answer, EgressError>) -> bool {
    matches!(answered, Err(EgressError::Blocked | EgressError::Url(_)))
}

#[tokio::test]
async fn no_address_that_is_not_public_is_reached_however_it_is_spelled() {
    let canary = Canary::sing().await;
    // What the system would say of names here depends on the machine.
    let local = Turning::new(&[&["127.0.0.1", "::1"]]);
    let egress = Egress::with_lookup(Allowed::default(), local).unwrap();
    let hosts = hostile();
    assert!(hosts.len() >= 400, "{}", hosts.len());
    for host in &hosts {
        for scheme in ["http", "https"] {
            let answered = egress.post(to(format!("{scheme}://{host}:{}/", canary.port))).await;
            assert!(is_refused(&answered), "{scheme}://{host}: {answered:?}");
        }
    }
    assert_eq!(canary.visits(), 0);
}

#[tokio::test]
async fn the_same_addresses_are_reached_once_they_are_allowed() {
    let canary = Canary::sing().await;
    let egress = allowing("127.0.0.0/8");
    let own = &spellings([127, 0, 0, 1])[..PLAIN_SPELLINGS];
    for host in own {
        let answer = egress.post(to(format!("http://{host}:{}/", canary.port))).await;
        assert_eq!(answer.unwrap_or_else(|error| panic!("{host}: {error}")).status, 200);
    }
    assert_eq!(canary.visits(), own.len());
    let named = Egress::with_lookup(Allowed::parse("127.0.0.1").unwrap(), Turning::new(&[&["127.0.0.1"]])).unwrap();
    assert_eq!(named.post(to(format!("http://receiver.example:{}/", canary.port))).await.unwrap().status, 200);
    let other = allowing("127.0.0.2, 10.0.0.0/8").post(to(format!("http://127.0.0.1:{}/", canary.port))).await;
    assert!(matches!(other, Err(EgressError::Blocked)), "only what is allowed");
}

#[tokio::test]
async fn the_address_that_is_checked_is_the_address_that_is_dialled() {
    // The name turns between an allowed address and one that is not, with each look-up.
    let canary = Canary::sing_at("127.0.0.1:0", SUNG).await;
    let port = canary.port;
    let allowed = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let visits = Arc::new(AtomicUsize::new(0));
    tokio::spawn(answer_all(allowed, visits.clone(), SUNG.to_vec()));
    let turning = Turning::new(&[&["127.0.0.2"], &["127.0.0.1"], &["127.0.0.1", "127.0.0.2"]]);
    let egress = Egress::with_lookup(Allowed::parse("127.0.0.2").unwrap(), turning.clone()).unwrap();
    let mut refused = 0;
    for _ in 0..60 {
        match egress.post(to(format!("http://rebind.example:{port}/"))).await {
            Ok(answer) => assert_eq!(answer.status, 200),
            Err(EgressError::Blocked) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((canary.visits(), visits.load(Ordering::SeqCst), refused), (0, 40, 20));
    assert_eq!(turning.asked.load(Ordering::SeqCst), 60, "each connection is resolved once");
}

#[tokio::test]
async fn a_redirect_is_answered_and_not_followed() {
    let canary = Canary::sing().await;
    let turn = format!("HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:{}/\r\ncontent-length: 0\r\n\r\n", canary.port);
    let redirecting = Canary::sing_at("127.0.0.2:0", turn.as_bytes()).await;
    let answer = allowing("127.0.0.0/8").post(to(format!("http://127.0.0.2:{}/", redirecting.port))).await.unwrap();
    assert_eq!((answer.status, canary.visits(), redirecting.visits()), (307, 0, 1));
}

#[tokio::test]
async fn what_is_no_plain_address_of_a_receiver_is_refused_before_anything_is_dialled() {
    let canary = Canary::sing().await;
    let (egress, port) = (allowing("0.0.0.0/0, ::/0"), canary.port);
    for url in [
        String::new(),
        "hook".into(),
        "/hook".into(),
        "//127.0.0.1/".into(),
        format!("ftp://127.0.0.1:{port}/"),
        format!("gopher://127.0.0.1:{port}/"),
        "file:///etc/passwd".into(),
        "data:text/plain,x".into(),
        "unix:/var/run/docker.sock".into(),
        "http://".into(),
        "http://:80/".into(),
        "http:///hook".replace("///", "//?"),
        "http://127.0.0.1:0/".into(),
        "http://127.0.0.1:99999/".into(),
        format!("http://user@127.0.0.1:{port}/"),
        format!("http://user:password@127.0.0.1:{port}/"),
        format!("http://example.org@127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}/#fragment"),
        format!("http://127.0.0.1:{port}\\@example.org/"),
        format!("http://127.0.0.1:{port}/\r\nhost: example.org"),
        format!(" http://127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}/a b"),
        format!("ht\ttp://127.0.0.1:{port}/"),
        format!("http://[::1%25lo]:{port}/"),
        format!("http://[::1:{port}/"),
        format!("http://0x7f.0.0.0.0.1:{port}/"),
        format!("http://256.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}/{}", "a".repeat(URL_BYTES_MAX)),
    ] {
        let answered = egress.post(to(url.clone())).await;
        assert!(matches!(answered, Err(EgressError::Url(_))), "{url}: {answered:?}");
    }
    assert_eq!(canary.visits(), 0);
    egress.post(to(format!("http://127.0.0.1:{port}/hook?a=b%20c"))).await.unwrap();
    assert_eq!(canary.visits(), 1);
}

/// What a receiver answers, and what is made of it.
async fn answered(answer: &[u8]) -> Result<Answer, EgressError> {
    let receiver = Canary::sing_at("127.0.0.1:0", answer).await;
    allowing("127.0.0.1").post(to(format!("http://127.0.0.1:{}/", receiver.port))).await
}

fn with_body(head: &str, bytes: usize) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").into_bytes(), vec![b'x'; bytes]].concat()
}

#[tokio::test]
async fn an_answer_is_bounded_whatever_it_says_of_its_length() {
    let whole = answered(&with_body("content-length: 1000", 1_000)).await.unwrap();
    assert_eq!(whole.body.len(), 1_000);
    let announced = answered(&with_body("content-length: 10000000000", 10)).await;
    assert!(matches!(announced, Err(EgressError::AnswerTooLarge(1_000))), "{announced:?}");
    let silent = answered(&with_body("connection: close", 1_001)).await;
    assert!(matches!(silent, Err(EgressError::AnswerTooLarge(1_000))), "{silent:?}");
    let chunked = answered(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffff\r\n").await;
    assert!(chunked.is_err());
    let headers = (0..HEADERS_MAX + 1).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    assert!(answered(format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\n\r\n").as_bytes()).await.is_err());
    let endless = [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'x'; 4 * 1024 * 1024]].concat();
    assert!(answered(&endless).await.is_err());
}

#[tokio::test]
async fn a_compressed_answer_is_not_unpacked() {
    let bomb = answered(&with_body("content-encoding: gzip\r\ncontent-length: 10", 10)).await;
    assert!(matches!(bomb, Err(EgressError::Compressed)), "{bomb:?}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_ends_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut request = to(format!("http://{address}/"));
    request.timeout = Duration::from_millis(50);
    // Accepted by the system, and never read.
    let late = allowing("127.0.0.1").post(request).await;
    assert!(matches!(late, Err(EgressError::TimedOut)), "{late:?}");
    drop(listener);
    let nobody = allowing("127.0.0.1").post(to(format!("http://{address}/"))).await;
    assert!(matches!(nobody, Err(EgressError::Unreachable(_))), "{nobody:?}");
}

#[tokio::test]
async fn an_error_names_no_address_and_no_proxy_is_taken_from_the_environment() {
    let told = allowing("127.0.0.1").post(to("http://127.0.0.1:1/token-in-path?q=token")).await.unwrap_err();
    assert!(!format!("{told:?} {told}").contains("token"), "{told:?}");
    let mut large = to("http://127.0.0.1:1/");
    large.body = Bytes::from(vec![b'x'; REQUEST_BYTES_MAX + 1]);
    assert!(matches!(allowing("127.0.0.1").post(large).await, Err(EgressError::RequestTooLarge)));
}

#[test]
fn what_people_call_is_public() {
    for address in
        ["1.1.1.1", "8.8.8.8", "93.184.215.14", "100.63.255.255", "172.32.0.1", "192.0.1.1", "223.255.255.255"]
    {
        assert!(is_public(address.parse::<Ipv4Addr>().unwrap().into()), "{address}");
    }
    for address in ["2606:4700::1111", "2a00:1450:4001:80b::200e", "2001:4860:4860::8888", "2400:cb00::1"] {
        assert!(is_public(address.parse::<Ipv6Addr>().unwrap().into()), "{address}");
    }
}

#[test]
fn allowed_networks_are_read_strictly() {
    let allowed = Allowed::parse("10.1.0.0/16, fd00::/8 ,192.0.2.7,").unwrap();
    for (address, admitted) in [
        ("10.1.2.3", true),
        ("10.2.0.1", false),
        ("fd12::1", true),
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("::ffff:10.1.2.3", true),
    ] {
        assert_eq!(allowed.admits(address.parse().unwrap()), admitted, "{address}");
    }
    assert_eq!(Allowed::parse("").unwrap(), Allowed::default());
    for wrong in ["10.1.0.0/33", "10.1.2.3/8", "localhost", "10.1", "*", "10.0.0.0-10.0.0.9", "fd00::/129"] {
        assert!(Allowed::parse(wrong).is_err(), "{wrong}");
    }
}
