//! Values from the fuzzer's bytes. When no bytes are left, texts are empty and numbers are 0.

use arbitrary::Unstructured;

/// The texts of values: separators and spaces of all kinds, escapes, capitals, characters of one
/// to four bytes, digits.
const ALPHABET: [&str; 32] = [
    "a",
    "b",
    "z",
    "A",
    "0",
    "1",
    "9",
    "-",
    "_",
    ".",
    "/",
    ":",
    "*",
    "{",
    "}",
    "@",
    "\\",
    "\"",
    "'",
    " ",
    "\n",
    "\0",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "é",
    "ß",
    "İ",
    "\u{200b}",
    "\u{feff}",
    "\u{1f511}",
    "\u{10ffff}",
];

/// More characters than any text of the contract may have.
const LONG: usize = 2_001;
/// More elements than any list of the contract may have, except the items of a page.
const MANY: usize = 1_001;

pub(crate) struct Bytes<'a> {
    bytes: Unstructured<'a>,
    /// How many more texts may be long, so that a value stays small enough to run often.
    long: u8,
    /// Whether a list may still have many elements.
    many: bool,
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { bytes: Unstructured::new(input), long: 2, many: true }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes.arbitrary().unwrap_or_default()
    }

    /// Small numbers, edges, and any.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=199 => small.into(),
            200 => u64::MAX,
            201 => u32::MAX.into(),
            202 => u64::from(u32::MAX) + 1,
            _ => self.bytes.arbitrary().unwrap_or_default(),
        }
    }

    pub(crate) fn size(&mut self) -> usize {
        usize::from(self.bytes.arbitrary::<u16>().unwrap_or_default())
    }

    /// One of these.
    pub(crate) fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()].clone()
    }

    /// One of these texts, or another one.
    pub(crate) fn text_like(&mut self, known: &[&str]) -> String {
        if self.byte() % 4 == 0 { self.text() } else { self.one_of(known).to_owned() }
    }

    /// Usually short; now and then longer than any limit.
    pub(crate) fn text(&mut self) -> String {
        let length = self.byte();
        let part: String = (0..length % 32).map(|_| self.one_of(&ALPHABET)).collect();
        if length < 250 || self.long == 0 {
            return part;
        }
        self.long -= 1;
        part.chars().cycle().take(LONG).collect()
    }

    pub(crate) fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    /// Up to seven of them, or very many of the same.
    pub(crate) fn list<T: Clone>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        match self.byte() {
            255 if self.many => {
                (self.many, self.long) = (false, 0);
                vec![make(self); MANY]
            }
            count => (0..count % 8).map(|_| make(self)).collect(),
        }
    }

    pub(crate) fn slice(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.bytes.len());
        self.bytes.bytes(length).unwrap_or_default()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.bytes.take_rest()
    }
}
