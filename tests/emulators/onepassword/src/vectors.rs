//! The protocol's test vectors, read from the provider's folder: both implementations are tested
//! against the same file.

use std::sync::LazyLock;

use serde_json::Value;

/// The whole file.
pub(crate) static VECTORS: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../../providers/onepassword/tests/data/vectors.json")).unwrap()
});

/// A string in the file.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Hex in the file, padded on the left to the requested length.
pub(crate) fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    let digits = format!("{:0>width$}", text(value), width = 2 * N);
    data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap().try_into().unwrap()
}
