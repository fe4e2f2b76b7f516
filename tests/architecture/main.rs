//! The shape of the code, held by tests: which module may know which, and rules that no compiler holds.

#[cfg(test)]
mod circles;
#[cfg(test)]
mod edges;
#[cfg(test)]
mod house;
#[cfg(test)]
mod names;
#[cfg(test)]
mod scan;
#[cfg(test)]
mod walks;
#[cfg(test)]
mod words;
