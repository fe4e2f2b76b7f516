//! Settings: loaded from three layers, checked whole.

mod settings;

pub use settings::*;
