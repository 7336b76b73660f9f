//! Changes single values of a JSON text and leaves every other byte as it is.
//!
//! An item contains what other clients wrote: unknown members, numbers in their own spelling,
//! members in a certain order. Parsing and serialising it would change or lose some of that. So the
//! text is parsed only to locate the values, and the new ones are spliced in.

use serde_json::value::RawValue;
use std::ops::Range;
use zeroize::Zeroizing;

/// A text and its pending changes.
pub(crate) struct Splice<'a> {
    source: &'a str,
    edits: Vec<(Range<usize>, Zeroizing<String>)>,
}

/// A value does not lie within this text, or two changes overlap: a bug in this provider, reported
/// instead of writing garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a change does not fit into the text")]
pub(crate) struct SpliceError;

impl<'a> Splice<'a> {
    pub(crate) fn new(source: &'a str) -> Self {
        Self { source, edits: Vec::new() }
    }

    /// Replaces a value with `json`.
    pub(crate) fn replace(
        &mut self,
        value: &'a RawValue,
        json: impl Into<Zeroizing<String>>,
    ) -> Result<(), SpliceError> {
        self.edits.push((self.range(value)?, json.into()));
        Ok(())
    }

    /// Adds members (`"name":value`) to the end of an object. At most once per object.
    pub(crate) fn add_members(
        &mut self,
        object: &'a RawValue,
        members: &[Zeroizing<String>],
    ) -> Result<(), SpliceError> {
        let at = self.range(object)?.end.checked_sub(1).ok_or(SpliceError)?;
        self.insert(object, at, &join(members), Side::After)
    }

    /// Adds elements to the beginning of a list. At most once per list.
    pub(crate) fn prepend(&mut self, list: &'a RawValue, elements: &[Zeroizing<String>]) -> Result<(), SpliceError> {
        let at = self.range(list)?.start + 1;
        self.insert(list, at, &join(elements), Side::Before)
    }

    /// Adds elements to the end of a list. At most once per list.
    pub(crate) fn append(&mut self, list: &'a RawValue, elements: &[Zeroizing<String>]) -> Result<(), SpliceError> {
        self.add_members(list, elements)
    }

    fn insert(&mut self, container: &RawValue, at: usize, json: &str, side: Side) -> Result<(), SpliceError> {
        if json.is_empty() {
            return Ok(());
        }
        let text = container.get();
        let inner = text.get(1..text.len().saturating_sub(1)).ok_or(SpliceError)?;
        let json = match (inner.trim().is_empty(), side) {
            (true, _) => json.to_owned(),
            (false, Side::Before) => format!("{json},"),
            (false, Side::After) => format!(",{json}"),
        };
        self.edits.push((at..at, Zeroizing::new(json)));
        Ok(())
    }

    /// The position of a value. A value that was parsed without copying lies within the text.
    fn range(&self, value: &RawValue) -> Result<Range<usize>, SpliceError> {
        let text = value.get();
        let start = (text.as_ptr() as usize).checked_sub(self.source.as_ptr() as usize).ok_or(SpliceError)?;
        let range = start..start.checked_add(text.len()).ok_or(SpliceError)?;
        if self.source.get(range.clone()) == Some(text) { Ok(range) } else { Err(SpliceError) }
    }

    /// The changed text.
    pub(crate) fn finish(mut self) -> Result<Zeroizing<String>, SpliceError> {
        // A stable sort: insertions at the same position stay in the order of the calls.
        self.edits.sort_by_key(|(range, _)| range.start);
        let added: usize = self.edits.iter().map(|(_, json)| json.len()).sum();
        // Allocated at its final size, so that no unwiped copy is left behind.
        let mut result = Zeroizing::new(String::with_capacity(self.source.len() + added));
        let mut done = 0;
        for (range, json) in &self.edits {
            result.push_str(self.source.get(done..range.start).ok_or(SpliceError)?);
            result.push_str(json);
            done = range.end;
        }
        result.push_str(self.source.get(done..).ok_or(SpliceError)?);
        Ok(result)
    }
}

/// On which side of an insertion the existing members are.
enum Side {
    Before,
    After,
}

