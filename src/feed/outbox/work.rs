//! Rows of the outbox as tasks: the rows of one user are one.

use std::collections::BTreeMap;

use crate::{
    domain::{FieldMap, Notification, NotifiedChange, Snapshot, UserId},
    ledger::postgres::outbox::{OutboxContent, OutboxRow, OutboxUser, UnknownKey, UnreadBalances},
};

const NO_USER: &str = "postgres.outbox.user_id_sql finds no user of this key";

/// The id of a row that cannot be read, and the reason.
pub(super) type UnreadableRow = (i64, String);

/// Rows that take effect together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutboxTask {
    pub(super) rows: Vec<i64>,
    /// Users whose floors are to be forgotten first.
    pub(super) removed: Vec<UserId>,
    pub(super) notifications: Vec<Notification>,
    /// Why the balances cannot be read: the rows are put aside with it once reads know that they have to ask the ledger.
    pub(super) corrupt: Option<String>,
}

/// The rows of one page.
#[derive(Debug, Default)]
pub(super) struct OutboxWork {
    /// By the table's own key of the user.
    users: BTreeMap<String, UserRows>,
    events: Vec<OutboxTask>,
    unreadable: Vec<UnreadableRow>,
}

#[derive(Debug, Default)]
struct UserRows {
    rows: Vec<i64>,
    removed: bool,
}

impl OutboxWork {
    /// Groups rows by user, and reads those that have notifications.
    pub(super) fn group(page: Vec<OutboxRow>, fields: &FieldMap) -> Self {
        let mut work = Self::default();
        for row in page {
            match row.content {
                OutboxContent::User(key) => {
                    let user = work.users.entry(key).or_default();
                    user.rows.push(row.id);
                    user.removed |= row.removed;
                }
                OutboxContent::Event(json) => match fields.parse_all(&json) {
                    Ok(notifications) => {
                        work.events
                            .push(event_task(row.id, notifications, row.removed));
                    }
                    Err(reason) => work.unreadable.push((row.id, reason)),
                },
            }
        }
        work
    }

    /// The keys whose balances are needed, each once.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// Adds the balances of [`Self::keys`], in their order. Beside the tasks: rows that cannot be read, with the reason.
    pub(super) fn complete(
        self,
        found: Vec<Result<OutboxUser, UnknownKey>>,
    ) -> (Vec<OutboxTask>, Vec<UnreadableRow>) {
        let Self {
            users,
            events: mut tasks,
            mut unreadable,
        } = self;
        for (of_user, found) in users.into_values().zip(found) {
            let reason = match found {
                Ok(found) => {
                    tasks.push(user_task(of_user, found));
                    continue;
                }
                // The user was deleted with the balances: there is no number to tell of.
                Err(UnknownKey::Absent) if of_user.removed => {
                    tasks.push(OutboxTask {
                        rows: of_user.rows,
                        removed: Vec::new(),
                        notifications: Vec::new(),
                        corrupt: None,
                    });
                    continue;
                }
                Err(UnknownKey::Absent) => NO_USER.to_owned(),
                Err(UnknownKey::Unreadable(reason)) => reason,
            };
            unreadable.extend(of_user.rows.into_iter().map(|id| (id, reason.clone())));
        }
        (tasks, unreadable)
    }
}

fn event_task(id: i64, mut notifications: Vec<Notification>, is_removal: bool) -> OutboxTask {
    let mut removed = Vec::new();
    if is_removal {
        removed = notifications.iter().map(|one| one.user).collect();
        removed.sort_unstable();
        removed.dedup();
        notifications.extend(removed.iter().copied().map(read_again));
    }
    OutboxTask {
        rows: vec![id],
        removed,
        notifications,
        corrupt: None,
    }
}

/// Values that were read before the floors are forgotten may be older than what was shown since: after that, reads ask the ledger.
fn user_task(of_user: UserRows, found: OutboxUser) -> OutboxTask {
    let OutboxUser { user, balances } = found;
    let (notifications, corrupt) = match balances {
        _ if of_user.removed => (vec![read_again(user)], None),
        Ok(snapshot) => (values_of(user, &snapshot), None),
        Err(UnreadBalances::Late) => (vec![read_again(user)], None),
        Err(UnreadBalances::Corrupt(reason)) => (vec![read_again(user)], Some(reason)),
    };
    OutboxTask {
        rows: of_user.rows,
        removed: of_user.removed.then_some(user).into_iter().collect(),
        notifications,
        corrupt,
    }
}

