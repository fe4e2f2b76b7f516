//! Places where a test stops the process or makes a step fail, by the variable `FAILPOINTS`. Without the feature `failpoints`
//! there are none.

use std::sync::LazyLock;

/// The variable is set. Tests inside the process configure their fail points otherwise, and block nothing here.
#[expect(
    clippy::disallowed_methods,
    reason = "a variable of the crate `fail`, and no setting"
)]
static CONFIGURED: LazyLock<bool> = LazyLock::new(|| std::env::var_os("FAILPOINTS").is_some());

/// Does what a test wants at this place: to stop there for ever, say. Returns whether the caller has to fail there.
pub fn reach(place: &str) -> bool {
    let evaluate = || {
        fail::fail_point!(place, |_| true);
        // Without the feature nothing reads it.
        let _ = place;
        false
    };
    if cfg!(feature = "failpoints") && *CONFIGURED {
        // A task that stops takes its thread with it, and all tasks that wait for this thread: they move to another.
        tokio::task::block_in_place(evaluate)
    } else {
        evaluate()
    }
}
