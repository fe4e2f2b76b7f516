use super::*;

/// User, asset, seq.
fn plain_notifications(notifications: &[Notification]) -> Vec<(i64, i32, i64)> {
    let each = notifications.iter().filter_map(|notification| {
        let (asset, seq) = notification.raised_floor()?;
        Some((notification.user.get(), asset.get(), seq.get()))
    });
    each.collect()
}

fn list_waiting(ledger: &Embedded) -> Vec<(i64, i32, i64)> {
    plain_notifications(&ledger.unannounced_after(None).unwrap())
}

#[tokio::test]
async fn an_entry_waits_until_its_seq_was_announced_and_survives_the_process() {
    let (folder, ledger) = new_ledger();
    write_all(&ledger, &[test_entry(1, 1, 1, 5)]).await;
    assert_eq!(list_waiting(&ledger), [], "nobody is to be told");
    ledger.keep_outbox();
    write_all(
        &ledger,
        &[
            test_entry(2, 1, 4, 5),
            test_entry(1, 2, 3, 5),
            test_entry(2, 1, 3, 5),
        ],
    )
    .await;
    write_all(&ledger, &[test_entry(2, 1, 4, 5)]).await;
    assert_eq!(list_waiting(&ledger), [(1, 2, 3), (2, 1, 4)]);
    drop(ledger);
    let ledger = open_ledger(&folder);
    ledger.keep_outbox();
    let all = ledger.unannounced_after(None).unwrap();
    assert_eq!(plain_notifications(&all), [(1, 2, 3), (2, 1, 4)]);
    write_all(&ledger, &[test_entry(2, 1, 6, 7)]).await;
    // Announced by its older seq: the newer one still waits.
    ledger.note_announced(&all);
    ledger.forget_announced().await.unwrap();
    assert_eq!(list_waiting(&ledger), [(2, 1, 6)]);
    ledger.note_announced(&ledger.unannounced_after(None).unwrap());
    // The next write removes it, and adds its own.
    write_all(&ledger, &[test_entry(3, 1, 1, 1)]).await;
    assert_eq!(list_waiting(&ledger), [(3, 1, 1)]);
}

#[tokio::test]
async fn all_balances_of_a_user_are_in_one_step() {
    let (_folder, ledger) = new_ledger();
    ledger.keep_outbox();
    let per_user = i32::try_from(OUTBOX_STEP).unwrap() - 1;
    let entries: Vec<Entry> = (1..=3)
        .flat_map(|user| (1..=per_user).map(move |asset| test_entry(user, asset, 1, 1)))
        .collect();
    write_all(&ledger, &entries).await;
    let (mut after, mut users) = (None, Vec::new());
    loop {
        let step = ledger.unannounced_after(after).unwrap();
        let Some(last) = step.last() else { break };
        after = Some(last.user);
        users.push(step.iter().map(|one| one.user.get()).collect::<Vec<_>>());
    }
    let count = usize::try_from(per_user).unwrap();
    let expected = [[vec![1; count], vec![2; count]].concat(), vec![3; count]];
    assert_eq!(users, expected);
}
