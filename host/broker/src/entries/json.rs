//! Inspecting the values of attributes, which stay the text that was set, without keeping copies.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// Reads a value of this type; `None` if the text is none.
pub(super) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    serde_json::from_str(json).ok()
}

/// Whether two texts are the same JSON value, however they are written: clients parse and rewrite
/// what they send back. Values that are nested deeper than cookies and storages are compared as
/// text, because each further level costs another parse.
pub(super) fn same_value(one: &str, other: &str) -> bool {
    same_to(8, one, other)
}

fn same_to(levels: u32, one: &str, other: &str) -> bool {
    fn both<'a, T: Deserialize<'a>>(one: &'a str, other: &'a str) -> Option<(T, T)> {
        read(one).zip(read(other))
    }
    let Some(deeper) = levels.checked_sub(1) else { return one == other };
    if one == other {
        true
    } else if let Some((one, other)) = both::<BTreeMap<String, &RawValue>>(one, other) {
        let same = |(one, other): ((&String, &&RawValue), (&String, &&RawValue))| {
            one.0 == other.0 && same_to(deeper, one.1.get(), other.1.get())
        };
        one.len() == other.len() && one.iter().zip(&other).all(same)
    } else if let Some((one, other)) = both::<Vec<&RawValue>>(one, other) {
        one.len() == other.len() && one.iter().zip(&other).all(|(one, other)| same_to(deeper, one.get(), other.get()))
    } else if let Some((one, other)) = both::<String>(one, other) {
        let (one, other) = (Zeroizing::new(one), Zeroizing::new(other));
        one == other
    } else if let Some((one, other)) = both::<f64>(one, other) {
        one.total_cmp(&other).is_eq()
    } else {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_value_may_be_written_in_many_ways_and_another_is_another() {
        let same = [
            (r#"[{"a": 1, "b": "\u00e9"}]"#, "[ {\"b\":\"\u{e9}\",\"a\":1} ]"),
            ("1.50", "1.5"),
            ("[]", "[ ]"),
            ("null", "null"),
        ];
        for (one, other) in same {
            assert!(same_value(one, other) && same_value(other, one), "{one} {other}");
        }
        let others = [
            (r#"{"a":1}"#, r#"{"a":2}"#),
            (r#"{"a":1}"#, r#"{"a":1,"b":null}"#),
            (r#"{"a":1}"#, r#"{"b":1}"#),
            ("[1,2]", "[2,1]"),
            ("[1]", "[1,1]"),
            ("1", "\"1\""),
            ("true", "false"),
            ("0", "false"),
            ("null", "[]"),
            ("{}", "[]"),
        ];
        for (one, other) in others {
            assert!(!same_value(one, other) && !same_value(other, one), "{one} {other}");
        }
    }
}
