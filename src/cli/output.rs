//! Writes to standard output and error: lines, tables, durations and times.
//!
//! **Invariants.** Colours reach a terminal only, and none where `NO_COLOR` is set. A reader that went away (`| head`) is no
//! error: the command goes on to its exit code.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    time::{Duration, UNIX_EPOCH},
};

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result};
use serde::Serialize;

/// Something that could not be begun, or was asked for wrongly: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unable(pub(crate) String);

/// As it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Worth a look.
pub(crate) const ODD: Style = AnsiColor::Yellow.on_default();
/// Not as it should be.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Headings.
pub(crate) const HEAD: Style = Style::new().bold();
/// The text beside.
pub(crate) const FAINT: Style = Style::new().dimmed();

/// Writes a line, or several.
pub(crate) fn print_line(text: &str) -> Result<()> {
    let mut out = anstream::stdout();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    unless_gone(written).context("standard output cannot be written")
}

/// Writes a value as JSON, for programs.
pub(crate) fn say_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    unless_gone(writeln!(io::stdout(), "{text}")).context("standard output cannot be written")
}

/// Writes a line for people to standard error.
pub(crate) fn print_error(text: &str) {
    // Nobody is left to be told where this fails.
    let _ = writeln!(anstream::stderr(), "{text}");
}

fn unless_gone(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

pub(crate) fn paint_text(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        Self {
            text: text.to_string(),
            style: Style::new(),
        }
    }

    pub(crate) fn with_style(text: impl fmt::Display, style: Style) -> Self {
        Self {
            text: text.to_string(),
            style,
        }
    }
}

/// A table: columns as wide as what is in them. A heading that begins with `>` is set to the right.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn add_row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    fn format_line(&self, widths: &[usize], cells: &[Cell]) -> String {
        let mut line = String::new();
        for ((cell, width), head) in cells.iter().zip(widths).zip(&self.head) {
            let missing = width.saturating_sub(cell.text.chars().count());
            let space = " ".repeat(missing);
            let text = paint_text(cell.style, &cell.text);
            if head.starts_with('>') {
                line.push_str(&space);
                line.push_str(&text);
            } else {
                line.push_str(&text);
                line.push_str(&space);
            }
            line.push_str("  ");
        }
        line.trim_end().to_owned()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = self.head.iter().map(|head| head.trim_start_matches('>'));
        let head: Vec<Cell> = heads.map(|head| Cell::with_style(head, HEAD)).collect();
        let all = || std::iter::once(&head).chain(&self.rows);
        let widths: Vec<usize> = (0..self.head.len())
            .map(|at| {
                let texts = all().filter_map(|row| row.get(at));
                texts
                    .map(|cell| cell.text.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let lines: Vec<String> = all().map(|row| self.format_line(&widths, row)).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// A span of time as people say it; one that is negative is 0.
pub(crate) fn span_text(millis: i64) -> String {
    let millis = millis.max(0);
    let of = |unit: i64| millis.checked_div(unit).unwrap_or(0);
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..120_000 => format!("{} s", of(1_000)),
        120_000..7_200_000 => format!("{} min", of(60_000)),
        7_200_000..172_800_000 => format!("{} h", of(3_600_000)),
        _ => format!("{} d", of(86_400_000)),
    }
}

/// A duration in milliseconds, to a tenth.
pub(crate) fn millis_text(duration: Duration) -> String {
    let tenths = duration.as_micros().checked_div(100).unwrap_or(0);
    let (whole, rest) = (tenths.checked_div(10), tenths.checked_rem(10));
    format!("{}.{} ms", whole.unwrap_or(0), rest.unwrap_or(0))
}

/// A moment in UTC; a number where it is none that can be written.
pub(crate) fn moment_text(unix_millis: i64) -> String {
    let since = u64::try_from(unix_millis).map(Duration::from_millis).ok();
    let time = since.and_then(|since| UNIX_EPOCH.checked_add(since));
    // Later than this the year has five digits.
    match time {
        Some(time) if unix_millis < 253_402_300_800_000 => {
            humantime::format_rfc3339_millis(time).to_string()
        }
        Some(_) | None => unix_millis.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        let said: Vec<_> = [-5, 999, 3_400, 119_999, 599_000, 7_300_000, 400_000_000]
            .map(span_text)
            .into();
        assert_eq!(
            said,
            ["0 ms", "999 ms", "3 s", "119 s", "9 min", "2 h", "4 d"]
        );
        assert_eq!(moment_text(1_765_352_441_955), "2025-12-10T07:40:41.955Z");
        assert_eq!(moment_text(i64::MAX), i64::MAX.to_string());
        assert_eq!(moment_text(-1), "-1");
        assert_eq!(millis_text(Duration::from_micros(12_345)), "12.3 ms");
    }

    #[test]
    fn a_table_is_as_wide_as_what_is_in_it() {
        let mut table = Table::new(&["ASSET", ">AVAIL"]);
        table.add_row(vec![Cell::new("BTC"), Cell::new("1")]);
        table.add_row(vec![Cell::new("LONGER"), Cell::new("123456")]);
        let plain = anstream::adapter::strip_str(&table.to_string()).to_string();
        assert_eq!(plain, "ASSET    AVAIL\nBTC          1\nLONGER  123456");
    }
}
