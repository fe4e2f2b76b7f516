use std::{collections::BTreeMap, path::PathBuf};

use proptest::{collection::vec, prelude::*};
use tempfile::TempDir;

use super::*;
use crate::{
    domain::{
        Amount, AssetId, Entry, Notification, Reference, Seq, SettleOutcome, Transaction,
        UnixMillis,
    },
    ledger::{Source, SourceReadiness, WriteError, WrittenCounts},
};

mod above;
mod disk;
mod outbox;
mod repeats;
mod totals;
mod transactions;

const TIMEOUT: Duration = Duration::from_mins(1);

fn test_settings(path: PathBuf, sample_data: bool) -> config::EmbeddedSettings {
    config::EmbeddedSettings {
        path,
        sample_data,
        check_at_start: true,
    }
}

/// The file of a ledger, past it.
fn open_file(folder: &TempDir) -> redb::Database {
    redb::Database::open(folder.path().join("ledger.redb")).unwrap()
}

fn open_ledger(folder: &TempDir) -> Embedded {
    let settings = test_settings(folder.path().join("ledger.redb"), false);
    Embedded::open_ledger(&settings, TIMEOUT, 7).unwrap()
}

fn new_ledger() -> (TempDir, Embedded) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open_ledger(&folder);
    (folder, ledger)
}

async fn write_all(ledger: &Embedded, entries: &[Entry]) -> WrittenCounts {
    ledger.write_entries(entries).await.unwrap()
}

async fn held_balances(ledger: &Embedded, user: i64) -> Vec<PlainBalance> {
    plain_balances(&ledger.load_snapshot(test_user(user)).await.unwrap())
}

async fn load_newest(ledger: &Embedded, user: i64, assets: &[i32]) -> Snapshot {
    let assets = test_assets(assets);
    ledger.load_latest(test_user(user), &assets).await.unwrap()
}

fn test_entry(user: i64, asset: i32, seq: i64, avail: i64) -> Entry {
    Entry {
        user: UserId::new(user).unwrap(),
        asset: AssetId::new(asset).unwrap(),
        seq: Seq::new(seq).unwrap(),
        avail: Amount::from_raw(avail),
        frozen: Amount::from_raw(-avail),
        delta_avail: None,
        delta_frozen: None,
        event_type: Some("deposit".to_owned()),
        ref_id: None,
        created_at: Some(UnixMillis(seq)),
    }
}

/// Asset, seq, avail, frozen, `updated_at`.
type PlainBalance = (i32, i64, i64, i64, Option<i64>);

fn plain_balances(snapshot: &Snapshot) -> Vec<PlainBalance> {
    let balances = snapshot.balances().iter();
    balances
        .map(|balance| {
            (
                balance.asset.get(),
                balance.seq.get(),
                balance.avail.raw(),
                balance.frozen.raw(),
                balance.updated_at.map(|at| at.0),
            )
        })
        .collect()
}

fn test_user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn test_assets(ids: &[i32]) -> Vec<AssetId> {
    ids.iter().map(|id| AssetId::new(*id).unwrap()).collect()
}

#[tokio::test]
async fn the_sample_users_are_there_and_1001_ends_with_9100_btc() {
    let folder = tempfile::tempdir().unwrap();
    let settings = test_settings(folder.path().join("deep/er/ledger.redb"), true);
    let ledger = Embedded::open_ledger(&settings, TIMEOUT, 1).unwrap();
    for id in 1001..=1010 {
        let loaded = ledger.load_snapshot(test_user(id)).await.unwrap();
        assert_eq!(
            loaded.asset_ids().collect::<Vec<_>>(),
            test_assets(&[1, 2, 3])
        );
    }
    let rich = ledger.load_snapshot(test_user(1001)).await.unwrap();
    let btc = (1, 17, 910_000_000_000, 0, Some(1_765_352_441_955));
    assert_eq!(plain_balances(&rich)[0], btc);
    assert!(
        ledger
            .load_snapshot(test_user(999_999))
            .await
            .unwrap()
            .balances()
            .is_empty()
    );
    assert_eq!(ledger.readiness(), SourceReadiness::Ready);
}

