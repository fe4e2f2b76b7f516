//! Values by user in two generations, within a bound of bytes.
//!
//! **Invariants.** A value that was touched within `ttl` is found, unless it was given up for want of room; [`Generations::change_value`]
//! says so. Giving up begins with the oldest generation.
//!
//! **Limits.** `bytes_max` for both generations and their tables; a table that grows is counted as grown.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use tokio::time::Instant;

use crate::domain::UserId;

/// Bytes that a value takes of the allocator, beside its place in the table.
pub(super) trait HeapBytes: Default {
    fn heap_bytes(&self) -> usize;
}

#[derive(Debug, Default)]
struct Generation<V> {
    users: HashMap<UserId, V>,
    heap_bytes: usize,
}

/// Two generations of values.
#[derive(Debug)]
pub(super) struct Generations<V> {
    young: Generation<V>,
    old: Generation<V>,
    /// The young generation began then: nothing in the old one was touched later.
    turned: Instant,
    bytes_max: usize,
}

/// Values that were given up though they were younger than the time for which they count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GivenUp {
    /// When the youngest of them was touched.
    pub(super) touched: Instant,
    /// How many.
    pub(super) users: usize,
}

impl<V: HeapBytes> Generation<V> {
    fn take_value(&mut self, user: UserId) -> Option<V> {
        let value = self.users.remove(&user)?;
        self.heap_bytes = self.heap_bytes.saturating_sub(value.heap_bytes());
        Some(value)
    }

    fn byte_size(&self) -> usize {
        // A table has a control byte for each place, and room for a seventh more than it says.
        let place = size_of::<(UserId, V)>().saturating_add(1);
        let capacity = self.users.capacity();
        let places = capacity.saturating_add(capacity.checked_div(7).unwrap_or(0));
        places.saturating_mul(place).saturating_add(self.heap_bytes)
    }
}

impl<V: HeapBytes> Generations<V> {
    pub(super) fn new(bytes_max: usize, now: Instant) -> Self {
        Self {
            young: Generation {
                users: HashMap::new(),
                heap_bytes: 0,
            },
            old: Generation {
                users: HashMap::new(),
                heap_bytes: 0,
            },
            turned: now,
            bytes_max,
        }
    }

    pub(super) fn value_of(&self, user: UserId) -> Option<&V> {
        let young = || self.young.users.get(&user);
        // Most tables of changes are empty most of the time.
        (!self.young.users.is_empty())
            .then(young)
            .flatten()
            .or_else(|| self.old.users.get(&user))
    }

    /// Changes the user's value, or a new one, and says what was given up to make room for it.
    pub(super) fn change_value<R>(
        &mut self,
        user: UserId,
        ttl: Duration,
        now: Instant,
        change: impl FnOnce(&mut V) -> R,
    ) -> (R, Option<GivenUp>) {
        self.turn_generations(ttl, now);
        let Self { young, old, .. } = self;
        let (before, value) = match young.users.entry(user) {
            Entry::Occupied(there) => (there.get().heap_bytes(), there.into_mut()),
            Entry::Vacant(place) => (0, place.insert(old.take_value(user).unwrap_or_default())),
        };
        let result = change(value);
        let after = value.heap_bytes();
        young.heap_bytes = young
            .heap_bytes
            .saturating_sub(before)
            .saturating_add(after);
        (result, self.make_room(ttl, now))
    }

    /// Changes the entry of a known user; does nothing for another one.
    pub(super) fn change_known(
        &mut self,
        user: UserId,
        ttl: Duration,
        now: Instant,
        change: impl FnOnce(&mut V),
    ) -> Option<GivenUp> {
        self.value_of(user)?;
        self.change_value(user, ttl, now, change).1
    }

    pub(super) fn remove_user(&mut self, user: UserId) {
        self.young.take_value(user);
        self.old.take_value(user);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (UserId, &V)> {
        let both = self.young.users.iter().chain(&self.old.users);
        both.map(|(user, value)| (*user, value))
    }

    /// Users, and the bytes that they take.
    pub(super) fn current_size(&self) -> (usize, usize) {
        let users = self.young.users.len().saturating_add(self.old.users.len());
        (
            users,
            self.young.byte_size().saturating_add(self.old.byte_size()),
        )
    }

    /// Forgets users that were not touched for `ttl`.
    fn turn_generations(&mut self, ttl: Duration, now: Instant) {
        let age = now.saturating_duration_since(self.turned);
        if age < ttl {
            return;
        }
        // Nothing younger than `ttl` is old by now. As many users as before are expected, and room is made once.
        let room = HashMap::with_capacity(self.young.users.len());
        self.begin_generation(room, now);
        if age >= ttl.saturating_mul(2) {
            self.drop_old();
        }
    }

    /// Gives up the oldest generation where the young one has its half of the room, and all where that is not enough.
    fn make_room(&mut self, ttl: Duration, now: Instant) -> Option<GivenUp> {
        let half = self.bytes_max.checked_div(2).unwrap_or(0);
        if self.young.byte_size() <= half {
            return None;
        }
        let lasting = now.saturating_duration_since(self.turned) < ttl;
        let (users, touched) = (self.old.users.len(), self.turned);
        self.begin_generation(HashMap::new(), now);
        let mut given_up = (lasting && users > 0).then_some(GivenUp { touched, users });
        if self.current_size().1 > self.bytes_max {
            let users = users.saturating_add(self.old.users.len());
            given_up = Some(GivenUp {
                touched: now,
                users,
            });
            self.drop_old();
        }
        given_up
    }

    fn begin_generation(&mut self, room: HashMap<UserId, V>, now: Instant) {
        let young = Generation {
            users: room,
            heap_bytes: 0,
        };
        self.old = std::mem::replace(&mut self.young, young);
        self.turned = now;
    }

    fn drop_old(&mut self) {
        self.old = Generation {
            users: HashMap::new(),
            heap_bytes: 0,
        };
    }
}
