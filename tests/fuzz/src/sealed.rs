//! One-time passwords, envelopes and clients' values.

use std::str;

use crate::bytes::Bytes;
use crate::target::Target;

pub(crate) const OTPAUTH: Target = Target {
    name: "otpauth",
    run: |input| str::from_utf8(input).map_or((), keyway_otp::fuzzing::otpauth),
    longest: 512,
    inputs: 3_000_000,
    seeds: &[
        (
            "a usual URL",
            "otpauth://totp/Acme:ada?secret=JBSWY3DPEHPK3PXP&issuer=Acme&algorithm=SHA1&digits=6&period=30",
        ),
        ("copied out of HTML", "otpauth://totp/a?secret=JBSWY3DPEHPK3PXP&amp;digits=8&#38;period=60"),
        ("a label with separators", "otpauth://totp/what? & why#1?secret=JBSWY3DPEHPK3PXP&algorithm=HmacSHA512"),
        ("Steam by its label", "otpauth://totp/Steam:ada?secret=JBSWY3DPEHPK3PXP&digits=5"),
        ("Steam by its scheme", "steam://JBSWY3DPEHPK3PXP"),
        ("the bare secret in groups", "jbsw y3dp-ehpk 3pxp===="),
        ("counter-based", "otpauth://hotp/a?secret=JBSWY3DPEHPK3PXP&counter=1"),
        ("an export", "otpauth-migration://offline?data=CjEKCkhlbGxvIQ"),
    ],
    words: &[
        "otpauth://",
        "totp/",
        "steam://",
        "hotp/",
        "secret=",
        "algorithm=",
        "digits=",
        "period=",
        "issuer=",
        "encoder=",
        "image=",
        "counter=",
        "steam",
        "amp;",
        "#38;",
        "#038;",
        "#x26;",
        "%3D",
        "SHA256",
        "SHA512",
        "HMAC",
        "4294967295",
        "%00",
        "+",
        "\u{feff}",
    ],
};

/// Sealed data, and bytes in the place of it.
pub(crate) const ENVELOPE: Target = Target {
    name: "envelope",
    run: |input| {
        let mut bytes = Bytes::new(input);
        match bytes.byte() % 4 {
            0 => keyway_keys::fuzzing::not_an_envelope(bytes.rest()),
            1 => {
                let one = (bytes.byte(), bytes.text(), bytes.slice(), bytes.text());
                let other = (bytes.byte(), bytes.text(), bytes.slice(), bytes.text());
                keyway_keys::fuzzing::places((one.0, &one.1, one.2, &one.3), (other.0, &other.1, other.2, &other.3));
            }
            2 => str::from_utf8(bytes.rest()).map_or((), keyway_keys::fuzzing::master_key),
            _ => {
                let (at, by, associated, other) = (bytes.size(), bytes.byte(), bytes.slice(), bytes.slice());
                keyway_keys::fuzzing::envelope(bytes.rest(), associated, other, at, by);
            }
        }
    },
    longest: 512,
    inputs: 1_200_000,
    seeds: &[
        ("a master key", "\u{2}0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef\n"),
        ("the shortest envelope", "\0\u{1}\0\0\0\u{1}............................"),
        ("a plaintext", "\u{3}\0\0\u{1}\u{1}a\u{1}btext"),
    ],
    words: &[],
};

pub(crate) const CLIENT_VALUE: Target = Target {
    name: "client-value",
    run: |input| {
        let mut bytes = Bytes::new(input);
        let (at, by) = (bytes.size(), bytes.byte());
        if let Ok(text) = str::from_utf8(bytes.rest()) {
            keyway_keys::fuzzing::client_value(text, at, by);
        }
    },
    longest: 512,
    inputs: 1_500_000,
    seeds: &[
        ("a text in JSON", "\0\0\u{1}\"caf\\u00e9 \\ud83d\\udd11\""),
        ("null", "\0\0\u{1}null"),
        ("digits", "\0\0\u{1}000102030405060708090a0b0c0d0e0f101112131415161718191a1b"),
    ],
    words: &["null", "\\u0000", "\\ud83d", "\\udd11", "true", "{}", "[]"],
};