#[tokio::test]
async fn sample_data_go_into_an_empty_ledger_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let ledger = Embedded::open_ledger(&test_settings(path.clone(), false), TIMEOUT, 1).unwrap();
    write_all(&ledger, &[test_entry(5, 1, 1, 10)]).await;
    drop(ledger);
    let ledger = Embedded::open_ledger(&test_settings(path, true), TIMEOUT, 2).unwrap();
    assert!(
        ledger
            .load_snapshot(test_user(1001))
            .await
            .unwrap()
            .balances()
            .is_empty()
    );
    assert_eq!(held_balances(&ledger, 5).await.len(), 1);
}

#[tokio::test]
async fn the_identity_is_the_files_own_and_survives_a_restart() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |folder: &TempDir, id| {
        let settings = test_settings(folder.path().join("ledger.redb"), true);
        Embedded::open_ledger(&settings, TIMEOUT, id)
            .unwrap()
            .identity()
    };
    let first = at(&one, 1);
    assert_eq!(at(&one, 2), first);
    assert_ne!(at(&other, 3), first);
}

#[tokio::test]
async fn a_second_instance_is_told_that_the_ledger_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open_ledger(&folder);
    let again = test_settings(folder.path().join("ledger.redb"), false);
    let error = Embedded::open_ledger(&again, TIMEOUT, 1).unwrap_err();
    assert_eq!(error.kind, OpenErrorKind::InUse, "{error}");
    assert!(error.to_string().contains("belongs to one instance"));
}

#[test]
fn a_file_that_is_no_ledger_and_a_path_that_cannot_be_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other");
    std::fs::write(&file, vec![b'x'; 8192]).unwrap();
    let open =
        |path: PathBuf| Embedded::open_ledger(&test_settings(path, true), TIMEOUT, 1).unwrap_err();
    let foreign = open(file.clone());
    assert_eq!(foreign.kind, OpenErrorKind::Foreign, "{foreign}");
    let below_a_file = open(file.join("ledger.redb"));
    assert_eq!(
        below_a_file.kind,
        OpenErrorKind::Inaccessible,
        "{below_a_file}"
    );
    let a_folder = open(folder.path().to_owned());
    assert_eq!(a_folder.kind, OpenErrorKind::Inaccessible, "{a_folder}");
}

#[tokio::test]
async fn a_truncated_ledger_is_an_error_and_no_empty_ledger() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_ledger(&folder));
    let path = folder.path().join("ledger.redb");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(5000).unwrap();
    let error = Embedded::open_ledger(&test_settings(path, false), TIMEOUT, 1).unwrap_err();
    assert_eq!(error.kind, OpenErrorKind::Damaged, "{error}");
}

#[tokio::test]
async fn a_ledger_of_another_layout_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_ledger(&folder));
    let path = folder.path().join("ledger.redb");
    {
        let database = redb::Database::open(&path).unwrap();
        let meta: redb::TableDefinition<'_, &str, &str> = redb::TableDefinition::new("meta");
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(meta)
            .unwrap()
            .insert("layout", "2")
            .unwrap();
        transaction.commit().unwrap();
    }
    let error = Embedded::open_ledger(&test_settings(path, true), TIMEOUT, 1).unwrap_err();
    assert_eq!(error.kind, OpenErrorKind::Layout, "{error}");
}

