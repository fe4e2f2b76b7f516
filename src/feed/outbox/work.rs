//! Rows of the outbox as tasks: the rows of one user are one.

use std::collections::BTreeMap;

use crate::{
    domain::{FieldMap, Notification, NotifiedChange, UserId},
    ledger::{
        self,
        postgres::outbox::{OutboxContent, OutboxFault, OutboxRow, OutboxUser},
    },
};

/// The id of a row that cannot be read, and the reason.
pub(super) type UnreadableRow = (i64, String);

/// Rows that take effect together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutboxTask {
    pub(super) rows: Vec<i64>,
    /// The user whose floors are to be forgotten first.
    pub(super) removed: Option<UserId>,
    pub(super) notifications: Vec<Notification>,
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
                OutboxContent::Changed(key) => work.users.entry(key).or_default().rows.push(row.id),
                OutboxContent::Removed(key) => {
                    let user = work.users.entry(key).or_default();
                    user.rows.push(row.id);
                    user.removed = true;
                }
                OutboxContent::Event(json) => match fields.parse_all(&json) {
                    Ok(notifications) => work.events.push(OutboxTask {
                        rows: vec![row.id],
                        removed: None,
                        notifications,
                    }),
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
    /// Errors: the database did not answer for a key.
    pub(super) fn complete(
        self,
        found: Vec<Result<OutboxUser, OutboxFault>>,
    ) -> Result<(Vec<OutboxTask>, Vec<UnreadableRow>), ledger::LedgerError> {
        let Self {
            users,
            events: mut tasks,
            mut unreadable,
        } = self;
        for (of_user, found) in users.into_values().zip(found) {
            match found {
                Ok(OutboxUser { user, snapshot }) => tasks.push(OutboxTask {
                    rows: of_user.rows,
                    removed: of_user.removed.then_some(user),
                    notifications: snapshot
                        .balances()
                        .iter()
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
                        .collect(),
                }),
                Err(OutboxFault::Unreadable(reason)) => {
                    let all = of_user.rows.into_iter();
                    unreadable.extend(all.map(|id| (id, reason.clone())));
                }
                Err(OutboxFault::Source(error)) => return Err(error),
            }
        }
        Ok((tasks, unreadable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Balance, Snapshot};

    fn row(id: i64, content: OutboxContent) -> OutboxRow {
        OutboxRow { id, content }
    }

    fn has(user: i64, seq: i64) -> OutboxUser {
        OutboxUser {
            user: UserId::new(user).unwrap(),
            snapshot: Snapshot::new(vec![Balance::sample_of(1, seq, 5)]),
        }
    }

    #[test]
    fn rows_of_one_user_are_one_task_and_unreadable_ones_are_named() {
        let page = vec![
            row(1, OutboxContent::Changed("a".to_owned())),
            row(2, OutboxContent::Event(r#"{"user_id":9}"#.to_owned())),
            row(3, OutboxContent::Removed("a".to_owned())),
            row(4, OutboxContent::Event("{".to_owned())),
            row(5, OutboxContent::Changed("b".to_owned())),
        ];
        let work = OutboxWork::group(page, &FieldMap::default());
        assert_eq!(work.keys().collect::<Vec<_>>(), ["a", "b"]);
        let found = vec![
            Ok(has(7, 3)),
            Err(OutboxFault::Unreadable("no user".to_owned())),
        ];
        let (tasks, unreadable) = work.complete(found).unwrap();
        assert_eq!(tasks.len(), 2);
        assert_eq!(tasks[0].rows, [2]);
        assert_eq!(
            (&*tasks[1].rows, tasks[1].removed),
            (&[1, 3][..], UserId::new(7).ok())
        );
        assert_eq!(tasks[1].notifications.len(), 1);
        assert_eq!(
            unreadable.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            [4, 5]
        );
    }

    #[test]
    fn a_database_that_does_not_answer_fails_the_page_and_puts_nothing_aside() {
        let page = vec![row(1, OutboxContent::Changed("a".to_owned()))];
        let found = vec![Err(OutboxFault::Source(ledger::LedgerError::Timeout))];
        assert!(
            OutboxWork::group(page, &FieldMap::default())
                .complete(found)
                .is_err()
        );
    }
}
