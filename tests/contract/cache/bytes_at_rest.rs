//! What others wrote into Redis: wrong bytes, another type, a value from before or from elsewhere. None of it is ever answered, all
//! of it is counted, and it mends itself.
use marvin::cache::{Cache, CacheError, Slot, redis::RedisCache};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use redis::{AsyncCommands, aio::MultiplexedConnection, cmd};
use rstest::rstest;

use super::{entry, fill, id, lease, look, server, table};

struct Subject {
    cache: RedisCache,
    stranger: MultiplexedConnection,
    instance: String,
    tenure: marvin::cache::Tenure,
}

impl Subject {
    /// Documents 1 and 2 are cached at position 5.
    async fn new() -> Self {
        let (url, instance) = (server::shared(), server::instance());
        let (cache, stranger) = (server::connect(&url, &instance).await, server::stranger(&url).await);
        let tenure = cache.begin(&table(), 3, 4).await.unwrap();
        let tenure = cache.put(&table(), &tenure, &[entry(1, 5), entry(2, 5)], 5).await.unwrap();
        Self { cache, stranger, instance, tenure }
    }

    /// What a writer does once a second, so that a slow machine does not let the head expire in the middle of a test.
    async fn keep_alive(&mut self) {
        let position = self.tenure.head().position;
        self.tenure = self.cache.put(&table(), &self.tenure, &[], position).await.unwrap();
    }

    fn head(&self) -> String {
        format!("{}:cache:tasks:1:1:head", self.instance)
    }

    fn document(&self, number: u128) -> String {
        let generation = self.tenure.head().generation;
        format!("{}:cache:tasks:1:1:{}:{}", self.instance, generation.simple(), id(number).simple())
    }

    fn mark(&self, number: u128) -> String {
        format!("{}:mark", self.document(number))
    }

    async fn bytes(&mut self, key: &str) -> Vec<u8> {
        self.stranger.get(key).await.unwrap()
    }

    /// Writes as a stranger would, keeping the key's expiry.
    async fn write(&mut self, key: &str, bytes: &[u8]) {
        cmd("SET").arg(key).arg(bytes).arg("KEEPTTL").exec_async(&mut self.stranger).await.unwrap();
    }

    async fn make_a_list(&mut self, key: &str) {
        self.stranger.del::<_, ()>(key).await.unwrap();
        self.stranger.rpush::<_, _, ()>(key, "x").await.unwrap();
    }

    async fn look(&self) -> (Option<u64>, Vec<Option<u64>>) {
        look(&self.cache, &[1, 2]).await
    }
}

/// What is counted from here on, on this thread.
fn counting() -> (PrometheusHandle, metrics::LocalRecorderGuard<'static>) {
    let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
    (recorder.handle(), metrics::set_default_local_recorder(recorder))
}

fn assert_counted(handle: &PrometheusHandle, what: &str, count: u64) {
    let (text, line) = (handle.render(), format!("marvin_cache_unreadable_total{{what=\"{what}\"}} {count}\n"));
    assert!(text.contains(&line), "{line} is not in\n{text}");
}

#[rstest]
#[case::nothing(|_: &[u8]| vec![])]
#[case::text(|_: &[u8]| b"not a document".to_vec())]
#[case::zeros(|sealed: &[u8]| vec![0; sealed.len()])]
#[case::one_bit(|sealed: &[u8]| { let mut altered = sealed.to_vec(); *altered.last_mut().unwrap() ^= 1; altered })]
#[case::cut(|sealed: &[u8]| sealed[..sealed.len() - 1].to_vec())]
#[case::longer(|sealed: &[u8]| [sealed, b"x"].concat())]
#[case::much_longer(|sealed: &[u8]| [sealed, &vec![0; 1024 * 1024]].concat())]
#[tokio::test]
async fn wrong_bytes_in_the_place_of_a_document_are_a_miss(#[case] spoil: fn(&[u8]) -> Vec<u8>) {
    let (counted, _guard) = counting();
    let mut subject = Subject::new().await;
    let at = subject.document(1);
    let bytes = subject.bytes(&at).await;
    subject.write(&at, &spoil(&bytes)).await;
    assert_eq!(subject.look().await, (Some(5), vec![None, Some(5)]));
    assert_counted(&counted, "document", 1);
    // Whoever leases it drops it and fills in what the store has.
    subject.keep_alive().await;
    let (head, leased) = lease(&subject.cache, 1).await;
    assert!(!subject.stranger.exists::<_, bool>(&at).await.unwrap());
    assert!(fill(&subject.cache, head, leased.unwrap(), Some(entry(1, 5))).await);
    assert_eq!(subject.look().await, (Some(5), vec![Some(5), Some(5)]));
}

