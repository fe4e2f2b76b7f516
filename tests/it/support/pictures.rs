//! Pictures of pages, for the documentation: written only where `BALANCE_CACHE_SCREENSHOTS` names a folder of this
//! repository.

use std::{fs, path::PathBuf};

use super::browser::Browser;

#[expect(
    clippy::disallowed_methods,
    reason = "pictures are asked for by the environment"
)]
pub fn folder() -> Option<PathBuf> {
    let folder = std::env::var("BALANCE_CACHE_SCREENSHOTS").ok()?;
    Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder))
}

pub fn picture(browser: &Browser, name: &str) {
    if let Some(folder) = folder() {
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join(format!("{name}.png"));
        fs::write(file, decoded(&browser.picture())).unwrap();
    }
}

/// Base64: how pictures come.
fn decoded(text: &str) -> Vec<u8> {
    let six = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("{byte}"),
    };
    let text = text.trim_end_matches('=').as_bytes();
    let three = |four: &[u8]| {
        let bits =
            four.iter().fold(0, |bits, byte| bits << 6 | six(*byte)) << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    text.chunks(4).flat_map(three).collect()
}
