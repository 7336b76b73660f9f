//! The notation of values on the command line: a name with a value, an address to listen at, a
//! cache duration.

use jiff::Timestamp;
use keyway::entries::TfaMethod;
use keyway::rotations::RotationState;
use keyway::storage::UnknownName;
use keyway_runtime::egress::{AddressRange, ApprovedDestination, DestinationError};

use crate::serve::listen::UNIX;

pub(super) fn name_and_value(text: &str) -> Result<(String, String), String> {
    pair(text).ok_or_else(|| "write it as NAME=VALUE".to_owned())
}

pub(super) fn name_and_file(text: &str) -> Result<(String, String), String> {
    pair(text).ok_or_else(|| "write it as NAME=FILE".to_owned())
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty())?;
    Some((name.to_owned(), value.to_owned()))
}

/// A provider type with its default tier.
pub(super) fn provider_and_tier(text: &str) -> Result<(String, String), String> {
    pair(text).filter(|(_, tier)| !tier.is_empty()).ok_or_else(|| "write it as TYPE=TIER".to_owned())
}

/// A whole number in a range.
pub(super) fn number(least: u32, most: u32) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("write a number from {least} to {most}"))
    }
}

/// What may have a private address: one destination, or a range of addresses for all of them.
#[derive(Debug, Clone)]
pub(crate) enum Private {
    Destination(ApprovedDestination),
    Range(AddressRange),
}

pub(super) fn private(text: &str) -> Result<Private, String> {
    if text.contains("://") {
        return text.parse().map(Private::Destination).map_err(|error: DestinationError| error.to_string());
    }
    let wrong = |_| "write a destination as https://host:port, or addresses as 198.18.0.0/15".to_owned();
    text.parse().map(Private::Range).map_err(wrong)
}

/// An address to listen at. Listening shows whether it belongs to this machine.
pub(crate) fn address_and_port(text: &str) -> Result<String, String> {
    let wrong = || "write it as ADDRESS:PORT, as in 127.0.0.1:8600 or [::1]:8600; port 0 picks a free port".to_owned();
    let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bracketed = address.starts_with('[') && address.ends_with(']');
    let is_address = !address.is_empty() && (bracketed || !address.contains([':', '[', ']', '/', ' ']));
    if is_address && port.parse::<u16>().is_ok() { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// An address to listen at, or the absolute path of a Unix socket.
pub(super) fn listen(text: &str) -> Result<String, String> {
    match text.strip_prefix(UNIX) {
        Some(path) if path.starts_with('/') => Ok(text.to_owned()),
        Some(_) => Err("write the whole path of a socket, as in unix:/run/keyway/keyway.sock".to_owned()),
        None => address_and_port(text),
    }
}

/// A point in time, with its zone.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "write it as in 2026-11-23T18:00:00Z".to_owned())
}

/// How a second factor arrives.
pub(super) fn tfa_method(text: &str) -> Result<TfaMethod, String> {
    text.parse().map_err(|_: UnknownName| "use AUTHENTICATOR, EMAIL, SMS or MAGIC_LINK".to_owned())
}

/// A state of a rotation.
pub(super) fn rotation_state(text: &str) -> Result<RotationState, String> {
    match text {
        "open" => Err("use --open for all unfinished ones".to_owned()),
        _ => text.parse().map_err(|error: UnknownName| error.to_string()),
    }
}

/// `off`, a number of seconds, or a number with `s`, `m`, `h` or `d`.
pub(super) fn cache_ttl(text: &str) -> Result<u32, String> {
    let wrong = || "write it as off, a number of seconds, or a number with s, m, h or d, as in 5m".to_owned();
    if text == "off" {
        return Ok(0);
    }
    let (number, unit) = match text.char_indices().next_back() {
        Some((end, 's')) => (text.get(..end), 1),
        Some((end, 'm')) => (text.get(..end), 60),
        Some((end, 'h')) => (text.get(..end), 3_600),
        Some((end, 'd')) => (text.get(..end), 86_400),
        _ => (Some(text), 1),
    };
    let digits = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit())).ok_or_else(wrong)?;
    digits.parse::<u32>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_and_a_state_are_told_how_to_be_written() {
        assert_eq!(time("2026-11-23T18:00:00Z").unwrap().as_second(), 1_795_456_800);
        assert!(time("yesterday").unwrap_err().contains("2026-11-23T18:00:00Z"));
        assert_eq!(rotation_state("done"), Ok(RotationState::Done));
        assert!(rotation_state("open").unwrap_err().contains("--open"));
        assert!(rotation_state("finished").unwrap_err().contains("abandoned"));
    }

    #[test]
    fn private_addresses_are_allowed_to_a_destination_or_in_a_range() {
        assert!(matches!(private("https://vault.internal:8200"), Ok(Private::Destination(_))));
        for range in ["198.18.0.0/15", "100.64.3.7", "fd00::/8"] {
            assert!(matches!(private(range), Ok(Private::Range(_))), "{range}");
        }
        for wrong in ["", "vault.internal", "198.18.0.0/64", "ftp://vault.internal"] {
            assert!(private(wrong).unwrap_err().contains("https://host"), "{wrong}");
        }
    }

    #[test]
    fn an_address_to_listen_at_has_a_port() {
        for good in ["127.0.0.1:0", "localhost:8600", "[::1]:65535", "0.0.0.0:1"] {
            assert!(address_and_port(good).is_ok(), "{good}");
        }
        for bad in ["", "nonsense", ":8600", "127.0.0.1", "127.0.0.1:", "a:b", "a:65536", "::1:80", "http://a:80"] {
            assert!(address_and_port(bad).is_err(), "{bad}");
        }
        assert!(listen("unix:/run/keyway.sock").is_ok() && listen("[::1]:0").is_ok());
        assert!(listen("unix:keyway.sock").is_err() && listen("unix:").is_err() && listen("/run/keyway").is_err());
    }

    #[test]
    fn a_cache_duration_is_off_or_a_number_with_or_without_a_unit() {
        let good = [("off", 0), ("0", 0), ("300", 300), ("45s", 45), ("5m", 300), ("24h", 86_400), ("1d", 86_400)];
        for (text, seconds) in good {
            assert_eq!(cache_ttl(text), Ok(seconds), "{text}");
        }
        for text in ["", "-1", "+5", "5 m", "1.5h", "m", "5w", "99999999999", "9999999d"] {
            assert!(cache_ttl(text).is_err(), "{text}");
        }
    }
}
