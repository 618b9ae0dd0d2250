//! Killed at any moment of an erasure, on PostgreSQL as with files: the next start finishes it.
use super::{Agents, HER_WORDS, HIS_WORDS, Home, Mode, Person, rebuilt, search};
use crate::{random::Random, support::Client};

/// Kills, each at a moment of its own.
const KILLS: usize = 8;
/// Answers of the server between the erasure and the kill, at most: an erasure takes about as long.
const ANSWERS_MAX: u64 = 60;

/// After a restart it is done: nothing is left of her in any table or file.
async fn expect_finished(home: &Home, admin: &Client, her: &Person, secrets: &search::Secrets, erased: u64) {
    her.expect_forgotten(home, erased).await;
    assert_eq!(secrets.found(&home.contents().await), Vec::<String>::new());
    her.expect_erased(admin).await;
}

#[tokio::test]
async fn an_erasure_on_postgres_is_finished_whenever_the_server_is_killed() {
    let mut random = Random::printed();
    let home = Home::new(Mode::Postgres).await;
    let mut server = home.launch.clone().start();
    let mut admin = Client::admin(&server).await;
    let agents = Agents::create(&admin).await;
    Person::come(&admin, &agents, "him", HIS_WORDS).await;
    let mut left = Vec::new();
    for round in 0..KILLS {
        let her = Person::come(&admin, &agents, &format!("her{round}"), HER_WORDS).await;
        let secrets = home.secrets_of(her.id).await;
        let erased = admin.delete(&format!("/api/v1/users/{}", her.id)).await.expect(200).position();
        // The first one at once, the others anywhere.
        let answers = if round == 0 { 0 } else { random.below(ANSWERS_MAX) };
        for _ in 0..answers {
            admin.get("/healthz").await.expect(200);
        }
        let stopped = server.kill9();
        left.push((answers, home.rows_of(her.id).await, home.erased_up_to().await >= erased));
        server = stopped.start();
        admin = admin.at(&server);
        expect_finished(&home, &admin, &her, &secrets, erased).await;
    }
    println!("(answers before the kill, rows left, done): {left:?}");
    let (_server, admin) = rebuilt(&home, server.stop(), &admin).await;
    crate::kills::views_reach(&admin, admin.head().await).await;
}

#[rstest::rstest]
#[case::embedded(Mode::Embedded)]
#[case::postgres(Mode::Postgres)]
#[tokio::test]
async fn an_erasure_that_only_the_log_tells_of_is_carried_out(#[case] mode: Mode) {
    let home = Home::new(mode).await;
    let (server, admin, her, _him) = super::two_people(&home).await;
    let stopped = server.stop();
    let before = home.copy(&stopped).await;
    let secrets = home.secrets_of(her.id).await;
    let server = stopped.start();
    let admin = admin.at(&server);
    let erased = her.erase(&admin, &home).await;
    server.kill9();
    // As after a kill between the event and all that follows it, however fast this machine is.
    let undone = before.with_log_of(&home).await;
    assert!(undone.rows_of(her.id).await > 0 && undone.erased_up_to().await < erased);
    assert!(!secrets.found(&undone.contents().await).is_empty());
    let server = undone.launch.clone().start();
    let admin = admin.at(&server);
    expect_finished(&undone, &admin, &her, &secrets, erased).await;
}
