//! What happened, as the clients saw it, and what of it should not have.
//!
//! All times are the clients': an acknowledgement counts from when it had arrived, a read from before it was sent. So
//! whatever is called "later" here was later in real time.
//!
//! **Limits.** A read during which its instance was killed is compared with no other read of it: whose life it was
//! cannot be told. A failure shows nothing and breaks nothing but availability.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

/// Since the run began.
pub type At = Duration;
/// User and asset.
pub type Key = (u64, u32);

/// A notification that was acknowledged.
#[derive(Debug, Clone)]
pub struct Ack {
    pub key: Key,
    /// What the ledger had acknowledged before the notification was sent; for forms with a seq, that seq.
    pub seq: i64,
    /// The instance that answered, and its life; none for the stream.
    pub by: Option<(usize, u32)>,
    pub form: &'static str,
    pub at: At,
}

/// A row that the ledger acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub key: Key,
    pub seq: i64,
    pub at: At,
}

/// How it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Single,
    Batch,
    MinSeq(u32, i64),
    NoCache,
}

/// One user's answer.
#[derive(Debug, Clone)]
pub struct Read {
    pub user: u64,
    pub instance: usize,
    /// None where the instance was killed meanwhile.
    pub life: Option<u32>,
    pub kind: Kind,
    pub begun: At,
    pub ended: At,
    /// asset → seq, avail.
    pub shown: BTreeMap<u32, (i64, String)>,
    /// `behind`, or what else the answer said of itself.
    pub detail: Option<String>,
    /// Who answered.
    pub status: String,
}

/// All of it.
#[derive(Debug, Default)]
pub struct History {
    pub rows: Vec<Row>,
    pub acks: Vec<Ack>,
    pub reads: Vec<Read>,
}

/// What a promise was broken by.
#[derive(Debug, Clone)]
pub struct Violation {
    pub promise: &'static str,
    pub story: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.story)
    }
}

/// The amounts that versions have. One that shows another amount never was.
#[derive(Debug, Clone)]
pub enum Amounts {
    /// Those of [`amount`].
    Computed,
    /// Those that stand in the ledger.
    Stored(HashMap<(Key, i64), i64>),
}

impl Amounts {
    fn of(&self, key: Key, seq: i64) -> Option<i64> {
        match self {
            Self::Computed => Some(amount(key, seq)),
            Self::Stored(stored) => stored.get(&(key, seq)).copied(),
        }
    }
}

/// What the run was like.
#[derive(Debug, Clone)]
pub struct Rules {
    pub amounts: Amounts,
    pub max_staleness: Duration,
    /// Assets that every user had before the run.
    pub assets: Vec<u32>,
    /// All assets that there are.
    pub catalogue: Vec<u32>,
}

/// The highest seq known up to a moment, with what made it known.
#[derive(Debug, Default)]
struct Rising<'a, T>(Vec<(At, i64, &'a T)>);

impl<'a, T> Rising<'a, T> {
    fn new(mut all: Vec<(At, i64, &'a T)>) -> Self {
        all.sort_by_key(|(at, ..)| *at);
        let mut rising: Vec<(At, i64, &T)> = Vec::new();
        for one in all {
            if rising.last().is_none_or(|last| one.1 > last.1) {
                rising.push(one);
            }
        }
        Self(rising)
    }

    /// The highest that was known before `moment`.
    fn before(&self, moment: At) -> Option<(At, i64, &'a T)> {
        let count = self.0.partition_point(|(at, ..)| *at < moment);
        count
            .checked_sub(1)
            .and_then(|last| self.0.get(last).copied())
    }
}

fn group<'a, T, K: std::hash::Hash + Eq>(
    all: impl Iterator<Item = (K, At, i64, &'a T)>,
) -> HashMap<K, Rising<'a, T>> {
    let mut groups: HashMap<K, Vec<(At, i64, &T)>> = HashMap::new();
    for (key, at, seq, from) in all {
        groups.entry(key).or_default().push((at, seq, from));
    }
    groups
        .into_iter()
        .map(|(key, all)| (key, Rising::new(all)))
        .collect()
}

/// The amount of a version: whoever sees another one sees something that never was.
pub fn amount(key: Key, seq: i64) -> i64 {
    let mixed =
        seq.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (key.0 << 20) ^ u64::from(key.1);
    i64::try_from(mixed % 1_000_000_000_000).unwrap_or(0)
}

