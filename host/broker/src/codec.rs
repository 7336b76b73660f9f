//! Encoding several secret strings as one plaintext to seal, and decoding them.
//!
//! A record is a list of optional byte strings: their count, then for each its length (all ones:
//! absent) and its bytes. Numbers are 32 bits in network order. The buffer is allocated once in its
//! final size, so that growing it never leaves a copy of a secret behind; JSON would, in the
//! serialiser's buffers and in the parser's scratch space.
//!
//! Decoding checks every length before it slices, borrows from the plaintext without copying, and
//! accepts only what encoding produces. Its input was authenticated, so an error here means a fault
//! of the program, not an attack.

use thiserror::Error;
use zeroize::Zeroizing;

/// The plaintext is not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("sealed data was opened, but is not a record of the expected form")]
pub(crate) struct CodecError;

const ABSENT: u32 = u32::MAX;

/// Encodes `fields` as a record.
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

/// Decodes the fields of `record`.
pub(crate) fn decode(record: &[u8]) -> Result<Vec<Option<&[u8]>>, CodecError> {
    let (count, mut rest) = number(record)?;
    let mut fields = Vec::new();
    for _ in 0..count {
        let (length, behind) = number(rest)?;
        let length = if length == ABSENT { None } else { Some(length as usize) };
        let (field, behind) = behind.split_at_checked(length.unwrap_or(0)).ok_or(CodecError)?;
        fields.push(length.map(|_| field));
        rest = behind;
    }
    if rest.is_empty() { Ok(fields) } else { Err(CodecError) }
}

/// Decodes the fields of `record`, which are all texts.
pub(crate) fn decode_texts(record: &[u8]) -> Result<Vec<Option<&str>>, CodecError> {
    let text = |field: Option<_>| field.map(std::str::from_utf8).transpose().map_err(|_| CodecError);
    decode(record)?.into_iter().map(text).collect()
}

fn number(bytes: &[u8]) -> Result<(u32, &[u8]), CodecError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(CodecError)?;
    Ok((u32::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_empty_stay_different() {
        let record = encode(&[None, Some(b""), Some(b"value")]).unwrap();
        assert_eq!(decode(&record).unwrap(), [None, Some(&b""[..]), Some(&b"value"[..])]);
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
