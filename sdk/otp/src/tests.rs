use data_encoding::BASE32_NOPAD;
use secrecy::ExposeSecret;

use super::*;

/// RFC 6238, appendix B: time, and the codes with SHA-1, SHA-256 and SHA-512.
const VECTORS: [(u64, [&str; 3]); 6] = [
    (59, ["94287082", "46119246", "90693936"]),
    (1_111_111_109, ["07081804", "68084774", "25091201"]),
    (1_111_111_111, ["14050471", "67062674", "99943326"]),
    (1_234_567_890, ["89005924", "91819424", "93441116"]),
    (2_000_000_000, ["69279037", "90698825", "38618901"]),
    (20_000_000_000, ["65353130", "77737706", "47863826"]),
];

/// The appendix's secret for SHA-1 in base32.
const S: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

/// A throw-away Steam account, from KeePassXC's tests (`TestTotp.cpp`).
const STEAM: &str = "63BEDWCQZKTQWPESARIERL5DTTQFCJTK";

/// The appendix's secrets: these digits, repeated to the length of the hash (RFC errata 2866).
fn rfc_secret(length: usize) -> Vec<u8> {
    b"1234567890".iter().copied().cycle().take(length).collect()
}

fn code(totp: &Totp, time: u64) -> String {
    totp.code_at(time).code.expose_secret().to_owned()
}

/// The code of a text at 59 s.
fn at_59(text: &str) -> Result<String, TotpError> {
    Totp::parse(text).map(|totp| code(&totp, 59))
}

#[test]
fn the_codes_are_those_of_rfc_6238() {
    let hashes = [(Algorithm::Sha1, 20), (Algorithm::Sha256, 32), (Algorithm::Sha512, 64)];
    for (index, (algorithm, length)) in hashes.into_iter().enumerate() {
        let totp = Totp::new(rfc_secret(length)).unwrap().algorithm(algorithm).digits(Digits::Eight);
        for (time, codes) in VECTORS {
            assert_eq!(code(&totp, time), codes[index], "{algorithm:?} at {time}");
        }
    }
}

#[test]
fn the_codes_of_a_url_are_those_of_rfc_6238() {
    for (index, (name, length)) in [("SHA1", 20), ("SHA-256", 32), ("HmacSHA512", 64)].into_iter().enumerate() {
        let secret = BASE32_NOPAD.encode(&rfc_secret(length));
        let url = format!(
            "otpauth://totp/ACME%20Co:ada@example.com?secret={secret}&issuer=ACME%20Co&algorithm={name}&digits=8&period=30"
        );
        for (time, codes) in VECTORS {
            assert_eq!(code(&Totp::parse(&url).unwrap(), time), codes[index], "{name} at {time}");
        }
    }
}

#[test]
fn shorter_codes_are_the_last_digits() {
    let secret = rfc_secret(20);
    for (digits, expected) in [(Digits::Six, "081804"), (Digits::Seven, "7081804"), (Digits::Eight, "07081804")] {
        assert_eq!(code(&Totp::new(secret.clone()).unwrap().digits(digits), 1_111_111_109), expected);
    }
}

#[test]
fn a_code_ends_with_its_period() {
    let usual = Totp::new(rfc_secret(20)).unwrap();
    for (time, expires_at) in [(0, 30), (29, 30), (30, 60), (59, 60), (1_111_111_109, 1_111_111_110)] {
        assert_eq!((usual.code_at(time).expires_at, usual.code_at(time).period_seconds), (expires_at, 30), "{time}");
    }
    assert_ne!(code(&usual, 59), code(&usual, 60));

    let odd = Totp::parse(&format!("otpauth://totp/x?secret={S}&period=7")).unwrap();
    assert_eq!((odd.code_at(20).expires_at, odd.code_at(20).period_seconds), (21, 7));
    assert_eq!(code(&odd, 14), code(&odd, 20));
    assert_ne!(code(&odd, 20), code(&odd, 21));
    let slow = Totp::parse(&format!("otpauth://totp/x?secret={S}&period=300")).unwrap();
    assert_eq!((slow.code_at(0).expires_at, slow.code_at(0).period_seconds), (300, 300));

    let longest = Totp::new(rfc_secret(20)).unwrap().period(NonZeroU32::MAX);
    assert_eq!(longest.code_at(u64::MAX).expires_at, u64::MAX, "an end beyond time is the end of time");
}

