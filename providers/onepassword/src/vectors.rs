//! The protocol's test vectors, for the tests of every module.

use serde_json::Value;
use std::sync::OnceLock;

/// All of `tests/data/vectors.json`.
pub(crate) fn vectors() -> &'static Value {
    static VECTORS: OnceLock<Value> = OnceLock::new();
    VECTORS.get_or_init(|| serde_json::from_str(include_str!("../tests/data/vectors.json")).unwrap())
}

/// Serialises a vector's object with its members in the order in which they are sent.
pub(crate) trait InOrder {
    fn to_string_in_order(&self, members: &[&str]) -> String;
}

impl InOrder for Value {
    fn to_string_in_order(&self, members: &[&str]) -> String {
        assert_eq!(self.as_object().unwrap().len(), members.len());
        let members: Vec<String> = members.iter().map(|name| format!("\"{name}\":{}", self[name])).collect();
        format!("{{{}}}", members.join(","))
    }
}