#[rstest]
#[case::nothing(|_: &[u8]| vec![])]
#[case::text(|_: &[u8]| b"not a head".to_vec())]
#[case::ones(|head: &[u8]| vec![1; head.len()])]
#[case::higher_position(|head: &[u8]| { let mut altered = head.to_vec(); altered[32] += 1; altered })]
#[case::higher_token(|head: &[u8]| { let mut altered = head.to_vec(); altered[8] += 1; altered })]
#[case::cut(|head: &[u8]| head[..head.len() - 1].to_vec())]
#[case::longer(|head: &[u8]| [head, b"x"].concat())]
#[tokio::test]
async fn wrong_bytes_in_the_place_of_the_head_are_no_head(#[case] spoil: fn(&[u8]) -> Vec<u8>) {
    let (counted, _guard) = counting();
    let mut subject = Subject::new().await;
    let at = subject.head();
    let bytes = subject.bytes(&at).await;
    subject.write(&at, &spoil(&bytes)).await;
    assert_eq!(subject.look().await, (None, vec![]));
    assert_counted(&counted, "head", 1);
    let outcome = subject.cache.put(&table(), &subject.tenure, &[], 6).await;
    assert!(matches!(outcome, Err(CacheError::Lost)), "{outcome:?}");
    subject.cache.begin(&table(), 3, 6).await.unwrap();
    assert_eq!(subject.look().await, (Some(6), vec![None, None]));
}

#[tokio::test]
async fn another_type_at_a_key_is_a_miss_and_is_written_over() {
    let mut subject = Subject::new().await;
    let keys = [subject.document(1), subject.mark(2)];
    for key in &keys {
        subject.make_a_list(key).await;
    }
    assert_eq!(subject.look().await, (Some(5), vec![None, None]));
    for number in [1, 2] {
        subject.keep_alive().await;
        let (head, leased) = lease(&subject.cache, number).await;
        assert!(fill(&subject.cache, head, leased.unwrap(), Some(entry(number, 5))).await);
    }
    assert_eq!(subject.look().await, (Some(5), vec![Some(5), Some(5)]));
    // A put writes over them as well.
    for key in &keys {
        subject.make_a_list(key).await;
    }
    subject.tenure = subject.cache.put(&table(), &subject.tenure, &[entry(1, 6), entry(2, 6)], 6).await.unwrap();
    assert_eq!(subject.look().await, (Some(6), vec![Some(6), Some(6)]));
    subject.keep_alive().await;
    let head = subject.head();
    subject.make_a_list(&head).await;
    assert_eq!(subject.look().await, (None, vec![]));
    let outcome = subject.cache.put(&table(), &subject.tenure, &[], 7).await;
    assert!(matches!(outcome, Err(CacheError::Lost)), "{outcome:?}");
    subject.cache.begin(&table(), 3, 7).await.unwrap();
    assert_eq!(subject.look().await, (Some(7), vec![None, None]));
}

