//! What others write into Redis while a server uses it: wrong bytes, and what stood there before.
use ::redis::{AsyncCommands, aio::MultiplexedConnection, cmd, pipe};
use rstest::rstest;

use super::{MISSES, Scene};
use crate::support::eventually;

fn is_head(key: &str) -> bool {
    key.ends_with(":head")
}

fn is_mark(key: &str) -> bool {
    key.ends_with(":mark")
}

fn is_document(key: &str) -> bool {
    !is_head(key) && !is_mark(key)
}

/// Writes in the place of what is there, and lets it live as long.
async fn write_over(stranger: &mut MultiplexedConnection, key: &str, bytes: &[u8]) {
    cmd("SET").arg(key).arg(bytes).arg("XX").arg("KEEPTTL").exec_async(stranger).await.unwrap();
}

async fn spoil(scene: &Scene, of: fn(&str) -> bool, spoilt: fn(Vec<u8>) -> Vec<u8>) {
    let mut stranger = scene.stranger().await;
    for key in scene.keys(of).await {
        let bytes: Option<Vec<u8>> = stranger.get(&key).await.unwrap();
        write_over(&mut stranger, &key, &spoilt(bytes.unwrap_or_default())).await;
    }
}

fn with_another_bit(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes
}

#[rstest]
#[case::in_the_place_of_documents(is_document, "marvin_cache_unreadable_total{what=\"document\"")]
#[case::in_the_place_of_heads(is_head, "marvin_cache_unreadable_total{what=\"head\"")]
#[case::in_the_place_of_marks(is_mark, MISSES)]
#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_shown_to_nobody_and_are_counted(#[case] of: fn(&str) -> bool, #[case] counter: &str) {
    let mut scene = Scene::start().await;
    let spoilt: [fn(Vec<u8>) -> Vec<u8>; 4] =
        [|_| vec![], |_| b"not what Marvin wrote".to_vec(), |_| vec![1; 100_000], with_another_bit];
    for spoilt in spoilt {
        scene.comes_from_redis().await;
        eventually("they are found", async || {
            let before = scene.counted().await.sum(counter);
            spoil(&scene, of, spoilt).await;
            scene.shows().await;
            (scene.counted().await.sum(counter) > before).then_some(())
        })
        .await;
        scene.change().await;
        spoil(&scene, of, spoilt).await;
        scene.shows().await;
    }
    scene.is_used().await;
}

/// One that is genuine, and whose newer mark is there.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_document_that_is_written_back_is_shown_to_nobody() {
    let mut scene = Scene::start().await;
    let id = scene.agent.replace('-', "");
    eventually("an old document is passed over", async || {
        scene.comes_from_redis().await;
        let mut old = Vec::new();
        let mut stranger = scene.stranger().await;
        for key in scene.keys(|key| key.ends_with(&id)).await {
            old.push((key.clone(), stranger.get::<_, Vec<u8>>(key).await.unwrap()));
        }
        scene.change().await;
        scene.comes_from_redis().await;
        let before = scene.counted().await.sum(MISSES);
        for (key, bytes) in old {
            write_over(&mut stranger, &key, &bytes).await;
        }
        scene.shows().await;
        (scene.counted().await.sum(MISSES) > before).then_some(())
    })
    .await;
    scene.sessions_hold().await;
    scene.is_used().await;
}

/// As a replica that lagged and took over has them, or a dump that was restored: documents and marks fit each other and the head.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_head_that_is_written_back_with_all_that_was_under_it_is_believed_by_nobody() {
    let mut scene = Scene::start().await;
    for _ in 0..5 {
        scene.comes_from_redis().await;
        let mut stranger = scene.stranger().await;
        let keys = scene.keys(|_| true).await;
        let mut dump = pipe();
        for key in &keys {
            dump.cmd("DUMP").arg(key);
        }
        let dump: Vec<Option<Vec<u8>>> = dump.atomic().query_async(&mut stranger).await.unwrap();
        scene.change().await;
        scene.comes_from_redis().await;
        let mut restore = pipe();
        restore.atomic();
        for (key, bytes) in keys.iter().zip(dump).filter_map(|(key, bytes)| Some((key, bytes?))) {
            let left_ms = if is_head(key) { 2_000 } else { 60_000 };
            restore.cmd("RESTORE").arg(key).arg(left_ms).arg(bytes).arg("REPLACE");
        }
        restore.exec_async(&mut stranger).await.unwrap();
        let before = scene.counted().await.sum(MISSES);
        scene.shows().await;
        assert!(scene.counted().await.sum(MISSES) > before, "nothing is taken from there");
    }
    scene.sessions_hold().await;
    scene.is_used().await;
}
