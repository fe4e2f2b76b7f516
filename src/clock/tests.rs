//! The two ways to read one clock.

use super::*;

#[test]
fn the_last_tick_is_close() {
    let before = wall_at_last_tick();
    let now = wall_now();
    let after = wall_at_last_tick();
    // Unless somebody sets the clock between.
    assert!(
        before.0 <= now.0 && now.0 - 1_000 < after.0,
        "{before:?} {now:?} {after:?}"
    );
}
