//! A bar that shows how far something is. The interface to indicatif is localized here.
//!
//! **Invariants.** It is drawn on standard error and on a terminal only: what is piped is not disturbed.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

const TEMPLATE: &str = "{prefix} [{bar:32}] {pos}/{len}  {msg}  {elapsed}, {eta} left";

/// How far something is.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Towards so many.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        let bar = ProgressBar::new(total);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what);
        Self(bar)
    }

    /// Makes a bar of which a part was done before; that part does not count for the speed.
    pub(crate) fn resume_from(what: &'static str, total: u64, done: u64) -> Self {
        let progress = Self::new(what, total);
        progress.0.set_position(done);
        progress.0.reset_eta();
        progress
    }

    /// Adds finished work to the bar.
    pub(crate) fn add_done(&self, count: u64) {
        self.0.inc(count);
    }

    /// The text beside the bar.
    pub(crate) fn set_message(&self, text: String) {
        self.0.set_message(text);
    }

    /// Does something that writes lines, with the bar out of the way.
    pub(crate) fn suspend_for<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }

    /// Whether the bar is hidden, because standard error is no terminal.
    pub(crate) fn is_hidden() -> bool {
        !io::stderr().is_terminal()
    }

    pub(crate) fn clear_bar(&self) {
        self.0.finish_and_clear();
    }
}
