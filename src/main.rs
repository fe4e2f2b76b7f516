//! The balance-cache program.
fn main() {}
