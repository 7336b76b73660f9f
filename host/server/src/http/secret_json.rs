//! Answers that may grant access: they are wiped from memory after they were sent.

use std::io::{self, Write};

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use zeroize::Zeroizing;

use super::error::ApiError;

/// The size of the first buffer, in bytes. Most answers fit; all of it is wiped.
const SIZE: usize = 1 << 10;

/// An answer in JSON.
pub(super) fn secret_answer(status: StatusCode, answer: &impl Serialize) -> Result<Response, ApiError> {
    let mut json = SecretJson::default();
    json.append(answer).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok((status, [(CONTENT_TYPE, "application/json")], Body::from(json.into_bytes())).into_response())
}

/// Text that leaves no copy behind when it grows. The SDK has its own for providers; the host uses
/// nothing of the SDK.
pub(super) struct SecretJson(Zeroizing<Vec<u8>>);

impl Default for SecretJson {
    fn default() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(SIZE)))
    }
}

impl SecretJson {
    /// Adds a value.
    pub(super) fn append(&mut self, value: &impl Serialize) -> serde_json::Result<()> {
        serde_json::to_writer(self, value)
    }

    /// The text, which is wiped when its last owner drops it.
    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self.0)
    }
}

impl Write for SecretJson {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity())));
            larger.extend_from_slice(&self.0);
            // Assigning drops the smaller buffer, which wipes it.
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_any_length_is_what_was_written() {
        let values: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
        let mut json = SecretJson::default();
        json.append(&values).unwrap();
        assert_eq!(json.into_bytes(), serde_json::to_vec(&values).unwrap());
    }

    #[test]
    fn it_grows_into_another_place_and_never_in_its_own() {
        let mut json = SecretJson::default();
        let mut capacities = vec![json.0.capacity()];
        for _ in 0..100 {
            json.write_all(&[b'x'; 1_000]).unwrap();
            assert!(json.0.len() <= json.0.capacity());
            capacities.push(json.0.capacity());
        }
        capacities.dedup();
        assert_eq!(
            capacities,
            [1, 2, 4, 8, 16, 32, 64, 128].map(|kibibytes| kibibytes << 10),
            "doubled by hand, each time"
        );
    }
}
