use super::*;

fn block_of(byte: u8) -> Vec<u8> {
    vec![byte; BLOCK]
}

#[test]
fn a_block_that_changes_behind_our_back_is_damage_and_one_that_we_write_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let file = LedgerFile::create_file(&path).unwrap();
    file.set_len(4 * BLOCK_BYTES).unwrap();
    file.write_at(BLOCK_BYTES, &block_of(1)).unwrap();
    file.learn_hashes().unwrap();
    file.write_at(2 * BLOCK_BYTES, &block_of(2)).unwrap();
    let mut out = vec![0; 3 * BLOCK];
    file.read_at(BLOCK_BYTES, &mut out).unwrap();
    let other = OpenOptions::new().write(true).open(&path).unwrap();
    other.write_all_at(&[9], 2 * BLOCK_BYTES + 77).unwrap();
    file.read_at(BLOCK_BYTES, &mut block_of(0)).unwrap();
    file.read_at(2 * BLOCK_BYTES, &mut block_of(0)).unwrap_err();
    let offset = 2 * BLOCK_BYTES;
    assert_eq!(file.take_failure(), Some(DiskFailure::Damaged { offset }));
    file.write_at(offset, &block_of(3)).unwrap();
    file.read_at(offset, &mut block_of(0)).unwrap();
    assert!(!file.is_cut_off());
    other.set_len(BLOCK_BYTES).unwrap();
    assert!(file.is_cut_off());
    file.read_at(offset, &mut block_of(0)).unwrap_err();
    assert_eq!(file.take_failure(), Some(DiskFailure::Truncated));
}

#[test]
fn a_file_that_is_removed_or_replaced_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let file = LedgerFile::create_file(&path).unwrap();
    assert!(file.is_in_place());
    std::fs::rename(&path, folder.path().join("away")).unwrap();
    assert!(!file.is_in_place());
    std::fs::write(&path, "another").unwrap();
    assert!(!file.is_in_place());
    std::fs::rename(folder.path().join("away"), &path).unwrap();
    assert!(file.is_in_place());
}
