//! The chunked transfer coding (RFC 9112, section 7.1), decoded from whatever pieces arrive.
//!
//! **Invariants.** Where a body ends depends on its bytes only, never on how they were cut. The grammar is strict: line ends
//! are CRLF, sizes are hexadecimal digits, trailers are fields.
//!
//! **Limits.** Extensions and trailers are read over; together they may be [`OVERHEAD_MAX`] bytes.

/// Digits of one chunk's size: 64 bits.
const DIGITS_MAX: u8 = 16;
/// Bytes of extensions and trailers of one body.
const OVERHEAD_MAX: usize = 16 * 1024;

/// A body that is not what its coding says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunks cannot be read")]
pub struct MalformedChunk;

/// The decoder's position in the coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkState {
    Size { digits: u8, size: u64 },
    SizeSpace { size: u64 },
    Extension { size: u64 },
    SizeEnd { size: u64 },
    Data { remaining: u64 },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Decodes one body.
#[derive(Debug)]
pub struct Chunked {
    state: ChunkState,
    overhead: usize,
}

impl Chunked {
    /// A decoder at the first byte of a body.
    pub const fn new() -> Self {
        Self {
            state: ChunkState::Size { digits: 0, size: 0 },
            overhead: 0,
        }
    }

    /// Whether the body is complete.
    pub const fn is_done(&self) -> bool {
        matches!(self.state, ChunkState::Done)
    }

    /// Appends the data at the beginning of `input` to `out`: how many bytes of `input` belong to the body.
    /// Errors: the coding is broken; nothing that follows can be understood.
    pub fn decode_chunks(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, MalformedChunk> {
        let mut used: usize = 0;
        while let Some(rest) = input.get(used..)
            && let Some(byte) = rest.first()
            && !self.is_done()
        {
            let taken = if let ChunkState::Data { remaining } = self.state {
                let most = usize::try_from(remaining).unwrap_or(usize::MAX);
                let data = rest.get(..most).unwrap_or(rest);
                out.extend_from_slice(data);
                let taken = u64::try_from(data.len()).map_err(|_| MalformedChunk)?;
                self.state = match remaining.saturating_sub(taken) {
                    0 => ChunkState::DataCr,
                    remaining => ChunkState::Data { remaining },
                };
                data.len()
            } else {
                self.state = self.step_state(*byte)?;
                1
            };
            used = used.saturating_add(taken);
        }
        Ok(used)
    }

    fn step_state(&mut self, byte: u8) -> Result<ChunkState, MalformedChunk> {
        Ok(match (self.state, byte) {
            (ChunkState::Size { digits, size }, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).ok_or(MalformedChunk)?;
                if digits == DIGITS_MAX {
                    return Err(MalformedChunk);
                }
                ChunkState::Size {
                    digits: digits.saturating_add(1),
                    size: (size << 4) | u64::from(digit),
                }
            }
            (ChunkState::Size { digits: 0, .. }, _) => return Err(MalformedChunk),
            (ChunkState::Size { size, .. } | ChunkState::SizeSpace { size }, b' ' | b'\t') => {
                self.count_overhead_byte()?;
                ChunkState::SizeSpace { size }
            }
            (ChunkState::Size { size, .. } | ChunkState::SizeSpace { size }, b';') => {
                ChunkState::Extension { size }
            }
            (
                ChunkState::Size { size, .. }
                | ChunkState::SizeSpace { size }
                | ChunkState::Extension { size },
                b'\r',
            ) => ChunkState::SizeEnd { size },
            (ChunkState::Extension { size }, _) if is_text(byte) => {
                self.count_overhead_byte()?;
                ChunkState::Extension { size }
            }
            (ChunkState::SizeEnd { size: 0 } | ChunkState::TrailerLf, b'\n') => {
                ChunkState::TrailerStart
            }
            (ChunkState::SizeEnd { size }, b'\n') => ChunkState::Data { remaining: size },
            (ChunkState::DataCr, b'\r') => ChunkState::DataLf,
            (ChunkState::DataLf, b'\n') => ChunkState::Size { digits: 0, size: 0 },
            (ChunkState::TrailerStart, b'\r') => ChunkState::EndLf,
            (ChunkState::TrailerStart | ChunkState::TrailerName, _) if is_token(byte) => {
                self.count_overhead_byte()?;
                ChunkState::TrailerName
            }
            (ChunkState::TrailerName, b':') => ChunkState::TrailerValue,
            (ChunkState::TrailerValue, b'\r') => ChunkState::TrailerLf,
            (ChunkState::TrailerValue, _) if is_text(byte) => {
                self.count_overhead_byte()?;
                ChunkState::TrailerValue
            }
            (ChunkState::EndLf, b'\n') => ChunkState::Done,
            _ => return Err(MalformedChunk),
        })
    }

