//! Names and values that the contract does not define yet.

use serde::{Deserialize, Serialize};

/// A name and a value that the contract does not define yet. Never secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Lower case, words separated by `-`.
    pub name: String,
    /// Free text.
    pub value: String,
}
