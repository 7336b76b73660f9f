//! The chain: each line of the log carries a MAC over itself and the MAC of the line before it.
//!
//! ```text
//! mac(line) = HMAC-SHA256(audit key, mac(line before) | the line up to its mac)
//! {"number":17,"at":"2026-..",...,"mac":"<64 hexadecimal digits>"}
//! ```
//!
//! Without the audit key, a line that is forged, changed, moved or removed from the middle breaks
//! the chain at that place. A chain alone cannot show that lines are missing at its end; *anchors*
//! can. An anchor is a MAC over the number and MAC of the last line that is safe on the disk.
//! Anchors are kept in the database.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The purpose under which the key is derived from the host key. The host key survives a
/// replacement of the master key, so old records stay verifiable.
pub const AUDIT_KEY: &str = "keyway.v1.audit-log";

/// A MAC.
pub(crate) type Tag = [u8; 32];

/// The MAC before the first line of a series.
pub(crate) const START: Tag = [0; 32];

/// The last line of a series so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) number: u64,
    #[serde(rename = "mac", with = "crate::hexadecimal")]
    pub(crate) tag: Tag,
}

impl Head {
    /// Before the first line.
    pub(crate) const NONE: Self = Self { number: 0, tag: START };

    /// Whether a series that ends here still has everything that a root with `vouched` vouches for.
    /// It may have more. `before` is the head before the header that this is.
    pub(crate) fn may_follow(&self, before: Option<&Self>, vouched: &Self) -> bool {
        vouched.number < self.number || [Some(self), before].contains(&Some(vouched)) || vouched.number == 0
    }
}

const MEMBER: &[u8] = br#","mac":""#;
const END: &[u8] = br#""}"#;
pub(crate) const TAG_CHARS: usize = 64;
const SUFFIX: usize = MEMBER.len() + TAG_CHARS + END.len();

/// The key of the chain. Wiped when dropped; prints as a placeholder.
#[derive(Clone)]
pub struct AuditKey {
    // The state after the key's block, which saves a key schedule for each line. `hmac` wipes the
    // clone that each line uses.
    line: Hmac<Sha256>,
}

impl std::fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditKey([REDACTED])")
    }
}

impl AuditKey {
    /// Makes a key of these bytes.
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    pub fn new(key: &[u8; 32]) -> Self {
        Self { line: Hmac::new_from_slice(key).expect("HMAC takes keys of any length") }
    }

    /// The MAC of a line that is complete except for its `mac` member.
    pub(crate) fn tag(&self, previous: &Tag, line: &[u8]) -> Tag {
        let mut mac = self.line.clone();
        mac.update(previous);
        mac.update(line);
        mac.finalize().into_bytes().into()
    }

    /// The MAC of an anchor: how far one series had come, in releases that had no root. Its input
    /// begins with a text, that of a line with the previous MAC, so neither can stand in for the
    /// other.
    pub(crate) fn anchor(&self, series: u32, number: u64, tag: &Tag) -> Tag {
        let mut mac = self.line.clone();
        mac.update(b"keyway.v1.audit-anchor");
        mac.update(&series.to_be_bytes());
        mac.update(&number.to_be_bytes());
        mac.update(tag);
        mac.finalize().into_bytes().into()
    }

    /// Whether an anchor was made with this key.
    pub(crate) fn is_anchor(&self, series: u32, number: u64, tag: &Tag, mac: &Tag) -> bool {
        self.anchor(series, number, tag).ct_eq(mac).into()
    }

    /// A number that stands for a record, and tells nothing about how many there are. It fits into
    /// the integers of JavaScript.
    pub(crate) fn pseudonym(&self, series: u32, number: u64) -> u64 {
        let mut mac = self.line.clone();
        mac.update(b"keyway.v1.audit-pseudonym");
        mac.update(&series.to_be_bytes());
        mac.update(&number.to_be_bytes());
        let tag: Tag = mac.finalize().into_bytes().into();
        tag.first_chunk().map_or(0, |first| u64::from_be_bytes(*first) >> 11)
    }

    /// Encrypts the contents of a cursor, deterministically: with HMAC as the pseudorandom function
    /// of the SIV construction (Rogaway and Shrimpton, 2006). A cursor needs no nonce, and no
    /// further key.
    pub(crate) fn seal_cursor(&self, plain: Vec<u8>) -> Vec<u8> {
        let iv = self.cursor_iv(&plain);
        [iv.to_vec(), self.encrypt_cursor(&iv, plain)].concat()
    }

    /// Decrypts the contents of a cursor. `None` if it was not sealed with this key.
    pub(crate) fn open_cursor(&self, mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let iv = *sealed.first_chunk::<16>()?;
        let plain = self.encrypt_cursor(&iv, sealed.split_off(iv.len()));
        bool::from(self.cursor_iv(&plain).ct_eq(&iv)).then_some(plain)
    }

    fn cursor_iv(&self, plain: &[u8]) -> [u8; 16] {
        let mut mac = self.line.clone();
        mac.update(b"keyway.v1.audit-cursor-iv");
        mac.update(plain);
        let tag: Tag = mac.finalize().into_bytes().into();
        tag.first_chunk().copied().unwrap_or_default()
    }

