//! Checks of texts from people and clients.

use crate::error::InvalidInput;

/// The text must not be empty, and have at most `limit` characters.
pub(crate) fn required(field: &'static str, text: &str, limit: usize) -> Result<(), InvalidInput> {
    if text.trim().is_empty() { Err(InvalidInput::Required { field }) } else { bounded(field, text, limit) }
}

/// The text must have at most `limit` characters, counted as JSON Schema does, and no control
/// characters, which lists and logs cannot show.
pub(crate) fn bounded(field: &'static str, text: &str, limit: usize) -> Result<(), InvalidInput> {
    if text.len() > limit && text.chars().count() > limit {
        Err(InvalidInput::TooLong { field, limit })
    } else if text.chars().any(char::is_control) {
        Err(InvalidInput::ControlCharacter { field })
    } else {
        Ok(())
    }
}
