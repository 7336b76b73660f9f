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

/// The appendix's secrets: these digits, repeated to the length of the hash (RFC errata 2866).
fn rfc_secret(length: usize) -> Vec<u8> {
    b"1234567890".iter().copied().cycle().take(length).collect()
}

fn code(totp: &Totp, time: u64) -> String {
    totp.code_at(time).code.expose_secret().to_owned()
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
    for (index, (name, length)) in [("SHA1", 20), ("SHA256", 32), ("SHA512", 64)].into_iter().enumerate() {
        let secret = encoding::BASE32_NOPAD.encode(&rfc_secret(length));
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

    let odd = Totp::parse("otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&period=7").unwrap();
    assert_eq!((odd.code_at(20).expires_at, odd.code_at(20).period_seconds), (21, 7));
    assert_eq!(code(&odd, 14), code(&odd, 20));
    assert_ne!(code(&odd, 20), code(&odd, 21));

    let longest = Totp::parse("otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&period=4294967295").unwrap();
    assert_eq!(longest.code_at(u64::MAX).expires_at, u64::MAX, "an end beyond time is the end of time");
}

#[test]
fn a_bare_secret_is_read_as_people_write_it() {
    let expected = code(&Totp::new(b"12345678901234567890".to_vec()).unwrap(), 59);
    for text in [
        "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
        "gezdgnbvgy3tqojqgezdgnbvgy3tqojq",
        "gezd gnbv gy3t qojq gezd gnbv gy3t qojq",
        "GEZD-GNBV-GY3T-QOJQ-GEZD-GNBV-GY3T-QOJQ",
        "  GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ====\n",
        "otpauth://totp/?secret=gezd%20gnbv+gy3t qojqgezdgnbvgy3tqojq%3D%3D",
        "OTPAUTH://TOTP/x?SECRET=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ#fragment",
        "otpauth://totp/A:b?issuer=C&secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&image=https%3A%2F%2Fx&algorithm=HmacSHA1",
        "otpauth://totp?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
    ] {
        assert_eq!(code(&Totp::parse(text).unwrap(), 59), expected, "{text}");
    }
}

#[test]
fn a_short_secret_is_good_enough() {
    // 80 bits, which many sites issue although RFC 4226 requires 128.
    assert!(Totp::parse("JBSWY3DPEHPK3PXP").is_ok());
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (text, error) in [
        ("", TotpError::MissingSecret),
        ("  ", TotpError::MissingSecret),
        ("====", TotpError::MissingSecret),
        ("otpauth://totp/x", TotpError::MissingSecret),
        ("otpauth://totp/x?secret=", TotpError::MissingSecret),
        ("123456", TotpError::InvalidSecret),
        ("not base32!", TotpError::InvalidSecret),
        ("otpauth://totp/x?secret=18", TotpError::InvalidSecret),
        ("https://example.com/?secret=GEZDGNBV", TotpError::InvalidUrl),
        ("otpauth://hotp/x?secret=GEZDGNBV&counter=1", TotpError::Hotp),
        ("otpauth://yaotp/x?secret=GEZDGNBV", TotpError::UnknownType),
        ("otpauth://totp/x?secret=GEZDGNBV&algorithm=MD5", TotpError::Algorithm),
        ("otpauth://totp/x?secret=GEZDGNBV&digits=5", TotpError::Digits),
        ("otpauth://totp/x?secret=GEZDGNBV&digits=9", TotpError::Digits),
        ("otpauth://totp/x?secret=GEZDGNBV&digits=", TotpError::Digits),
        ("otpauth://totp/x?secret=GEZDGNBV&period=0", TotpError::Period),
        ("otpauth://totp/x?secret=GEZDGNBV&period=-30", TotpError::Period),
        ("otpauth://totp/x?secret=GEZDGNBV&period=30.5", TotpError::Period),
    ] {
        assert_eq!(Totp::parse(text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn an_error_is_a_sentence_for_a_person() {
    let error = Error::from(TotpError::Hotp);
    assert_eq!(error.code, crate::ErrorCode::Unsupported);
    assert_eq!(error.message, "Counter-based one-time passwords (HOTP) are not supported.");
}

#[test]
fn the_secret_is_not_printed() {
    let totp = Totp::parse("JBSWY3DPEHPK3PXP").unwrap();
    let printed = format!("{totp:?} {:?}", totp.code_at(59));
    assert!(
        !printed.contains("Hello") && !printed.contains("JBSWY") && !printed.contains(&code(&totp, 59)),
        "{printed}"
    );
}

/// Times and codes of a throw-away account, from KeePassXC's tests (`TestTotp.cpp`).
#[test]
fn steam_writes_its_codes_in_letters() {
    const SECRET: &str = "63BEDWCQZKTQWPESARIERL5DTTQFCJTK";
    for text in [
        format!("otpauth://totp/x?secret={SECRET}&encoder=steam"),
        format!("otpauth://steam/x?secret={SECRET}"),
        format!("steam://{SECRET}"),
    ] {
        let totp = Totp::parse(&text).unwrap();
        assert_eq!((code(&totp, 1_511_200_518), code(&totp, 1_511_200_714)), ("FR8RV".into(), "9P3VP".into()));
    }
}
