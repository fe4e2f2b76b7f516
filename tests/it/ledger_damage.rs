//! An embedded ledger that is damaged, cut off, of another program, or not to be written: start and tools name it, and never panic.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use reqwest::Method;
use serde_json::json;

use crate::{
    cli_support::{Apart, Said},
    settlement_support::ENTRIES,
    support::service::{Service, Setup},
};

const DOCTOR: [&str; 2] = ["doctor", "--before-start"];
const VERIFY: [&str; 1] = ["verify"];
const TRACE: [&str; 4] = ["get", "1001", "--trace", "--no-service"];

/// A ledger with sample data and some more, as a killed service left it, with the number of its balances.
async fn killed() -> (Apart, PathBuf, u64) {
    let apart = Apart::new(Setup::default());
    let path = apart.folder.path().join("ledger.redb");
    let setup = Setup::default().with("embedded.path", path.display());
    let mut service = Service::start_ready(setup).await;
    for seq in 1..=3 {
        let entries: Vec<_> = (1..=300)
            .map(|user| json!({"user_id": user, "asset_id": 1, "seq": seq, "avail": seq, "frozen": 0}))
            .collect();
        let request = service.request(Method::POST, ENTRIES).json(&entries);
        assert_eq!(service.send(request).await.status, 200);
    }
    service.kill9();
    (apart, path, 330)
}

fn used_blocks(path: &Path) -> Vec<u64> {
    let bytes = fs::read(path).unwrap();
    let used = |(_, block): &(u64, &[u8])| block.iter().any(|byte| *byte != 0);
    (0..)
        .zip(bytes.chunks(4096))
        .filter(used)
        .map(|(at, _)| at)
        .collect()
}

fn never_panics(said: &Said) {
    // A panic of the process itself is exit code 101, or a signal; one in the check's process is named as damage.
    assert!([0, 1, 2].contains(&said.code), "{said}");
    assert!(
        !said.err.contains("RUST_BACKTRACE") && !said.err.contains("stack backtrace"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_damaged_at_any_of_20_places_is_named_or_was_not_in_use() {
    let (apart, path, balances) = killed().await;
    let kept = apart.folder.path().join("kept");
    fs::copy(&path, &kept).unwrap();
    let used = used_blocks(&path);
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = seed;
    let mut damaged = 0;
    for turn in 0..20 {
        fs::copy(&kept, &path).unwrap();
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(turn);
        let block = used[usize::try_from(random >> 33).unwrap() % used.len()];
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let bytes: Vec<u8> = (0_u64..256)
            .map(|at| (random >> (at % 56)).to_le_bytes()[0])
            .collect();
        file.write_all_at(&bytes, block * 4096 + random % 3800)
            .unwrap();
        drop(file);
        let before = fs::read(&path).unwrap();
        let check = apart.run(&["ledger", "check"]);
        never_panics(&check);
        if check.code == 0 {
            assert!(
                check.out.contains(&format!("{balances} balances")),
                "block {block}: {check}"
            );
        } else {
            damaged += 1;
            assert!(
                check.err.contains("it is damaged") || check.err.contains("it is no ledger"),
                "{check}"
            );
            assert!(check.err.contains("ledger restore"), "{check}");
            if damaged <= 2 {
                everything_names_it(&apart);
            }
        }
        assert!(
            fs::read(&path).unwrap() == before,
            "a check changed the file"
        );
    }
    assert!(damaged > 0, "20 damaged pages, and none was in use");
}

fn everything_names_it(apart: &Apart) {
    let doctor = apart.run(&DOCTOR);
    let line = doctor.has(1, &[]).line(&["FAIL", "source.file"]);
    assert!(
        line.contains("Fix: ") && line.contains("ledger restore"),
        "{line}"
    );
    let verify = apart.run(&VERIFY);
    assert!(
        verify.code == 1 && verify.err.contains("ledger restore"),
        "{verify}"
    );
    let trace = apart.run(&TRACE);
    assert!(
        trace.code == 1 && trace.out.contains("ledger restore"),
        "{trace}"
    );
    let start = apart.run(&[]);
    assert!(
        start.code == 1 && start.err.contains("ledger restore"),
        "{start}"
    );
    for said in [doctor, verify, trace, start] {
        never_panics(&said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_cut_off_is_named_and_no_repair_is_promised() {
    let (apart, path, balances) = killed().await;
    let len = fs::metadata(&path).unwrap().len();
    for cut in [len - 1, len / 2, 4096 * 5, 4096, 100, 3] {
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(cut)
            .unwrap();
        let check = apart.run(&["ledger", "check"]);
        never_panics(&check);
        // Where the part that was cut off held nothing, all is there.
        let whole = check.code == 0 && check.out.contains(&format!("{balances} balances"));
        assert!(
            (whole && cut == len / 2)
                || check.code == 1
                    && (check.err.contains("damaged") || check.err.contains("it is no ledger")),
            "{cut} bytes: {check}"
        );
    }
    everything_names_it(&apart);
    fs::write(&path, "").unwrap();
    let start = apart.run(&[]);
    assert!(
        start.code == 1 && start.err.contains("it is empty"),
        "{start}"
    );
    assert_eq!(
        fs::metadata(&path).unwrap().len(),
        0,
        "no new ledger is made of it"
    );
}

#[test]
fn a_place_where_no_ledger_can_be_is_a_fault_before_the_start() {
    let apart = Apart::new(Setup::default());
    let folder = apart.folder.path();
    fs::write(folder.join("file"), "x").unwrap();
    fs::create_dir(folder.join("folder")).unwrap();
    let long = "n".repeat(300);
    for (place, sentence) in [
        ("file/ledger.redb", "a part of this path is a file"),
        ("folder", "it is a folder and no file"),
        (long.as_str(), "File name too long"),
    ] {
        let setup = Setup {
            environment: apart.setup.environment.clone(),
            ..Setup::default()
        }
        .with("embedded.path", folder.join(place).display());
        let doctor = Said::of(setup.run(&DOCTOR));
        let line = doctor.has(1, &[]).line(&["FAIL", "source.file"]);
        assert!(
            line.contains(sentence) && line.contains("Fix: "),
            "{place}: {line}"
        );
        let start = Said::of(setup.run(&[]));
        assert!(
            start.code == 1 && start.err.contains(sentence),
            "{place}: {start}"
        );
        assert!(!start.err.contains("panicked"), "{start}");
    }
}

#[test]
fn a_read_only_folder_is_a_fault_before_the_start() {
    let apart = Apart::new(Setup::default());
    let folder = apart.folder.path().join("locked");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    // For root a folder without write permission is none: a place of the kernel's is read-only for everybody.
    let place = if fs::write(folder.join("probe"), "").is_ok() {
        PathBuf::from("/proc/ledger.redb")
    } else {
        folder.join("ledger.redb")
    };
    let setup = Setup {
        environment: apart.setup.environment.clone(),
        ..Setup::default()
    }
    .with("embedded.path", place.display());
    let start = Said::of(setup.run(&[]));
    assert!(
        start.code == 1 && start.err.contains(&*place.to_string_lossy()),
        "{start}"
    );
    if place.starts_with(&folder) {
        let doctor = Said::of(setup.run(&DOCTOR));
        let line = doctor.has(1, &[]).line(&["FAIL", "source.file"]);
        assert!(
            line.contains("ermission denied") && line.contains("Fix: "),
            "{line}"
        );
    }
}