    fn count_overhead_byte(&mut self) -> Result<(), MalformedChunk> {
        self.overhead = self.overhead.saturating_add(1);
        if self.overhead > OVERHEAD_MAX {
            return Err(MalformedChunk);
        }
        Ok(())
    }
}

/// Visible characters, spaces, tabs, and bytes above ASCII.
const fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data, and how many bytes of the text were the body; in one piece, and cut at each byte.
    fn decode_at_every_cut(text: &str) -> Result<(String, usize), MalformedChunk> {
        let whole = decode_pieces(&[text.as_bytes()]);
        for cut in 0..text.len() {
            let (before, behind) = text.as_bytes().split_at(cut);
            assert_eq!(
                decode_pieces(&[before, behind]),
                whole,
                "{text:?} cut at {cut}"
            );
        }
        whole
    }

    fn decode_pieces(pieces: &[&[u8]]) -> Result<(String, usize), MalformedChunk> {
        let (mut chunked, mut out, mut used) = (Chunked::new(), Vec::new(), 0);
        for piece in pieces {
            used += chunked.decode_chunks(piece, &mut out)?;
        }
        let done = if chunked.is_done() { used } else { usize::MAX };
        Ok((String::from_utf8(out).unwrap(), done))
    }

    #[test]
    fn a_body_ends_behind_its_last_chunk_and_trailers() {
        for (body, data) in [
            ("0\r\n\r\n", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "abc"),
            ("3;a=\"b\"\r\nabc\r\n0;x\r\n\r\n", "abc"),
            ("3 ;a\r\nabc\r\n00\r\n\r\n", "abc"),
            (
                "a\r\n0123456789\r\n1\r\n\n\r\n0\r\nX: y\r\nz:\r\n\r\n",
                "0123456789\n",
            ),
            ("0000000000000001\r\n\r\r\n0\r\n\r\n", "\r"),
        ] {
            let followed = format!("{body}GET / HTTP/1.1\r\n\r\n");
            assert_eq!(
                decode_at_every_cut(&followed),
                Ok((data.to_owned(), body.len()))
            );
        }
    }

    #[test]
    fn a_body_that_is_cut_off_is_not_done() {
        for body in [
            "",
            "3",
            "3\r\nab",
            "3\r\nabc\r\n",
            "3\r\nabc\r\n0\r\n",
            "0\r\nx: y\r\n",
        ] {
            assert_eq!(decode_at_every_cut(body).unwrap().1, usize::MAX, "{body:?}");
        }
        assert!(decode_at_every_cut("ffffffffffffffff\r\nabc").is_ok());
    }

    #[test]
    fn what_is_not_quite_the_coding_is_refused() {
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            "1\n",
            "1\r\r",
            "1 2\r\n",
            " 1\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n",
            "3\r\nabc0\r\n",
            "00000000000000001\r\n",
            "3;a\nabc\r\n",
            "0\r\nGET / HTTP/1.1\r\n\r\n",
            "0\r\n: x\r\n",
            "0\r\nx: y\n\r\n",
            "0\r\n x: y\r\n\r\n",
            "0\r\n\n",
            "\0\r\n\r\n",
        ] {
            assert_eq!(decode_at_every_cut(body), Err(MalformedChunk), "{body:?}");
        }
        for long in ["1;", "0\r\nx:", "0\r\n"] {
            let body = format!("{long}{}", "a".repeat(OVERHEAD_MAX + 1));
            assert_eq!(
                decode_pieces(&[body.as_bytes()]),
                Err(MalformedChunk),
                "{long:?}"
            );
        }
    }
}
