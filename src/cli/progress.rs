//! A bar that shows how far something is. The interface to indicatif is localized here.
//!
//! **Invariants.** It is drawn on standard error and on a terminal only: what is piped is not disturbed.

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

    /// So many more are done.
    pub(crate) fn add(&self, count: u64) {
        self.0.inc(count);
    }

    /// The text beside the bar.
    pub(crate) fn beside(&self, text: String) {
        self.0.set_message(text);
    }

    /// Does something that writes lines, with the bar out of the way.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }

    /// Takes the bar away.
    pub(crate) fn done(&self) {
        self.0.finish_and_clear();
    }
}
