//! The one place where tests wait: something is asked again and again, until it is so or the time is over.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Between two questions.
const STEP: Duration = Duration::from_millis(10);

/// Asks until there is an answer. Panics, saying `what` was waited for, when there is none within the time.
#[track_caller]
pub fn eventually<T>(within: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        step();
    }
}

/// The time between two questions, for a thread.
pub fn step() {
    thread::sleep(STEP);
}

/// The same for a future; whoever asks in a loop of its own has a bound of its own.
pub async fn pause() {
    tokio::time::sleep(STEP).await;
}

/// The same for questions that are futures. A question that hangs ends with the time, too.
pub async fn eventually_async<T, F>(within: Duration, what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            pause().await;
        }
    };
    let answer = tokio::time::timeout(within, asked).await;
    answer.unwrap_or_else(|_| panic!("not within {within:?}: {what}"))
}
