//! Lists of users from a file.
//!
//! **Limits.** [`USERS_MAX`] users.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use balance_cache::domain::UserId;

use super::output::Unable;

/// Users in one list.
pub(crate) const USERS_MAX: usize = 10_000_000;

/// Lines that are named when they are bad.
const NAMED_MAX: usize = 10;

/// The users in a file, one in a line, in their order and each once; `-` is standard input. Empty lines and what follows
/// a `#` are passed over.
/// Errors: a file that cannot be read, and every line that is no user, by its number.
pub(crate) fn read_users_file(path: &Path) -> Result<Vec<UserId>, Unable> {
    let unread = |error: io::Error| Unable(format!("{}: {error}", path.display()));
    if path.as_os_str() == "-" {
        return read_users(io::stdin().lock(), path);
    }
    read_users(BufReader::new(File::open(path).map_err(unread)?), path)
}

fn read_users(lines: impl BufRead, path: &Path) -> Result<Vec<UserId>, Unable> {
    let (mut users, mut seen, mut bad) = (Vec::new(), HashSet::new(), Vec::new());
    for (at, line) in lines.lines().enumerate() {
        let number = at.saturating_add(1);
        let line = line.map_err(|error| Unable(format!("{}:{number}: {error}", path.display())))?;
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        match text.parse::<UserId>() {
            Ok(user) if seen.insert(user) => users.push(user),
            Ok(_) => {}
            Err(error) => bad.push(format!("{}:{number}: {text:?}: {error}", path.display())),
        }
        if users.len() > USERS_MAX {
            return Err(Unable(format!(
                "{} has more than {USERS_MAX} users",
                path.display()
            )));
        }
    }
    if bad.is_empty() {
        return Ok(users);
    }
    let more = bad.len().saturating_sub(NAMED_MAX);
    bad.truncate(NAMED_MAX);
    if more > 0 {
        bad.push(format!("and {more} more"));
    }
    Err(Unable(bad.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_line_is_named_and_good_ones_count_once() {
        let of = |text: &str| read_users(text.as_bytes(), Path::new("list"));
        let users: Vec<_> = of("7\n\n 8 # somebody\n7\n")
            .unwrap()
            .iter()
            .map(|user| user.get())
            .collect();
        assert_eq!(users, [7, 8]);
        let told = of("7\n0\n-1\nx\n").unwrap_err().to_string();
        assert!(
            told.contains("list:2: \"0\"") && told.contains("list:3:") && told.contains("list:4:"),
            "{told}"
        );
    }
}
