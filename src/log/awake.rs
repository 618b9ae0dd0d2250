//! Waiting without sleeping, for a command that nobody else's commands go with.
use std::{future::pending, time::Duration};
use tokio::{task::yield_now, time::Instant};

/// A disk with a write cache commits within this; to sleep and be woken would add a third of it. Who waits longer waits asleep.
const AWAKE: Duration = Duration::from_micros(300);

/// Waits without sleeping at first. Other tasks of the thread go on.
pub(super) async fn awake<T>(work: impl Future<Output = T>) -> T {
    let staying = async {
        let until = Instant::now() + AWAKE;
        while Instant::now() < until {
            yield_now().await;
        }
        pending().await
    };
    tokio::select! {
        biased;
        answer = work => answer,
        never = staying => never,
    }
}