#[tokio::test]
async fn a_conflict_names_its_entry_and_nothing_of_the_request_is_written() {
    let (_folder, ledger) = new_ledger();
    write_all(&ledger, &[test_entry(1, 1, 5, 50)]).await;
    let request = [
        test_entry(1, 1, 6, 60),
        test_entry(1, 1, 5, 50),
        test_entry(1, 1, 5, 51),
    ];
    let conflict = ledger.write_entries(&request).await.unwrap_err();
    assert!(matches!(conflict, WriteError::Conflict { index: 2 }));
    let twice = [test_entry(1, 2, 1, 1), test_entry(1, 2, 1, 2)];
    let conflict = ledger.write_entries(&twice).await.unwrap_err();
    assert!(matches!(conflict, WriteError::Conflict { index: 1 }));
    let loaded = ledger.load_snapshot(test_user(1)).await.unwrap();
    assert_eq!(plain_balances(&loaded), [(1, 5, 50, -50, Some(5))]);
    assert_eq!(
        ledger.readiness(),
        SourceReadiness::Ready,
        "a conflict is an answer"
    );
}

#[tokio::test]
async fn a_repeat_is_counted_and_an_older_seq_does_not_move_the_balance_back() {
    let (_folder, ledger) = new_ledger();
    let newer = [
        test_entry(1, 1, 9, 90),
        test_entry(1, 1, 9, 90),
        test_entry(1, 1, 3, 30),
    ];
    let done = write_all(&ledger, &newer).await;
    assert_eq!((done.written, done.repeated), (2, 1));
    let done = ledger
        .write_entries(&[test_entry(1, 1, 7, 70), test_entry(1, 1, 3, 30)])
        .await;
    assert_eq!(
        done.unwrap(),
        WrittenCounts {
            written: 1,
            repeated: 1
        }
    );
    let newest = [(1, 9, 90, -90, Some(9))];
    assert_eq!(held_balances(&ledger, 1).await, newest);
    let latest = load_newest(&ledger, 1, &[1, 2]).await;
    assert_eq!(plain_balances(&latest), newest);
}

#[tokio::test]
async fn requests_at_the_same_time_are_each_whole_and_one_of_two_amounts_wins() {
    let (_folder, ledger) = new_ledger();
    let requests: Vec<_> = (0..50)
        .map(|n| {
            vec![
                test_entry(1, n + 2, 1, i64::from(n)),
                test_entry(1, 1, 1, i64::from(n)),
            ]
        })
        .collect();
    let answers =
        futures::future::join_all(requests.iter().map(|it| ledger.write_entries(it))).await;
    let won: Vec<_> = (0..50).filter(|n| answers[*n].is_ok()).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    assert_eq!(held_balances(&ledger, 1).await.len(), 2);
}

#[tokio::test]
async fn a_writer_who_leaves_holds_nobody_up() {
    let (_folder, ledger) = new_ledger();
    let gone = [test_entry(1, 1, 1, 1)];
    for _ in 0..10 {
        // Mostly it waits; its transaction may be quicker than this thread.
        let mut write = ledger.write_entries(&gone);
        drop(futures::poll!(&mut write));
        drop(write);
    }
    let done = write_all(&ledger, &[test_entry(2, 1, 1, 1)]).await;
    assert_eq!(done.written, 1);
    assert!(ledger.group.is_idle());
}

#[tokio::test]
async fn a_read_looks_at_one_row_for_each_asset_however_long_the_history() {
    let (_folder, ledger) = new_ledger();
    let ids: Vec<i32> = (1..=10).collect();
    for seqs in [1..=10_i64, 11..=2_000] {
        let rows: Vec<_> = seqs
            .flat_map(|seq| ids.iter().map(move |id| test_entry(1, *id, seq, seq)))
            .collect();
        write_all(&ledger, &rows).await;
        let before = ledger
            .keeper
            .session()
            .tables
            .rows_read
            .load(Ordering::Relaxed);
        ledger.load_snapshot(test_user(1)).await.unwrap();
        load_newest(&ledger, 1, &ids).await;
        let read = ledger
            .keeper
            .session()
            .tables
            .rows_read
            .load(Ordering::Relaxed)
            - before;
        assert_eq!(read, 20);
    }
}

mod property;
