//! Whoever kept a copy of the log and comes back with today's subjects and the key file: reads what others wrote, and no more.
use marvin::{
    log::{EventLog, ReadError, StoredEvent, codec::Codec},
    security::sealer::Erasures,
};
use rstest::rstest;
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

use super::{HER_WORDS, HIS_WORDS, Home, Mode, Person, home, two_people, views_reach};
use crate::support::Client;

/// More events than any test here writes.
const EVENTS_MAX: u32 = 10_000;

async fn rows(log: &dyn EventLog) -> Vec<StoredEvent> {
    log.read(0, EVENTS_MAX).await.unwrap()
}

/// What each row opens to, one by one.
async fn opened(home: &Home) -> Vec<(StoredEvent, Result<marvin_domain::Envelope, ReadError>)> {
    let (log, _subjects, codec) = home.reader().await;
    let mut all = Vec::new();
    for row in rows(&*log).await {
        let event = open(&codec, &row).await;
        all.push((row, event));
    }
    all
}

async fn open(codec: &Codec, row: &StoredEvent) -> Result<marvin_domain::Envelope, ReadError> {
    Ok(codec.open(vec![row.clone()]).await?.remove(0))
}

fn words(event: &marvin_domain::Envelope) -> String {
    String::from_utf8_lossy(&event.event.personal().unwrap_or_default()).into_owned()
}

fn is_of(row: &StoredEvent, person: &Person) -> bool {
    row.metadata.contains(&format!("\"subject\":\"{}\"", person.id))
}

/// Which words open in a home, and how many parts of hers do not, each with an error that names her key.
async fn expect_opening(home: &Home, her: &Person, hers_open: bool) -> usize {
    let (mut refused, mut said) = (0, String::new());
    for (row, event) in opened(home).await {
        match event {
            Ok(event) => said += &words(&event),
            Err(error) => {
                let (position, reason) =
                    (row.position, format!("the key of {} is missing, and nobody erased them", her.id));
                assert!(is_of(&row, her), "{error}");
                assert_eq!(error.to_string(), format!("the event at position {position} cannot be read: {reason}"));
                refused += 1;
            }
        }
    }
    assert!(said.contains(HIS_WORDS), "others' words open");
    assert_eq!(said.contains(HER_WORDS), hers_open);
    refused
}

#[rstest]
#[case::embedded(Mode::Embedded)]
#[case::postgres(Mode::Postgres)]
#[tokio::test]
async fn a_log_from_before_the_erasure_does_not_open_with_todays_keys(#[case] mode: Mode) {
    let home = Home::new(mode).await;
    let (server, admin, her, _him) = two_people(&home).await;
    all_told(&admin).await;
    let stopped = server.stop();
    let kept = home.copy(&stopped).await;
    assert_eq!(expect_opening(&kept, &her, true).await, 0, "before, all of it opens");
    let parts = opened(&kept)
        .await
        .iter()
        .filter(|(row, event)| is_of(row, &her) && !words(event.as_ref().unwrap()).is_empty())
        .count();
    assert!(parts > 5, "{parts}");

    let server = stopped.start();
    let admin = admin.at(&server);
    her.erase(&admin, &home).await;
    her.expect_erased(&admin).await;
    server.stop();
    let old_log = home.with_log_of(&kept).await;
    assert_eq!(expect_opening(&old_log, &her, false).await, parts, "each of her parts, and nothing else");
    let new_log = home.with_log_of(&home).await;
    assert_eq!(expect_opening(&new_log, &her, false).await, 0, "the log that tells of the erasure reads on");
    let hers = opened(&new_log).await.into_iter().filter(|(row, _)| is_of(row, &her));
    assert!(hers.filter(|(_, event)| event.as_ref().unwrap().event.is_erased()).count() >= parts);

    let refused = old_log.launch.run(&["serve"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && said.contains("position"), "{said}");
    let accepted = old_log.launch.run(&["doctor", "--accept-rollback"]);
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    let server = old_log.launch.clone().start();
    let admin = Client::admin(&server).await;
    her.expect_erased(&admin).await;
}

/// The log rests: nothing is under way that would add to it.
async fn all_told(admin: &Client) {
    let head = crate::support::eventually("the ends are told", async || {
        let head = admin.head().await;
        views_reach(admin, head).await;
        let told = admin.get("/api/v1/events?types=notification.raised&limit=1000").await.expect(200).json();
        // Of two people: the rule's own for the task that was done, and one for each of two ends.
        (told.as_array().unwrap().len() == 6 && admin.head().await == head).then_some(head)
    })
    .await;
    assert_eq!(admin.head().await, head);
    assert_eq!(admin.get("/readyz").await.expect(200).json()["degraded"], json!([]));
}

/// A log that cannot be asked, as after a lost connection.
struct Unreachable;

#[async_trait::async_trait]
impl Erasures for Unreachable {
    async fn is_erased(&self, _subject: Uuid) -> Result<bool, String> {
        Err("nobody answers".to_owned())
    }
}

#[tokio::test]
async fn whoever_cannot_ask_who_was_erased_is_told_to_try_again_and_not_that_the_event_is_damaged() {
    let home = Home::new(Mode::Embedded).await;
    let (server, admin, her, _him) = two_people(&home).await;
    her.erase(&admin, &home).await;
    server.stop();
    let (log, subjects, _) = home.reader().await;
    let codec = home::codec(&subjects, Arc::new(Unreachable));
    let mut asked = 0;
    for row in rows(&*log).await {
        match open(&codec, &row).await {
            Ok(event) => assert!(!event.event.is_erased()),
            Err(error) => {
                assert!(matches!(error, ReadError::Keys(_)) && is_of(&row, &her), "{error:?}");
                asked += 1;
            }
        }
    }
    assert!(asked > 5, "{asked}");
}
