//! Notifications of one request, grouped by user.

use std::borrow::Cow;

use crate::domain::{BalanceChange, Notification, UnixMillis, UserId};

/// Each user with their notifications, where those stand together.
pub(super) fn users_of(
    grouped: &[Notification],
) -> impl Iterator<Item = (UserId, &[Notification])> {
    let users = grouped.chunk_by(|one, other| one.user == other.user);
    users.filter_map(|one_users| Some((one_users.first()?.user, one_users)))
}

pub(super) fn changes_of(
    notifications: &[Notification],
    heard_at: UnixMillis,
) -> Vec<BalanceChange> {
    let changes = notifications.iter();
    changes
        .map(|notification| BalanceChange::of_notification(notification, heard_at))
        .collect()
}

/// Groups notifications by user; those of one user keep their order.
pub(super) fn by_user(notifications: &[Notification]) -> Cow<'_, [Notification]> {
    if notifications.is_sorted_by_key(|notification| notification.user) {
        return Cow::Borrowed(notifications);
    }
    let mut sorted = notifications.to_vec();
    sorted.sort_by_key(|notification| notification.user);
    Cow::Owned(sorted)
}
