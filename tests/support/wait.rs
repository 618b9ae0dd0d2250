//! Waits for a state by asking again, with a deadline that fails the test.
use std::time::{Duration, Instant};

/// Long enough for a debug build on a busy machine; a state that is not there by then will not come.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks: short against what is waited for, long enough not to be the load.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Asks `probe` until it answers something; panics with `what` when it has not by the [`DEADLINE`].
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
