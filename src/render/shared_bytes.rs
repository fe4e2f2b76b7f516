//! Bytes that are held long, in one piece of memory that is shared by counting.
//!
//! `Bytes` made of a vector takes a second piece for its counter with the first clone; made of an array it has both in
//! one. Arrays come in the allocator's sizes.
//!
//! **Limits.** Above [`LARGEST`] there are two pieces.

use bytes::Bytes;

/// The header that `Bytes` puts before an array that it owns.
const COUNTER_BYTES: usize = 8;
/// The counter beside a vector.
const BESIDE_BYTES: usize = 32;
/// The largest size of which there are arrays, with its counter.
const LARGEST: usize = 2_048;

struct Piece<const N: usize>([u8; N]);

impl<const N: usize> AsRef<[u8]> for Piece<N> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Copies bytes into the smallest shared allocation.
pub(super) fn share_bytes(bytes: &[u8]) -> Bytes {
    macro_rules! of_size {
        ($($size:literal)*) => {
            match size_class(bytes.len().saturating_add(COUNTER_BYTES)) {
                $($size => fill_bytes::<{ $size - COUNTER_BYTES }>(bytes),)*
                _ => in_two(bytes),
            }
        };
    }
    of_size!(64 80 96 112 128 160 192 224 256 320 384 448 512 640 768 896 1024 1280 1536 1792 2048)
}

fn fill_bytes<const N: usize>(bytes: &[u8]) -> Bytes {
    let mut room = [0; N];
    for (to, from) in room.iter_mut().zip(bytes) {
        *to = *from;
    }
    Bytes::from_owner(Piece(room)).slice(..bytes.len().min(N))
}

fn in_two(bytes: &[u8]) -> Bytes {
    let bytes = Bytes::from(Box::<[u8]>::from(bytes));
    // Its counter is made with the first clone: now, not by a reader.
    let _ = bytes.clone();
    bytes
}

/// The allocator's bytes for [`share_bytes`] bytes of that length.
pub(super) const fn bytes_taken(len: usize) -> usize {
    let in_one = size_class(len.saturating_add(COUNTER_BYTES));
    if in_one <= LARGEST {
        in_one
    } else {
        size_class(len).saturating_add(BESIDE_BYTES)
    }
}

/// The allocator's size for that many bytes: multiples of 16 up to 64, then four sizes per doubling.
const fn size_class(bytes: usize) -> usize {
    let step = if bytes <= 64 {
        16
    } else {
        // A power of two itself belongs to the doubling below it.
        match bytes.saturating_sub(1).checked_ilog2() {
            Some(doubling) => 1_usize.wrapping_shl(doubling.saturating_sub(2)),
            None => 16,
        }
    };
    match bytes.checked_next_multiple_of(step) {
        Some(0) => step,
        Some(class) => class,
        None => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_allocator() {
        let classes = [
            (0, 16),
            (16, 16),
            (17, 32),
            (64, 64),
            (65, 80),
            (128, 128),
            (129, 160),
            (256, 256),
            (257, 320),
            (321, 384),
            (385, 448),
            (512, 512),
            (513, 640),
            (2_048, 2_048),
            (2_049, 2_560),
        ];
        for (bytes, class) in classes {
            assert_eq!(size_class(bytes), class, "{bytes}");
        }
    }

    #[test]
    fn bytes_of_any_length_are_the_same_bytes() {
        for len in 0..3_000_usize {
            let bytes: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
            assert_eq!(share_bytes(&bytes), bytes, "{len}");
            assert!(bytes_taken(len) >= len + COUNTER_BYTES, "{len}");
        }
    }
}
