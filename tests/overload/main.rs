//! Ten times what the source can bear, and a source that is silent: the rest is sent away soon, hits in memory notice nothing,
//! and it is over when it is over.
//!
//! A program of its own, so that nothing else takes of the machine meanwhile.

#[cfg(test)]
mod support;
#[cfg(test)]
mod tests;