const fn read_again(user: UserId) -> Notification {
    Notification {
        user,
        said: NotifiedChange::User,
        created_at: None,
    }
}

fn values_of(user: UserId, snapshot: &Snapshot) -> Vec<Notification> {
    let balances = snapshot.balances().iter();
    balances
        .map(|balance| Notification {
            user,
            said: NotifiedChange::Values {
                asset: balance.asset,
                seq: balance.seq,
                avail: balance.avail,
                frozen: balance.frozen,
            },
            created_at: balance.updated_at,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Balance;

    fn of(id: i64, key: &str, removed: bool) -> OutboxRow {
        let content = OutboxContent::User(key.to_owned());
        OutboxRow {
            id,
            content,
            removed,
        }
    }

    fn event(id: i64, json: &str, removed: bool) -> OutboxRow {
        let content = OutboxContent::Event(json.to_owned());
        OutboxRow {
            id,
            content,
            removed,
        }
    }

    fn user(id: i64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn has(id: i64, seq: i64) -> OutboxUser {
        OutboxUser {
            user: user(id),
            balances: Ok(Snapshot::new(vec![Balance::sample_of(1, seq, 5)])),
        }
    }

    #[test]
    fn rows_of_one_user_are_one_task_and_unreadable_ones_are_named() {
        let page = vec![
            of(1, "a", false),
            event(2, r#"{"user_id":9}"#, false),
            of(3, "a", true),
            event(4, "{", false),
            of(5, "b", false),
            of(6, "c", false),
            of(7, "d", false),
            of(8, "d", true),
        ];
        let work = OutboxWork::group(page, &FieldMap::default());
        assert_eq!(work.keys().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        let found = vec![
            Ok(has(7, 3)),
            Err(UnknownKey::Unreadable("no key".to_owned())),
            Err(UnknownKey::Absent),
            Err(UnknownKey::Absent),
        ];
        let (tasks, unreadable) = work.complete(found);
        let rows: Vec<&[i64]> = tasks.iter().map(|task| &*task.rows).collect();
        assert_eq!(rows, [&[2][..], &[1, 3], &[7, 8]]);
        assert_eq!(tasks[1].removed, [user(7)]);
        // The values were read before the floors are forgotten: they are not told.
        assert_eq!(tasks[1].notifications, [read_again(user(7))]);
        assert!(tasks[2].notifications.is_empty(), "deleted with its key");
        assert_eq!(
            unreadable.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            [4, 5, 6]
        );
    }

    #[test]
    fn balances_that_cannot_be_had_are_read_again_by_the_next_read() {
        let page = vec![of(1, "a", false), of(2, "b", false), of(3, "c", false)];
        let unread = |id, why| OutboxUser {
            user: user(id),
            balances: Err(why),
        };
        let found = vec![
            Ok(unread(1, UnreadBalances::Late)),
            Ok(unread(2, UnreadBalances::Corrupt("two rows".to_owned()))),
            Ok(has(3, 4)),
        ];
        let (tasks, unreadable) = OutboxWork::group(page, &FieldMap::default()).complete(found);
        assert!(unreadable.is_empty());
        assert_eq!(tasks[0].notifications, [read_again(user(1))]);
        assert_eq!(tasks[1].notifications, [read_again(user(2))]);
        assert_eq!(tasks[1].corrupt.as_deref(), Some("two rows"));
        assert!(tasks[2].notifications[0].raised_floor().is_some());
    }

    #[test]
    fn an_event_may_say_that_its_users_lost_balances() {
        let json = r#"[{"user_id":9},{"user_id":8},{"user_id":9,"asset_id":1}]"#;
        let work = OutboxWork::group(vec![event(1, json, true)], &FieldMap::default());
        let (tasks, _) = work.complete(Vec::new());
        assert_eq!(tasks[0].removed, [user(8), user(9)]);
        assert!(tasks[0].notifications.contains(&read_again(user(8))));
    }
}
