//! Rows of the outbox as tasks: the rows of one user are one.
//!
//! **Invariants.** Tasks are in the order in which they take effect: balances that were read, events by their rows, then removals of
//! rows. So nothing that was known of a user before a row went away is told after it.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Groups rows by user, and reads those that have notifications, in this service's own form.
    pub(super) fn group(page: Vec<OutboxRow>) -> Self {
        let (mut work, fields) = (Self::default(), FieldMap::default());
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
            events,
            mut unreadable,
        } = self;
        let (mut tasks, mut removals) = (Vec::new(), Vec::new());
        for (of_user, found) in users.into_values().zip(found) {
            let reason = match found {
                Ok(found) => {
                    let of_kind = if of_user.removed {
                        &mut removals
                    } else {
                        &mut tasks
                    };
                    of_kind.push(user_task(of_user, found));
                    continue;
                }
                // The user was deleted with the balances: there is no number to tell of.
                Err(UnknownKey::Absent) if of_user.removed => {
                    removals.push(OutboxTask {
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
        tasks.extend(events);
        tasks.extend(removals);
        (tasks, unreadable)
    }
}

/// Tasks that take effect together: the users whose floors are forgotten, and what is told after that. What a task tells of a user
/// whose floors a later one forgets is left out: it may be of the row that went away.
pub(super) fn merge_tasks(tasks: &[OutboxTask]) -> (Vec<UserId>, Vec<Notification>) {
    let mut removed: BTreeSet<UserId> = BTreeSet::new();
    let mut notifications: Vec<Notification> = Vec::new();
    for task in tasks.iter().rev() {
        let told = task.notifications.iter().rev();
        notifications.extend(told.filter(|one| !removed.contains(&one.user)).copied());
        removed.extend(task.removed.iter().copied());
    }
    notifications.reverse();
    (removed.into_iter().collect(), notifications)
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
        let work = OutboxWork::group(page);
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
        let (tasks, unreadable) = OutboxWork::group(page).complete(found);
        assert!(unreadable.is_empty());
        assert_eq!(tasks[0].notifications, [read_again(user(1))]);
        assert_eq!(tasks[1].notifications, [read_again(user(2))]);
        assert_eq!(tasks[1].corrupt.as_deref(), Some("two rows"));
        assert!(tasks[2].notifications[0].raised_floor().is_some());
    }

    #[test]
    fn an_event_may_say_that_its_users_lost_balances() {
        let json = r#"[{"user_id":9},{"user_id":8},{"user_id":9,"asset_id":1}]"#;
        let work = OutboxWork::group(vec![event(1, json, true)]);
        let (tasks, _) = work.complete(Vec::new());
        assert_eq!(tasks[0].removed, [user(8), user(9)]);
        assert!(tasks[0].notifications.contains(&read_again(user(8))));
    }

    const VALUES: &str = r#"{"user_id":5,"asset_id":1,"seq":7,"avail":9,"frozen":0}"#;

    /// Changes that are told of user 5, where all rows are of one page and take effect together; and whether the floors are forgotten first.
    fn told(page: Vec<OutboxRow>) -> (bool, Vec<Notification>) {
        let work = OutboxWork::group(page);
        let found: Vec<_> = work.keys().map(|_| Ok(has(5, 7))).collect();
        let (tasks, unreadable) = work.complete(found);
        assert!(unreadable.is_empty());
        let (removed, notifications) = merge_tasks(&tasks);
        (removed == [user(5)], notifications)
    }

    #[test]
    fn nothing_is_told_of_a_user_from_before_a_row_went_away() {
        let removal = r#"{"user_id":5}"#;
        let gone = (true, vec![read_again(user(5))]);
        let by_user = vec![event(10, VALUES, false), of(11, "a", true)];
        assert_eq!(told(by_user), gone);
        // The balance may be the one that went away, or a new one: the next read asks the ledger, which has it.
        let by_user = vec![of(10, "a", true), event(11, VALUES, false)];
        assert_eq!(told(by_user), gone);
        let (is_forgotten, by_event) =
            told(vec![event(10, VALUES, false), event(11, removal, true)]);
        assert!(is_forgotten);
        assert!(by_event.iter().all(|one| *one == read_again(user(5))));
        // Balances are read before the floors are forgotten, wherever their row stands.
        for page in [
            vec![of(10, "a", false), event(11, removal, true)],
            vec![event(10, removal, true), of(11, "a", false)],
        ] {
            let (is_forgotten, notifications) = told(page);
            assert!(is_forgotten);
            let mut raised = notifications.iter().filter_map(Notification::raised_floor);
            assert_eq!(raised.next(), None);
        }
    }

    #[test]
    fn a_balance_that_is_told_after_a_removal_stands() {
        let removal = r#"{"user_id":5}"#;
        let other = r#"{"user_id":6}"#;
        let (is_forgotten, notifications) = told(vec![
            event(9, other, false),
            event(10, removal, true),
            event(11, VALUES, false),
        ]);
        assert!(is_forgotten);
        assert_eq!(notifications.first(), Some(&read_again(user(6))));
        let mut raised = notifications.iter().filter_map(Notification::raised_floor);
        assert_eq!(raised.next().map(|(_, seq)| seq.get()), Some(7));
        assert!(notifications.contains(&read_again(user(5))));
    }

    #[test]
    fn tasks_of_one_page_are_in_the_order_in_which_they_take_effect() {
        let page = vec![
            of(1, "a", true),
            event(2, VALUES, false),
            of(3, "b", false),
            event(4, r#"{"user_id":8}"#, true),
        ];
        let found = vec![Ok(has(5, 7)), Ok(has(6, 7))];
        let (tasks, _) = OutboxWork::group(page).complete(found);
        let rows: Vec<&[i64]> = tasks.iter().map(|task| &*task.rows).collect();
        assert_eq!(rows, [[3_i64], [2], [4], [1]]);
    }
}