#[test]
fn a_secret_is_read_as_people_write_it() {
    for text in [
        S,
        "gezdgnbvgy3tqojqgezdgnbvgy3tqojq",
        "gezd gnbv gy3t qojq gezd gnbv gy3t qojq",
        "GEZD-GNBV-GY3T-QOJQ-GEZD-GNBV-GY3T-QOJQ",
        "  GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ====\n",
        "\u{feff}GEZDGNBVGY3TQOJQ\u{200b}GEZDGNBVGY3TQOJQ\u{a0}",
        "otpauth://totp/?secret=gezd%20gnbv+gy3t qojqgezdgnbvgy3tqojq%3D%3D",
        "OTPAUTH://TOTP/x?SECRET=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ#fragment",
        "otpauth://totp/A:b?issuer=C&secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&image=https%3A%2F%2Fx&algorithm=HmacSHA1",
        "otpauth://totp?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
        "otpauth://totp/x?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&algorithm=&digits=6&period=30&counter=1",
    ] {
        assert_eq!(at_59(text).as_deref(), Ok("287082"), "{text}");
    }
    // 80 bits, which many sites issue although RFC 4226 requires 128.
    assert!(Totp::parse("JBSWY3DPEHPK3PXP").is_ok());
}

#[test]
fn the_parameters_begin_where_a_known_one_does() {
    for (text, expected) in [
        (format!("otpauth://totp/Game:player#1234?secret={S}&issuer=Game"), "287082"),
        (format!("otpauth://totp/Forum:who?me?secret={S}"), "287082"),
        (format!("otpauth://totp/Forum:who?me&you?secret={S}&digits=8"), "94287082"),
        (format!("otpauth://totp/Forum:who?me?issuer=Forum&secret={S}&digits=8"), "94287082"),
        (format!("otpauth://totp/x?digits=8&issuer=What?&secret={S}"), "94287082"),
        (format!("otpauth://totp/x?first=1&secret={S}&digits=8"), "94287082"),
        (format!("otpauth://totp/x?issuer=Game#1&secret={S}&digits=8"), "94287082"),
        (format!("otpauth://totp/x?image=https://x/?digits=8&secret={S}"), "287082"),
        (format!("otpauth://totp/x?secret={S}&secret={S}&digits=8"), "94287082"),
    ] {
        assert_eq!(at_59(&text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn a_url_that_was_copied_out_of_html_is_read_as_it_was_meant() {
    for ampersand in ["&amp;", "&AMP;", "&#38;", "&#x26;", "&#038;", "&amp;amp;"] {
        let text = format!("otpauth://totp/x?secret={S}{ampersand}digits=8{ampersand}issuer=x");
        assert_eq!(at_59(&text).as_deref(), Ok("94287082"), "{text}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_makes_no_code() {
    for text in [
        format!("otpauth://totp/x?secret={S}&digits=6&digits=8"),
        format!("otpauth://totp/x?secret={S}&secret=JBSWY3DPEHPK3PXP"),
        format!("otpauth://totp/x&digits=8?secret={S}"),
        format!("otpauth://totp/x?a=b&digits=8&image2=https://x/?y&secret={S}"),
        format!("otpauth://totp/x?secret={S}#x&digits=8"),
        format!("otpauth://totp/x?secret={S}&digits=%ff"),
    ] {
        assert_eq!(at_59(&text), Err(TotpError::Ambiguous), "{text}");
    }
    // Neither six digits nor eight.
    assert!(at_59(&format!("otpauth://totp/x?digits=8?secret={S}")).is_err());
    assert!(at_59(&format!("otpauth://totp/a?secret={S}\notpauth://totp/b?secret={S}")).is_err());
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (text, error) in [
        ("", TotpError::MissingSecret),
        ("  ", TotpError::MissingSecret),
        ("====", TotpError::MissingSecret),
        ("otpauth://totp/x", TotpError::MissingSecret),
        ("otpauth://totp/x?", TotpError::MissingSecret),
        ("otpauth://totp/x?secret=", TotpError::MissingSecret),
        ("123456", TotpError::InvalidSecret),
        ("0189!", TotpError::InvalidSecret),
        ("not base32!", TotpError::InvalidSecret),
        ("GEZDGNBVGY3TQOJQG", TotpError::InvalidSecret),
        ("otpauth://totp/x?secret=18", TotpError::InvalidSecret),
        ("otpauth://totp/x?secret=GEZDGNBV%253D", TotpError::InvalidSecret),
        ("steam://", TotpError::MissingSecret),
        ("https://example.com/?secret=GEZDGNBV", TotpError::InvalidUrl),
        ("\"otpauth://totp/x?secret=GEZDGNBV\"", TotpError::InvalidUrl),
        ("otpauth://hotp/x?secret=GEZDGNBV&counter=1", TotpError::CounterBased),
        ("otpauth://HOTP/x?me?secret=GEZDGNBV", TotpError::CounterBased),
        ("otpauth-migration://offline?data=CjEKCkhlbGxvId6tvu8", TotpError::Migration),
        ("otpauth://yaotp/x?secret=GEZDGNBV", TotpError::UnknownType),
        ("otpauth://totp/x?secret=GEZDGNBV&algorithm=MD5", TotpError::Algorithm),
        ("otpauth://totp/x?secret=GEZDGNBV&digits=5", TotpError::Digits),
        ("otpauth://totp/x?secret=GEZDGNBV&digits=9", TotpError::Digits),
        ("otpauth://totp/x?secret=GEZDGNBV&digits=10", TotpError::Digits),
        ("otpauth://totp/x?secret=GEZDGNBV&digits=", TotpError::Digits),
        ("otpauth://totp/x?secret=GEZDGNBV&period=0", TotpError::Period),
        ("otpauth://totp/x?secret=GEZDGNBV&period=-30", TotpError::Period),
        ("otpauth://totp/x?secret=GEZDGNBV&period=30.5", TotpError::Period),
        ("otpauth://totp/x?secret=GEZDGNBV&period=4294967296", TotpError::Period),
        ("otpauth://totp/x?secret=GEZDGNBV&period=301", TotpError::Period),
        ("otpauth://totp/x?secret=GEZDGNBV&period=86400", TotpError::Period),
        ("otpauth://totp/Steam:x?secret=GEZDGNBV&digits=8", TotpError::NotLikeSteam),
        ("otpauth://steam/x?secret=GEZDGNBV&algorithm=SHA256", TotpError::NotLikeSteam),
        ("otpauth://totp/x?secret=GEZDGNBV&issuer=steam&period=60", TotpError::NotLikeSteam),
    ] {
        assert_eq!(Totp::parse(text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn steams_codes_are_letters_and_digits_wherever_they_are_meant() {
    for text in [
        format!("otpauth://totp/Steam:gamer?secret={STEAM}&issuer=Steam"),
        format!("otpauth://totp/STEAM%3Agamer?secret={STEAM}"),
        format!("otpauth://totp/gamer?issuer=sTeam&secret={STEAM}&digits=6&algorithm=SHA1&period=30"),
        format!("otpauth://totp/gamer?secret={STEAM}&amp;issuer=Steam"),
        format!("otpauth://totp/x?secret={STEAM}&encoder=steam"),
        format!("otpauth://steam/Steam:gamer?secret={STEAM}&issuer=Steam&digits=5"),
        format!("steam://{STEAM}"),
        format!("Steam://{}", STEAM.to_lowercase()),
    ] {
        let totp = Totp::parse(&text).unwrap();
        let codes = (code(&totp, 1_511_200_518), code(&totp, 1_511_200_714));
        assert_eq!(codes, ("FR8RV".into(), "9P3VP".into()), "{text}");
    }
    for text in [
        format!("otpauth://totp/Steamship:x?secret={S}&issuer=Steamship"),
        format!("otpauth://totp/Game:Steam?secret={S}"),
    ] {
        assert_eq!(at_59(&text).as_deref(), Ok("287082"), "{text}");
    }
}

#[test]
fn an_error_is_a_sentence_for_a_person_and_repeats_no_secret() {
    let error = Totp::parse("otpauth://hotp/x?secret=GEZDGNBV&counter=1").unwrap_err();
    assert_eq!(error.kind(), Kind::CounterBased);
    assert!(error.to_string().starts_with("The one-time password is counter-based"), "{error}");
    for text in ["otpauth://totp/x?secret=hunter18!", "hunter18", "hunter18://x", "otpauth://hunter18/x?secret=S"] {
        let error = Totp::parse(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter18"), "{error}");
    }
}

#[test]
fn neither_the_secret_nor_a_code_is_printed() {
    let totp = Totp::parse("JBSWY3DPEHPK3PXP").unwrap();
    let (code, printed) = (code(&totp, 59), format!("{totp:?} {:?}", totp.code_at(59)));
    assert!(!["Hello", "JBSWY", &code].iter().any(|secret| printed.contains(secret)), "{printed}");
}

/// Every piece of these texts, and what is left without it.
#[test]
fn no_damaged_text_panics() {
    let texts = [
        format!("otpauth://totp/Game:pl?ayer#1?secret={S}&amp;digits=8&issuer=Steam&period=30#x"),
        format!("steam://{S}"),
        "otpauth-migration://offline?data=é%ff".to_owned(),
    ];
    for text in &texts {
        let ends: Vec<_> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        for (number, begin) in ends.iter().enumerate() {
            for end in &ends[number..] {
                let _ = Totp::parse(&text[*begin..*end]).map(|totp| totp.code_at(u64::MAX));
                let without = format!("{}{}", &text[..*begin], &text[*end..]);
                let _ = Totp::parse(&without).map(|totp| totp.code_at(0));
            }
        }
    }
}
