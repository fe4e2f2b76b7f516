//! A disk that is full, damaged, or takes the file away.

use std::{fs::OpenOptions, os::unix::fs::FileExt as _, time::Instant};

use super::*;

const NO_SPACE: i32 = 28;
const BLOCK: u64 = 4096;

fn ledger_path(folder: &TempDir) -> PathBuf {
    folder.path().join("ledger.redb")
}

async fn read_avail(ledger: &Embedded, id: i64) -> i64 {
    held_balances(ledger, id).await[0].2
}

async fn refusal_of(ledger: &Embedded, entries: &[Entry]) -> String {
    ledger.write_entries(entries).await.unwrap_err().to_string()
}

/// Looks after the ledger, as the service does, until it takes writes.
async fn heal_ledger(ledger: &Embedded) {
    let end = Instant::now() + Duration::from_secs(30);
    while ledger.write_health().failing.is_some() {
        assert!(Instant::now() < end, "{:?}", ledger.write_health());
        ledger.keeper.look_again();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn writes_go_on_when_a_full_disk_has_space_again_and_reads_never_stop() {
    let (folder, ledger) = new_ledger();
    write_all(&ledger, &[test_entry(1, 1, 1, 10)]).await;
    *ledger.keeper.file().write_error.lock() = Some(NO_SPACE);
    for seq in 2..5 {
        let said = refusal_of(&ledger, &[test_entry(1, 1, seq, 20)]).await;
        assert!(
            said.contains("no space is left on its disk; free space there"),
            "{said}"
        );
        assert_eq!(read_avail(&ledger, 1).await, 10);
        assert_eq!(ledger.readiness(), SourceReadiness::Ready, "reads go on");
        ledger.keeper.look_again();
    }
    let health = ledger.write_health();
    assert_eq!(
        (health.failing, health.failures),
        (Some(DiskFailure::Full), 3)
    );
    *ledger.keeper.file().write_error.lock() = None;
    heal_ledger(&ledger).await;
    assert_eq!(ledger.write_health().reopened, 1);
    write_all(&ledger, &[test_entry(1, 1, 2, 30)]).await;
    assert_eq!(read_avail(&ledger, 1).await, 30);
    drop(ledger);
    assert_eq!(read_avail(&open_ledger(&folder), 1).await, 30);
}

#[tokio::test]
async fn a_ledger_that_is_cut_off_while_it_is_open_takes_no_writes() {
    let (folder, ledger) = new_ledger();
    write_all(&ledger, &[test_entry(1, 1, 1, 10)]).await;
    ledger.keeper.look_again();
    assert_eq!(ledger.write_health().failing, None);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(ledger_path(&folder))
        .unwrap();
    file.set_len(8_192).unwrap();
    ledger.keeper.look_again();
    let health = ledger.write_health();
    assert_eq!(
        health.failing,
        Some(DiskFailure::Truncated),
        "without a write"
    );
    let said = refusal_of(&ledger, &[test_entry(1, 1, 2, 20)]).await;
    assert!(said.contains("its end is missing"), "{said}");
}

#[tokio::test]
async fn a_page_that_is_damaged_while_the_ledger_is_open_is_an_error_and_never_a_balance() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = seed;
    let mut found = 0;
    for turn in 0..20 {
        let (folder, ledger) = new_ledger();
        let row = |id, seq| test_entry(id, 1, seq, id * 100 + seq);
        let rows: Vec<_> = (1..=40)
            .flat_map(|id| (1..=20).map(move |seq| row(id, seq)))
            .collect();
        write_all(&ledger, &rows).await;
        drop(ledger);
        let ledger = open_ledger(&folder);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(ledger_path(&folder))
            .unwrap();
        let blocks = file.metadata().unwrap().len() / BLOCK;
        let mut used = Vec::new();
        for block in 1..blocks {
            let mut bytes = vec![0; 4096];
            file.read_exact_at(&mut bytes, block * BLOCK).unwrap();
            if bytes.iter().any(|byte| *byte != 0) {
                used.push(block);
            }
        }
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(turn);
        let block = used[usize::try_from(random >> 33).unwrap() % used.len()];
        file.write_all_at(&[0xff; 512], block * BLOCK + (random % 3000))
            .unwrap();
        for id in 1..=40 {
            let loaded = ledger.load_snapshot(test_user(id)).await;
            let latest = ledger.load_latest(test_user(id), &test_assets(&[1])).await;
            for answer in [loaded, latest] {
                match answer {
                    Ok(snapshot) => assert_eq!(plain_balances(&snapshot)[0].2, id * 100 + 20),
                    Err(error) => {
                        found += 1;
                        let said = error.to_string();
                        assert!(
                            said.contains("the file is damaged") && said.contains("restore"),
                            "{said}"
                        );
                    }
                }
            }
        }
    }
    assert!(found > 0, "none of 20 damaged pages was met");
}

#[tokio::test]
async fn a_ledger_that_was_taken_away_is_not_written_and_one_that_is_back_is() {
    let (folder, ledger) = new_ledger();
    write_all(&ledger, &[test_entry(1, 1, 1, 10)]).await;
    let away = folder.path().join("away");
    std::fs::rename(ledger_path(&folder), &away).unwrap();
    let said = refusal_of(&ledger, &[test_entry(1, 1, 2, 20)]).await;
    assert!(said.contains("removed or replaced"), "{said}");
    assert_eq!(ledger.write_health().failing, Some(DiskFailure::Replaced));
    std::fs::rename(&away, ledger_path(&folder)).unwrap();
    heal_ledger(&ledger).await;
    write_all(&ledger, &[test_entry(1, 1, 2, 20)]).await;
}

#[tokio::test]
async fn a_file_without_a_ledger_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let fails = |name: &str| {
        let settings = test_settings(folder.path().join(name), true);
        Embedded::open_ledger(&settings, TIMEOUT, 1).unwrap_err()
    };
    std::fs::write(folder.path().join("empty"), "").unwrap();
    let error = fails("empty");
    assert_eq!(error.kind, OpenErrorKind::Foreign);
    assert!(error.to_string().contains("it is empty"), "{error}");
    // Another program's database gets no tables of ours.
    let other = folder.path().join("other");
    let mine: redb::TableDefinition<'_, u8, u8> = redb::TableDefinition::new("mine");
    let transaction = redb::Database::create(&other)
        .unwrap()
        .begin_write()
        .unwrap();
    transaction.open_table(mine).unwrap();
    transaction.commit().unwrap();
    let error = fails("other");
    assert_eq!(error.kind, OpenErrorKind::Foreign);
    assert!(error.to_string().contains("of another program"), "{error}");
    assert_eq!(std::fs::read(folder.path().join("empty")).unwrap(), b"");
}

