//! Each rule alone: facts against which nothing speaks, then each fact turned.

use super::*;

#[test]
fn what_a_read_from_before_a_forgetting_shows_raises_no_floor() {
    let may = |forgotten_since| may_shown_raise_floors(&RaiseFacts { forgotten_since });
    assert_eq!(may(false), Ok(()));
    assert_eq!(may(true), Err(RaiseRefusal::ForgottenSince));
}

#[test]
fn redis_is_filled_with_what_reaches_the_floors_and_is_known_elsewhere() {
    let may = |floors_met, known_elsewhere| {
        may_redis_be_filled(&FillFacts {
            floors_met,
            known_elsewhere,
        })
    };
    assert_eq!(may(true, true), Ok(()));
    assert_eq!(may(false, true), Err(FillRefusal::BelowFloor));
    assert_eq!(may(true, false), Err(FillRefusal::KnownHereAlone));
}