#[tokio::test]
async fn an_old_document_put_back_late_is_a_miss() {
    let mut subject = Subject::new().await;
    let at = subject.document(1);
    let old = subject.bytes(&at).await;
    subject.cache.put(&table(), &subject.tenure, &[entry(1, 6)], 6).await.unwrap();
    subject.write(&at, &old).await;
    assert_eq!(subject.look().await, (Some(6), vec![None, Some(5)]));
}

/// Its bytes are genuine and its mark fits: only that the position belongs to the bytes gives it away.
#[tokio::test]
async fn an_old_document_with_a_newer_position_is_a_miss() {
    let (counted, _guard) = counting();
    let mut subject = Subject::new().await;
    let at = subject.document(1);
    let mut forged = subject.bytes(&at).await;
    subject.cache.put(&table(), &subject.tenure, &[entry(1, 6)], 6).await.unwrap();
    let new = subject.bytes(&at).await;
    forged[1..9].copy_from_slice(&new[1..9]);
    subject.write(&at, &forged).await;
    assert_eq!(subject.look().await, (Some(6), vec![None, Some(5)]));
    assert_counted(&counted, "document", 1);
}

#[tokio::test]
async fn a_document_in_the_place_of_another_is_a_miss() {
    let (counted, _guard) = counting();
    let mut subject = Subject::new().await;
    let (one, other) = (subject.document(1), subject.document(2));
    let bytes = subject.bytes(&one).await;
    subject.write(&other, &bytes).await;
    assert_eq!(subject.look().await, (Some(5), vec![Some(5), None]));
    // Nor does one of a former generation stand in a later one.
    let old = bytes;
    subject.tenure = subject.cache.begin(&table(), 3, 5).await.unwrap();
    subject.tenure = subject.cache.put(&table(), &subject.tenure, &[entry(1, 5)], 6).await.unwrap();
    let at = subject.document(1);
    subject.write(&at, &old).await;
    assert_eq!(subject.look().await, (Some(6), vec![None, None]));
    assert_counted(&counted, "document", 2);
}

#[rstest]
#[case::gone(None)]
#[case::wrong(Some("v0"))]
#[case::higher(Some("v99999999999"))]
#[case::nonsense(Some("v5x"))]
#[tokio::test]
async fn a_document_without_its_own_mark_is_a_miss(#[case] mark: Option<&str>) {
    let mut subject = Subject::new().await;
    let at = subject.mark(1);
    match mark {
        Some(mark) => subject.write(&at, mark.as_bytes()).await,
        None => subject.stranger.del(&at).await.unwrap(),
    }
    assert_eq!(subject.look().await, (Some(5), vec![None, Some(5)]));
    subject.keep_alive().await;
    let (head, leased) = lease(&subject.cache, 1).await;
    assert!(fill(&subject.cache, head, leased.unwrap(), Some(entry(1, 5))).await);
    assert_eq!(subject.look().await, (Some(5), vec![Some(5), Some(5)]));
}

/// As after a clock was set back, or when somebody copied it: Redis would keep it for longer than anybody may trust it.
#[rstest]
#[case::forever("PERSIST", None)]
#[case::longer("PEXPIRE", Some(3_000))]
#[tokio::test]
async fn a_head_that_lives_too_long_is_not_trusted(#[case] command: &str, #[case] ms: Option<u64>) {
    let (counted, _guard) = counting();
    let mut subject = Subject::new().await;
    let at = subject.head();
    cmd(command).arg(&at).arg(ms).exec_async(&mut subject.stranger).await.unwrap();
    assert_eq!(subject.look().await, (None, vec![]));
    assert_counted(&counted, "head", 1);
    subject.cache.put(&table(), &subject.tenure, &[], 6).await.unwrap();
    assert_eq!(subject.look().await.0, Some(6));
}