impl History {
    /// Everything that was not as promised.
    pub fn check(&self, rules: &Rules) -> Vec<Violation> {
        let rows = group(self.rows.iter().map(|row| (row.key, row.at, row.seq, row)));
        let everywhere = group(self.acks.iter().map(|ack| (ack.key, ack.at, ack.seq, ack)));
        let on_one = group(self.acks.iter().filter_map(|ack| {
            let by = ack.by?;
            Some(((ack.key, by), ack.at, ack.seq, ack))
        }));
        let shown = group(self.reads.iter().flat_map(|read| {
            read.shown.iter().filter_map(move |(asset, (seq, _))| {
                let life = read.life?;
                let key = ((read.user, *asset), (read.instance, life));
                Some((key, read.ended, *seq, read))
            })
        }));
        let mut found = Vec::new();
        for read in &self.reads {
            whole(read, rules, &mut found);
            for asset in rules.catalogue.iter().copied() {
                let key = (read.user, asset);
                let seq = read.shown.get(&asset).map_or(0, |(seq, _)| *seq);
                let mut broken = |promise, due: At, needed: i64, by: String| {
                    let late = read.begun.saturating_sub(due);
                    let story = format!(
                        "{} shows asset {asset} at {seq}, {needed} was due {late:?} before it began: {by}",
                        told(read)
                    );
                    found.push(Violation { promise, story });
                };
                if let Some(life) = read.life {
                    let here = (key, (read.instance, life));
                    if let Some((at, needed, ack)) =
                        on_one.get(&here).and_then(|all| all.before(read.begun))
                        && seq < needed
                    {
                        broken("P1", at, needed, acked(ack));
                    }
                    if let Some((at, needed, before)) =
                        shown.get(&here).and_then(|all| all.before(read.begun))
                        && seq < needed
                    {
                        broken("P3", at, needed, told(before));
                    }
                }
                let fresh_from = read.begun.saturating_sub(rules.max_staleness);
                if let Some((at, needed, ack)) =
                    everywhere.get(&key).and_then(|all| all.before(fresh_from))
                    && seq < needed
                {
                    broken("P2", at, needed, acked(ack));
                }
                if read.kind == Kind::NoCache
                    && let Some((at, needed, row)) =
                        rows.get(&key).and_then(|all| all.before(read.begun))
                    && seq < needed
                {
                    broken("P9", at, needed, format!("{row:?}"));
                }
            }
        }
        found
    }

    /// What should be shown at rest: the newest row of each.
    pub fn newest(&self) -> BTreeMap<Key, i64> {
        let mut newest = BTreeMap::new();
        for row in &self.rows {
            let seq = newest.entry(row.key).or_insert(row.seq);
            *seq = row.seq.max(*seq);
        }
        newest
    }

    /// At rest nothing but the newest is shown: what is missing then was lost, what is old then stays.
    pub fn check_at_rest(&self, read: &Read) -> Vec<Violation> {
        let newest = self.newest();
        let of_user = newest.range((read.user, 0)..=(read.user, u32::MAX));
        let mut found = Vec::new();
        for ((user, asset), seq) in of_user {
            let seen = read.shown.get(asset).map_or(0, |(seq, _)| *seq);
            if seen != *seq {
                let acked = self
                    .acks
                    .iter()
                    .any(|ack| ack.key == (*user, *asset) && ack.seq == *seq);
                let promise = if acked && seen < *seq { "P8" } else { "P4" };
                let story = format!(
                    "at rest {} shows asset {asset} at {seen}, the ledger has {seq}",
                    told(read)
                );
                found.push(Violation { promise, story });
            }
        }
        if read.detail.is_some() {
            let story = format!("at rest {} is not whole", told(read));
            found.push(Violation {
                promise: "P4",
                story,
            });
        }
        found
    }
}

/// Every asset is there, no version has an amount that it never had, and `min_seq` was reached.
fn whole(read: &Read, rules: &Rules, found: &mut Vec<Violation>) {
    for asset in &rules.assets {
        if !read.shown.contains_key(asset) {
            let story = format!("{} lacks asset {asset}", told(read));
            found.push(Violation {
                promise: "P6",
                story,
            });
        }
    }
    for (asset, (seq, avail)) in &read.shown {
        let right = rules.amounts.of((read.user, *asset), *seq);
        if right.is_none_or(|right| *avail != right.to_string()) {
            let story = format!(
                "{} shows asset {asset} at {seq} with {avail} instead of {right:?}",
                told(read)
            );
            found.push(Violation {
                promise: "P6",
                story,
            });
        }
    }
    if let Kind::MinSeq(asset, least) = read.kind {
        let seq = read.shown.get(&asset).map_or(0, |(seq, _)| *seq);
        if seq < least {
            let story = format!(
                "{} shows asset {asset} at {seq}, {least} was asked for",
                told(read)
            );
            found.push(Violation {
                promise: "P9",
                story,
            });
        }
    }
}

fn told(read: &Read) -> String {
    let Read {
        user,
        instance,
        life,
        kind,
        begun,
        ended,
        detail,
        status,
        ..
    } = read;
    format!(
        "the {kind:?} read of user {user} on instance {instance} (life {life:?}) from {begun:?} to {ended:?} [{status}] {}",
        detail.as_deref().unwrap_or("")
    )
}

fn acked(ack: &Ack) -> String {
    let Ack {
        key: (user, asset),
        seq,
        by,
        form,
        at,
    } = ack;
    format!(
        "a notification ({form}) of user {user}, asset {asset}, {seq} was acknowledged by {by:?} at {at:?}"
    )
}