    fn encrypt_cursor(&self, iv: &[u8; 16], mut text: Vec<u8>) -> Vec<u8> {
        for (counter, block) in (0_u32..).zip(text.chunks_mut(START.len())) {
            let mut mac = self.line.clone();
            mac.update(b"keyway.v1.audit-cursor-stream");
            mac.update(iv);
            mac.update(&counter.to_be_bytes());
            let stream: Tag = mac.finalize().into_bytes().into();
            block.iter_mut().zip(stream).for_each(|(byte, stream)| *byte ^= stream);
        }
        text
    }

    /// Finishes the line that begins in `out` at `from`, a JSON object without its closing brace:
    /// adds the MAC, the brace and the line feed.
    pub(crate) fn finish(&self, previous: &Tag, out: &mut Vec<u8>, from: usize) -> Tag {
        let tag = self.tag(previous, out.get(from..).unwrap_or_default());
        out.extend_from_slice(MEMBER);
        out.extend_from_slice(HEXLOWER.encode(&tag).as_bytes());
        out.extend_from_slice(END);
        out.push(b'\n');
        tag
    }

    /// Whether the line follows one with the MAC `previous`.
    pub(crate) fn follows(&self, previous: &Tag, line: &Line<'_>) -> bool {
        self.tag(previous, line.body).ct_eq(&line.tag).into()
    }
}

/// The parts of a line. `line` is without its line feed.
pub(crate) struct Line<'a> {
    /// What the MAC covers.
    pub(crate) body: &'a [u8],
    /// The MAC that the line carries.
    pub(crate) tag: Tag,
}

impl<'a> Line<'a> {
    /// `None` for text that does not have the form of a line.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let (body, suffix) = line.split_at_checked(line.len().checked_sub(SUFFIX)?)?;
        let hex = suffix.strip_prefix(MEMBER)?.strip_suffix(END)?;
        let mut tag = START;
        // Lower case only: the log has one spelling, and it wrote no other.
        let is_lower = !hex.iter().any(u8::is_ascii_uppercase);
        (is_lower && HEXLOWER_PERMISSIVE.decode_mut(hex, &mut tag).is_ok()).then_some(Self { body, tag })
    }
}

/// A MAC in hexadecimal digits.
pub(crate) fn hex(tag: &Tag) -> String {
    HEXLOWER.encode(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> AuditKey {
        AuditKey::new(&[byte; 32])
    }

    fn line(key: &AuditKey, previous: &Tag, body: &str) -> (Vec<u8>, Tag) {
        let mut out = body.as_bytes().to_vec();
        let tag = key.finish(previous, &mut out, 0);
        assert_eq!(out.pop(), Some(b'\n'));
        (out, tag)
    }

    #[test]
    fn a_line_follows_the_one_it_was_made_for_and_no_other() {
        let key = key(1);
        let (first, first_tag) = line(&key, &START, r#"{"number":1"#);
        let (second, _) = line(&key, &first_tag, r#"{"number":2"#);
        let parsed = Line::parse(&second).unwrap();
        assert!(key.follows(&first_tag, &parsed));
        assert!(!key.follows(&START, &parsed));
        assert!(!super::tests::key(2).follows(&first_tag, &parsed));
        assert!(key.follows(&START, &Line::parse(&first).unwrap()));
        // It is JSON, too.
        let json: serde_json::Value = serde_json::from_slice(&second).unwrap();
        assert_eq!((json["number"].as_u64(), json["mac"].as_str().unwrap().len()), (Some(2), 64));
    }

    #[test]
    fn a_line_with_another_body_or_mac_does_not_follow() {
        let key = key(1);
        let (original, _) = line(&key, &START, r#"{"number":1,"at":"x""#);
        for position in 0..original.len() {
            let mut changed = original.clone();
            changed[position] ^= 1;
            assert!(!Line::parse(&changed).is_some_and(|line| key.follows(&START, &line)), "byte {position}");
        }
        for length in 0..original.len() {
            assert!(!Line::parse(&original[..length]).is_some_and(|line| key.follows(&START, &line)));
        }
    }

    #[test]
    fn an_anchor_is_of_one_series_and_number() {
        let key = key(1);
        let mac = key.anchor(1, 7, &[5; 32]);
        assert!(key.is_anchor(1, 7, &[5; 32], &mac));
        for (series, number, tag) in [(2, 7, [5; 32]), (1, 8, [5; 32]), (1, 7, [6; 32])] {
            assert!(!key.is_anchor(series, number, &tag, &mac));
        }
    }

    /// Old logs must stay verifiable, so the way MACs are made must not change by accident.
    /// Computed with Python's `hmac`.
    #[test]
    fn macs_are_frozen() {
        assert_eq!(hex(&key(7).tag(&START, br#"{"number":1"#)), LINE);
        assert_eq!(hex(&key(7).anchor(1, 2, &[3; 32])), ANCHOR);
    }

    const LINE: &str = "02b2a2249f369040370f02855111ae4e2c95093cecaf70f129cfc2f4fd8ef6fb";
    const ANCHOR: &str = "a2d02a332662e64bb6c0c4fa4f2dd660a958e858b198826d18a9c54dbaf3246b";
}
