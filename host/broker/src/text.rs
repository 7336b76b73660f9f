//! Checks of texts that people or clients send.

use crate::error::InvalidInput;

/// The text must have something in it, and be no longer than `limit` characters.
pub(crate) fn required(field: &'static str, text: &str, limit: usize) -> Result<(), InvalidInput> {
    if text.trim().is_empty() { Err(InvalidInput::Required { field }) } else { bounded(field, text, limit) }
}

/// The text must be no longer than `limit` characters, counted as JSON Schema does, and without
/// control characters, which no list or log shows as they are.
pub(crate) fn bounded(field: &'static str, text: &str, limit: usize) -> Result<(), InvalidInput> {
    if text.len() > limit && text.chars().count() > limit {
        Err(InvalidInput::TooLong { field, limit })
    } else if text.chars().any(char::is_control) {
        Err(InvalidInput::ControlCharacter { field })
    } else {
        Ok(())
    }
}