fn join(parts: &[Zeroizing<String>]) -> Zeroizing<String> {
    let length = parts.iter().map(|part| part.len() + 1).sum();
    let mut joined = Zeroizing::new(String::with_capacity(length));
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            joined.push(',');
        }
        joined.push_str(part);
    }
    joined
}

/// A text as a JSON string.
pub(crate) fn json_string(text: &str) -> Zeroizing<String> {
    // A control character becomes six bytes; the other two are the quotation marks.
    let mut json = Zeroizing::new(Vec::with_capacity(text.len().saturating_mul(6).saturating_add(2)));
    // Writing text to memory cannot fail.
    let _ = serde_json::to_writer(&mut *json, text);
    Zeroizing::new(String::from_utf8(std::mem::take(&mut *json)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow)]
        a: &'a RawValue,
    }

    fn part(text: &str) -> &RawValue {
        serde_json::from_str::<Shape<'_>>(text).unwrap().a
    }

    fn whole(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    fn owned(parts: &[&str]) -> Vec<Zeroizing<String>> {
        parts.iter().map(|part| Zeroizing::new((*part).to_owned())).collect()
    }

    #[test]
    fn a_value_is_replaced_and_every_other_byte_stays() {
        let text = "\t{ \"z\" : 1.50e+01 ,\r\n \"a\":  \"\\u0061\\/b\" , \"z\":[ ] }\n";
        let mut splice = Splice::new(text);
        splice.replace(part(text), "\"new\"".to_owned()).unwrap();
        assert_eq!(splice.finish().unwrap().as_str(), "\t{ \"z\" : 1.50e+01 ,\r\n \"a\":  \"new\" , \"z\":[ ] }\n");
    }

    #[test]
    fn members_and_elements_get_a_comma_only_where_one_is_needed() {
        for (text, expected) in [
            (r#"{"a":{}}"#, r#"{"a":{"x":1,"y":2}}"#),
            (r#"{"a":{ }}"#, r#"{"a":{ "x":1,"y":2}}"#),
            (r#"{"a":{"b":0 }}"#, r#"{"a":{"b":0 ,"x":1,"y":2}}"#),
        ] {
            let mut splice = Splice::new(text);
            splice.add_members(part(text), &owned(&[r#""x":1"#, r#""y":2"#])).unwrap();
            assert_eq!(splice.finish().unwrap().as_str(), expected);
        }
        for (text, prepended, appended) in [
            (r#"{"a":[]}"#, r#"{"a":[7]}"#, r#"{"a":[7]}"#),
            (r#"{"a":[ 1 ]}"#, r#"{"a":[7, 1 ]}"#, r#"{"a":[ 1 ,7]}"#),
        ] {
            let mut splice = Splice::new(text);
            splice.prepend(part(text), &owned(&["7"])).unwrap();
            assert_eq!(splice.finish().unwrap().as_str(), prepended);
            let mut splice = Splice::new(text);
            splice.append(part(text), &owned(&["7"])).unwrap();
            assert_eq!(splice.finish().unwrap().as_str(), appended);
        }
    }

    #[test]
    fn changes_may_come_in_any_order() {
        let text = r#"{"b":0,"a":[1]}"#;
        let mut splice = Splice::new(text);
        splice.add_members(whole(text), &owned(&[r#""c":3"#])).unwrap();
        splice.prepend(part(text), &owned(&["0"])).unwrap();
        assert_eq!(splice.finish().unwrap().as_str(), r#"{"b":0,"a":[0,1],"c":3}"#);
    }

    #[test]
    fn a_value_of_another_text_and_overlapping_changes_are_refused() {
        let (one, other) = (r#"{"a":1}"#.to_owned(), r#"{"a":1}"#.to_owned());
        assert_eq!(Splice::new(&one).replace(part(&other), "2".to_owned()), Err(SpliceError));
        let text = r#"{"a":[1]}"#;
        let mut splice = Splice::new(text);
        splice.replace(whole(text), "null".to_owned()).unwrap();
        splice.replace(part(text), "null".to_owned()).unwrap();
        assert_eq!(splice.finish().err(), Some(SpliceError));
    }

    #[test]
    fn text_becomes_a_json_string_whatever_is_in_it() {
        for text in ["", "plain", "\"\\\u{8}\u{c}\n\r\t\0\u{1f}", "wörd \u{1f511}"] {
            let json = json_string(text);
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
