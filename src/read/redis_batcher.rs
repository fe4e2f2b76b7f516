//! Single readers who ask Redis together: those who come at the same moment, and those who come while enough is asked already.
//!
//! A user costs Redis and this process the less, the more others are asked for in the same question.
//!
//! **Invariants.** Every waiting load has a reader that will ask: the one that [`Gathered::join`] told to, or whose question is under way.
//!
//! **Limits.** `redis.connections` questions at once, for [`TOGETHER`] users each. Who has waited for too long is its caller's
//! business.

use super::batch::Lead;

/// Users of one question.
const TOGETHER: usize = 512;

/// Single readers' loads that ask Redis together.
#[derive(Debug)]
pub(super) struct Gathered {
    waiting: Vec<Lead>,
    /// Questions that are asked now, and how many there may be.
    asking: usize,
    most: usize,
}

impl Gathered {
    /// Nobody yet; so many questions at once.
    pub(super) const fn new(most: usize) -> Self {
        Self {
            waiting: Vec::new(),
            asking: 0,
            most,
        }
    }

    /// One more. True if somebody has to ask for it: others that wait have somebody, or have once a question is answered.
    pub(super) fn join(&mut self, lead: Lead) -> bool {
        self.waiting.push(lead);
        self.waiting.len() == 1 && self.may_ask()
    }

    /// Those who ask now, if there are any and there may be one more question.
    pub(super) fn next(&mut self) -> Option<Vec<Lead>> {
        if self.waiting.is_empty() || !self.may_ask() {
            return None;
        }
        self.asking = self.asking.saturating_add(1);
        let later = self.waiting.split_off(self.waiting.len().min(TOGETHER));
        Some(std::mem::replace(&mut self.waiting, later))
    }

    /// Some are left, for whom somebody else may ask.
    pub(super) const fn are_left(&self) -> bool {
        !self.waiting.is_empty() && self.may_ask()
    }

    /// A question is over.
    pub(super) const fn answered(&mut self) {
        self.asking = self.asking.saturating_sub(1);
    }

    const fn may_ask(&self) -> bool {
        self.asking < self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::single_flight::tests::begun;

    fn lead(user: usize) -> Lead {
        let (_, user, flight) = begun(false, user.try_into().unwrap());
        (user, flight)
    }

    fn users(leads: Option<Vec<Lead>>) -> Vec<i64> {
        let users = leads.into_iter().flatten();
        users.map(|(user, _)| user.get()).collect()
    }

    #[test]
    fn who_comes_while_enough_is_asked_is_asked_for_in_the_next_question() {
        let mut gathered = Gathered::new(1);
        assert!(gathered.join(lead(1)), "nobody asks yet");
        assert!(!gathered.join(lead(2)), "the first one will");
        assert_eq!(users(gathered.next()), [1, 2]);
        assert!(!gathered.join(lead(3)), "who asks now goes on with it");
        assert!(!gathered.are_left() && gathered.next().is_none());
        gathered.answered();
        assert_eq!(users(gathered.next()), [3]);
        gathered.answered();
        assert!(gathered.next().is_none(), "nobody waits");
        assert!(gathered.join(lead(4)), "whoever asked has stopped");
    }

    #[test]
    fn another_question_may_be_asked_beside_the_first() {
        let mut gathered = Gathered::new(2);
        assert!(gathered.join(lead(1)));
        assert_eq!(users(gathered.next()), [1]);
        assert!(gathered.join(lead(2)));
        assert_eq!(users(gathered.next()), [2]);
        assert!(!gathered.join(lead(3)));
        assert!(gathered.next().is_none());
    }

    #[test]
    fn a_question_has_an_end_and_what_is_left_is_another_one() {
        let mut gathered = Gathered::new(2);
        for id in 1..=TOGETHER + 2 {
            gathered.join(lead(id));
        }
        assert_eq!(users(gathered.next()).len(), TOGETHER);
        assert!(gathered.are_left());
        assert_eq!(users(gathered.next()).len(), 2);
        assert!(!gathered.are_left());
    }
}
