//! A MAC as a member of a JSON object.

use data_encoding::HEXLOWER;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

use crate::chain::{START, TAG_CHARS, Tag, hex};

pub(crate) fn serialize<S: Serializer>(tag: &Tag, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(tag))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tag, D::Error> {
    let (text, mut tag) = (String::deserialize(deserializer)?, START);
    let is_tag = text.len() == TAG_CHARS && HEXLOWER.decode_mut(text.as_bytes(), &mut tag).is_ok();
    is_tag.then_some(tag).ok_or_else(|| D::Error::custom("not a MAC"))
}
