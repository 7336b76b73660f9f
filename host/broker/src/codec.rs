//! How a few secret strings become one plaintext to seal, and back.
//!
//! A record is a list of optional byte strings: their count, then for each its length (all ones:
//! absent) and its bytes, numbers being 32 bits in network order. The buffer is allocated once in
//! its final size, so that growing it never leaves a copy of a secret behind; JSON would, in the
//! serialiser's buffers and in the parser's scratch space.
//!
//! Decoding checks every length before it slices, borrows from the plaintext instead of copying,
//! and accepts nothing that encoding does not produce. What it reads was authenticated, so an error
//! here means a fault of the program, not an attack.

use thiserror::Error;
use zeroize::Zeroizing;

/// The plaintext is not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("sealed data opened, but it is not a record of the expected form")]
pub(crate) struct CodecError;

const ABSENT: u32 = u32::MAX;

/// The record that consists of `fields`.
pub(crate) fn encode(fields: &[Option<&[u8]>]) -> Result<Zeroizing<Vec<u8>>, CodecError> {
    let size = 4 + fields.iter().map(|field| 4 + field.map_or(0, <[u8]>::len)).sum::<usize>();
    let mut record = Zeroizing::new(Vec::with_capacity(size));
    record.extend_from_slice(&u32::try_from(fields.len()).map_err(|_| CodecError)?.to_be_bytes());
    for field in fields {
        let length = match field {
            None => ABSENT,
            Some(bytes) => u32::try_from(bytes.len()).ok().filter(|length| *length != ABSENT).ok_or(CodecError)?,
        };
        record.extend_from_slice(&length.to_be_bytes());
        record.extend_from_slice(field.unwrap_or_default());
    }
    Ok(record)
}

/// Reads a record field by field.
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    remaining: u32,
}

impl<'a> Decoder<'a> {
    /// Begins to read `record`.
    pub(crate) fn new(record: &'a [u8]) -> Result<Self, CodecError> {
        let mut decoder = Self { rest: record, remaining: 0 };
        decoder.remaining = decoder.number()?;
        Ok(decoder)
    }

    /// The next field, which may be absent.
    pub(crate) fn optional(&mut self) -> Result<Option<&'a [u8]>, CodecError> {
        self.remaining = self.remaining.checked_sub(1).ok_or(CodecError)?;
        match self.number()? {
            ABSENT => Ok(None),
            length => {
                let (field, rest) = self.rest.split_at_checked(length as usize).ok_or(CodecError)?;
                self.rest = rest;
                Ok(Some(field))
            }
        }
    }

    /// The next field, which may be absent, as text.
    pub(crate) fn optional_text(&mut self) -> Result<Option<&'a str>, CodecError> {
        self.optional()?.map(|field| std::str::from_utf8(field).map_err(|_| CodecError)).transpose()
    }

    /// The next field as text.
    pub(crate) fn text(&mut self) -> Result<&'a str, CodecError> {
        self.optional_text()?.ok_or(CodecError)
    }

    /// How many fields have not been read yet.
    pub(crate) fn remaining(&self) -> u32 {
        self.remaining
    }

    /// Ends reading: nothing may be left.
    pub(crate) fn finish(self) -> Result<(), CodecError> {
        if self.remaining == 0 && self.rest.is_empty() { Ok(()) } else { Err(CodecError) }
    }

    fn number(&mut self) -> Result<u32, CodecError> {
        let (number, rest) = self.rest.split_first_chunk::<4>().ok_or(CodecError)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(record: &[u8]) -> Result<Vec<Option<Vec<u8>>>, CodecError> {
        let mut decoder = Decoder::new(record)?;
        let mut fields = Vec::new();
        while decoder.remaining() > 0 {
            fields.push(decoder.optional()?.map(<[u8]>::to_vec));
        }
        decoder.finish()?;
        Ok(fields)
    }

    #[test]
    fn absent_and_empty_stay_different() {
        let record = encode(&[None, Some(b""), Some(b"value")]).unwrap();
        assert_eq!(decode(&record).unwrap(), [None, Some(vec![]), Some(b"value".to_vec())]);
    }

    #[test]
    fn the_buffer_is_allocated_in_its_final_size() {
        let record = encode(&[Some(b"user"), None, Some(b"password")]).unwrap();
        assert_eq!(record.len(), 4 + 3 * 4 + 12);
        assert_eq!(record.capacity(), record.len());
    }

    #[test]
    fn a_record_cut_off_anywhere_or_with_something_behind_it_is_refused() {
        let record = encode(&[Some(b"user"), None, Some(b"password")]).unwrap();
        for length in 0..record.len() {
            assert_eq!(decode(&record[..length]), Err(CodecError), "{length} bytes");
        }
        let mut longer = record.to_vec();
        longer.push(0);
        assert_eq!(decode(&longer), Err(CodecError));
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        assert_eq!(decode(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe]), Err(CodecError));
    }
}