#[tokio::test]
async fn a_new_ledger_says_so_and_a_backup_restores_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let sample = test_settings(ledger_path(&folder), true);
    let ledger = Embedded::open_ledger(&sample, TIMEOUT, 1).unwrap();
    let origin = |new, sample| LedgerOrigin { new, sample };
    assert_eq!(ledger.origin(), origin(true, true));
    let id = ledger.identity();
    drop(ledger);
    let ledger = Embedded::open_ledger(&sample, TIMEOUT, 2).unwrap();
    assert_eq!(ledger.origin(), origin(false, true));
    drop(ledger);
    let (kept, to) = (
        folder.path().join("backup"),
        folder.path().join("new/ledger.redb"),
    );
    let look = inspect::EmbeddedInspector::open_ledger(&ledger_path(&folder)).unwrap();
    let rows = look
        .write_backup(&mut std::fs::File::create(&kept).unwrap())
        .unwrap();
    assert_eq!(rows, 30 * 6 + 30 + 3);
    let error = backup::restore_backup(&kept, &ledger_path(&folder), None).unwrap_err();
    assert!(error.said.contains("overwrites none"), "{error}");
    assert_eq!(backup::restore_backup(&kept, &to, None).unwrap(), rows);
    let restored = Embedded::open_ledger(&test_settings(to, true), TIMEOUT, 3).unwrap();
    assert_eq!(restored.identity(), id);
    let rich = plain_balances(&restored.load_snapshot(test_user(1001)).await.unwrap());
    assert_eq!(
        rich[0],
        (1, 17, 910_000_000_000, 0, Some(1_765_352_441_955))
    );
    // A byte that is another, and an end that is missing.
    let bytes = std::fs::read(&kept).unwrap();
    let refuses = |bytes: &[u8]| {
        std::fs::write(&kept, bytes).unwrap();
        let error = backup::restore_backup(&kept, &folder.path().join("none"), None).unwrap_err();
        assert!(error.said.contains("the backup cannot be used"), "{error}");
        assert!(!folder.path().join("none").exists());
    };
    for place in [0, 40, bytes.len() / 2, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        refuses(&changed);
        refuses(&bytes[..place]);
    }
}

#[tokio::test]
async fn the_tools_ask_an_open_ledger_through_its_socket() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Arc::new(
        Embedded::open_ledger(&test_settings(ledger_path(&folder), true), TIMEOUT, 1).unwrap(),
    );
    let stop = CancellationToken::new();
    let tasks = tokio_util::task::TaskTracker::new();
    let serve = tasks.spawn({
        let (ledger, stop) = (Arc::clone(&ledger), stop.clone());
        async move { ledger.serve_tools(stop).await }
    });
    let place = ledger_path(&folder);
    let asked = tokio::task::spawn_blocking(move || {
        let end = Instant::now() + Duration::from_secs(30);
        let look = loop {
            match inspect::EmbeddedInspector::open_ledger(&place) {
                Ok(look) => break look,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            std::thread::yield_now();
        };
        assert!(look.is_running());
        assert_eq!(look.count_pairs().unwrap(), 30);
        assert!(look.is_sample().unwrap());
        let (table, ledger) = (
            look.read_table(test_user(1001)),
            look.read_ledger(test_user(1001)),
        );
        assert_eq!(
            plain_balances(&table.unwrap()),
            plain_balances(&ledger.unwrap())
        );
        assert_eq!(
            look.read_history(test_user(1001), test_assets(&[1])[0], 2)
                .unwrap()
                .len(),
            2
        );
        let (pairs, next) = look.read_pairs(None, 7).unwrap();
        assert_eq!(pairs.len(), 7);
        assert_eq!(look.read_pairs(next, 100).unwrap().0.len(), 23);
        let mut backup = Vec::new();
        look.write_backup(&mut backup).unwrap();
        backup
    });
    let backup = asked.await.unwrap();
    assert_eq!(
        backup::copy_backup(&mut backup.as_slice(), &mut std::io::sink()).unwrap(),
        213
    );
    stop.cancel();
    serve.await.unwrap();
    assert!(!file::path_beside(&ledger_path(&folder), ".sock").exists());
}
