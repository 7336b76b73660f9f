//! JSON serialisation that leaves no copies behind: a growing vector moves its contents and frees
//! the old memory unwiped.

use std::io;

use serde::Serialize;
use zeroize::Zeroizing;

/// Enough for most bodies and sessions, so that growth is rare.
const FIRST_BYTES: usize = 4096;

#[derive(Default)]
struct Writer(Zeroizing<Vec<u8>>);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two().max(FIRST_BYTES)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The value as JSON.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let mut writer = Writer::default();
    serde_json::to_writer(&mut writer, value)?;
    Ok(writer.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_writes_what_serde_json_writes() {
        for length in [0, 10, 4_094, 4_095, 4_096, 100_000] {
            let value = vec!["x".repeat(length), "ü\n".into()];
            assert_eq!(*to_json(&value).unwrap(), serde_json::to_vec(&value).unwrap(), "{length}");
        }
    }
}
