//! RESP 2 as an answer to `HGETALL` or `INFO` has it: where replies end, and the strings in them.
//!
//! **Invariants.** A look goes on where the last one ended: what comes in many pieces is not read again from its beginning.

use std::io;

use bytes::{Bytes, BytesMut};

use crate::cache::redis::entry::Corrupt;

/// The longest line without a string: an error's text.
const LINE_MAX: usize = 64 << 10;
/// The longest string that Redis has (`proto-max-bulk-len`), and more than an answer has parts.
const LENGTH_MAX: usize = 512 << 20;

/// The replies to one group of commands, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RespReplies {
    pub(super) bytes: Bytes,
    /// Where each reply ends.
    ends: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a>(&'a [u8]);

#[derive(Debug)]
pub struct Pairs<'a> {
    rest: &'a [u8],
    left: usize,
}

/// How far an answer was looked through.
#[derive(Debug)]
pub(super) struct RespParser {
    at: usize,
    /// Values that belong to the reply that `at` is in.
    pending: usize,
    ends: Vec<usize>,
    replies: usize,
}

impl RespReplies {
    pub fn replies(&self) -> impl Iterator<Item = Reply<'_>> {
        let mut begin = 0;
        self.ends.iter().map(move |end| {
            let reply = self.bytes.get(begin..*end).unwrap_or_default();
            begin = *end;
            Reply(reply)
        })
    }
}

impl<'a> Reply<'a> {
    /// Its fields and their values; an error of the server, and whatever else is no hash, is [`Corrupt`].
    pub fn hash_pairs(self) -> Result<Pairs<'a>, Corrupt> {
        let (b'*', length, rest) = split_head(self.0).ok_or(Corrupt)? else {
            return Err(Corrupt);
        };
        let length = length.ok_or(Corrupt)?;
        if length % 2 != 0 {
            return Err(Corrupt);
        }
        Ok(Pairs {
            rest,
            left: length / 2,
        })
    }

    pub fn error_text(self) -> Option<&'a str> {
        let (line, _) = split_line(self.0.strip_prefix(b"-")?)?;
        str::from_utf8(line).ok()
    }

    /// `+OK`, or what stands in its place.
    pub fn is_ok(self) -> bool {
        self.0.starts_with(b"+")
    }

    pub fn string_bytes(self) -> Option<&'a [u8]> {
        take_string(&mut { self.0 })
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), Corrupt>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut next = || take_string(&mut self.rest);
        Some(next().zip(next()).ok_or(Corrupt))
    }
}

/// Reads a string off the front.
fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (b'$', length, behind) = split_head(rest)? else {
        return None;
    };
    let (text, behind) = behind.split_at_checked(length?)?;
    *rest = behind.strip_prefix(b"\r\n")?;
    Some(text)
}

/// Kind, length where the kind has one (none for null), and what stands behind the line; none where the line is not all there,
/// or is no RESP.
fn split_head(bytes: &[u8]) -> Option<(u8, Option<usize>, &[u8])> {
    let (line, rest) = split_line(bytes)?;
    let (kind, length) = line.split_first()?;
    Some((*kind, parse_number(length), rest))
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\r')?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line, rest.strip_prefix(b"\r\n")?))
}

fn parse_number(digits: &[u8]) -> Option<usize> {
    let next = |number: usize, byte: &u8| match byte {
        b'0'..=b'9' => {
            let digit = usize::from(byte.wrapping_sub(b'0'));
            let number = number.checked_mul(10)?.checked_add(digit)?;
            (number <= LENGTH_MAX).then_some(number)
        }
        _ => None,
    };
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0, next)
}

impl RespParser {
    /// Nothing was looked at.
    pub(super) const fn new(replies: usize) -> Self {
        Self {
            at: 0,
            pending: 1,
            ends: Vec::new(),
            replies,
        }
    }

    /// Takes off what was looked through.
    pub(super) fn take_answer(self, bytes: &mut BytesMut) -> RespReplies {
        RespReplies {
            bytes: bytes.split_to(self.at.min(bytes.len())).freeze(),
            ends: self.ends,
        }
    }

    /// Goes on with what is there. True when the whole answer is.
    /// Errors: the bytes there are no RESP.
    pub(super) fn look_on(&mut self, bytes: &[u8]) -> io::Result<bool> {
        while self.ends.len() < self.replies {
            let Some((line, rest)) = bytes.get(self.at..).and_then(split_line) else {
                let seen = bytes.get(self.at..).unwrap_or_default();
                // Its end may still come; a line that is that long, or goes on behind its end, is none.
                let ends = seen.iter().position(|byte| *byte == b'\r');
                let torn = ends.is_some_and(|end| seen.len() > end.saturating_add(1));
                return if torn || seen.len() > LINE_MAX {
                    Err(no_resp())
                } else {
                    Ok(false)
                };
            };
            let (kind, length) = line.split_first().ok_or_else(no_resp)?;
            let mut end = bytes.len().saturating_sub(rest.len());
            let mut more = 0;
            match (kind, parse_number(length), length) {
                (b'+' | b'-' | b':', ..) | (b'$' | b'*', _, b"-1") => {}
                (b'$', Some(length), _) => {
                    let behind = rest.get(length..).unwrap_or_default();
                    match behind {
                        [b'\r', b'\n', ..] => {
                            end = end.saturating_add(length).saturating_add(2);
                        }
                        [] | [b'\r'] => return Ok(false),
                        _ => return Err(no_resp()),
                    }
                }
                (b'*', Some(length), _) => more = length,
                _ => return Err(no_resp()),
            }
            self.at = end;
            self.pending = self.pending.saturating_sub(1).saturating_add(more);
            if self.pending == 0 {
                self.ends.push(self.at);
                self.pending = 1;
            }
        }
        Ok(true)
    }
}

pub(super) fn no_resp() -> io::Error {
    io::ErrorKind::InvalidData.into()
}