#[tokio::test]
async fn an_old_head_put_back_is_replaced_by_the_writer() {
    let mut subject = Subject::new().await;
    let at = subject.head();
    let old = subject.bytes(&at).await;
    let tenure = subject.cache.put(&table(), &subject.tenure, &[entry(1, 6)], 6).await.unwrap();
    subject.write(&at, &old).await;
    let outcome = subject.cache.put(&table(), &tenure, &[entry(1, 7)], 7).await;
    assert!(matches!(outcome, Err(CacheError::Lost)), "{outcome:?}");
    subject.cache.begin(&table(), 3, 7).await.unwrap();
    assert_eq!(subject.look().await, (Some(7), vec![None, None]));
}

/// A reader is slow, its lease and the document are evicted, and a newer document is put and evicted meanwhile.
#[rstest]
#[case::nobody_else(false)]
#[case::another_reader(true)]
#[tokio::test]
async fn a_stale_fill_after_an_eviction_does_nothing(#[case] another: bool) {
    let mut subject = Subject::new().await;
    let (head, stale) = lease(&subject.cache, 7).await;
    let (document, mark) = (subject.document(7), subject.mark(7));
    subject.stranger.del::<_, ()>(&mark).await.unwrap();
    subject.cache.put(&table(), &subject.tenure, &[entry(7, 6)], 6).await.unwrap();
    subject.stranger.del::<_, ()>(&[&document, &mark]).await.unwrap();
    let other = if another { lease(&subject.cache, 7).await.1 } else { None };
    assert!(!fill(&subject.cache, head, stale.unwrap(), Some(entry(7, 5))).await);
    assert_eq!(look(&subject.cache, &[7]).await, (Some(6), vec![None]));
    if let Some(other) = other {
        assert!(fill(&subject.cache, head, other, Some(entry(7, 6))).await);
        assert_eq!(look(&subject.cache, &[7]).await, (Some(6), vec![Some(6)]));
    }
}

#[tokio::test]
async fn scripts_that_redis_has_forgotten_are_sent_again() {
    let mut subject = Subject::new().await;
    cmd("SCRIPT").arg("FLUSH").exec_async(&mut subject.stranger).await.unwrap();
    let (head, leased) = lease(&subject.cache, 7).await;
    cmd("SCRIPT").arg("FLUSH").exec_async(&mut subject.stranger).await.unwrap();
    assert!(fill(&subject.cache, head, leased.unwrap(), Some(entry(7, 5))).await);
    subject.cache.put(&table(), &subject.tenure, &[entry(1, 6)], 6).await.unwrap();
    assert_eq!(subject.look().await.1, [Some(6), Some(5)]);
}

#[tokio::test]
async fn everything_expires_by_itself() {
    let mut subject = Subject::new().await;
    let (_, leased) = lease(&subject.cache, 7).await;
    leased.unwrap();
    let keys: Vec<String> = subject.stranger.keys(format!("{}:*", subject.instance)).await.unwrap();
    assert_eq!(keys.len(), 7, "a head, two documents with their marks, a lease, the probe: {keys:?}");
    for key in keys {
        let left_ms: i64 = subject.stranger.pttl(&key).await.unwrap();
        let most_ms = match &key {
            key if *key == subject.head() => 2_000,
            key if *key == subject.mark(7) => 5_000,
            key if key.ends_with(":probe") => 1_000,
            _ => 60_000,
        };
        assert!((-2..=most_ms).contains(&left_ms) && left_ms != -1, "{key} lives for {left_ms} ms");
    }
}

/// Two instances in one Redis, even with one key, see nothing of each other.
#[tokio::test]
async fn an_instance_reads_nothing_of_another() {
    let subject = Subject::new().await;
    let other = server::connect(&server::shared(), &server::instance()).await;
    assert_eq!(look(&other, &[1]).await, (None, vec![]));
    other.begin(&table(), 1, 9).await.unwrap();
    let found = other.get(&table(), &[id(1)]).await.unwrap();
    assert!(matches!(found.slots[..], [Slot::Miss(_)]));
    assert_eq!(subject.look().await, (Some(5), vec![Some(5), Some(5)]));
}
