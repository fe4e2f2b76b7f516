//! The memory that the change log takes.

/// How much is remembered of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Use {
    pub users: u64,
    /// The bytes that they take.
    pub bytes: u64,
    /// Users given up for want of room since the start, before they were old enough to be forgotten.
    pub given_up: u64,
}

/// Bytes taken by changes and by answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uses {
    /// Changes that notifications announced.
    pub changes: Use,
    /// Balances that were shown.
    pub shown: Use,
}

impl Use {
    pub(super) fn add_size(&mut self, (users, bytes): (usize, usize)) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        self.users = self.users.saturating_add(count(users));
        self.bytes = self.bytes.saturating_add(count(bytes));
    }
}
