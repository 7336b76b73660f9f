//! What the provider for 1Password reads.

use std::str;

use keyway_provider_onepassword::fuzzing;

use crate::bytes::Bytes;
use crate::target::Target;

/// Texts in the place of a token.
pub(crate) const TOKEN: Target = Target {
    name: "token",
    run: |input| str::from_utf8(input).map_or((), fuzzing::token),
    longest: 1_024,
    inputs: 1_000_000,
    seeds: &[
        ("the beginning of a token", "ops_eyJzaWduSW5BZGRyZXNzIjoibXkuMXBhc3N3b3JkLmNvbSJ9"),
        ("copied with a header", "Authorization: Bearer ops_eyJhIjoxfQ"),
        ("in quotation marks", "\u{201c}ops_eyJhIjoxfQ\u{201d},"),
        ("another product", "hvs.CAESIJlongtokenlongtoken"),
        ("an invisible character", "ops_\u{200b}eyJhIjoxfQ"),
    ],
    words: &["ops_", "eyJ", "Bearer", "A3-", "op://", "ghp_", "AKIA", "dp.", "0.", "\u{feff}", "\u{ad}", "=", "\""],
};

/// What a token holds.
pub(crate) const TOKEN_CONTENT: Target = Target {
    name: "token-content",
    run: fuzzing::token_of,
    longest: 1_024,
    inputs: 1_000_000,
    seeds: &[
        ("all members", TOKEN_JSON),
        ("a foreign address", r#"{"signInAddress":"https://a:b@my.1password.com.example:8443/x?y#z","email":"a"}"#),
    ],
    words: &[
        "\"signInAddress\":",
        "\"email\":",
        "\"secretKey\":",
        "\"srpX\":",
        "\"muk\":",
        "\"throttleSecret\":",
        "\"deviceUuid\":",
        "\"kty\":\"oct\"",
        "\"alg\":\"A256GCM\"",
        "my.1password.com",
        "1password.eu",
        "https://",
        "http://",
        ":443",
        "@",
        "xn--",
        "\\u0000",
        "null",
    ],
};

/// The secrets are zeros and letters.
const TOKEN_JSON: &str = concat!(
    r#"{"signInAddress":"my.1password.com","userAuth":{"method":"SRPg-4096"},"email":"A@example.com","#,
    r#""secretKey":"A3-ABCDEF-GHIJKL-MNOPQ","srpX":"0000000000000000000000000000000000000000000000000000000000000000","#,
    r#""muk":{"kty":"oct","alg":"A256GCM","kid":"mp","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},"#,
    r#""throttleSecret":{"seed":"0000000000000000000000000000000000000000000000000000000000000000","uuid":"u"},"#,
    r#""deviceUuid":"d"}"#
);

pub(crate) const REFERENCE: Target = Target {
    name: "reference",
    run: |input| str::from_utf8(input).map_or((), fuzzing::reference),
    longest: 256,
    inputs: 5_000_000,
    seeds: &[
        ("two ids", "op://mhlxx5y45opqk7p7prulriztqq/ch4arxhoemrdclbxyixyesgyt4"),
        ("a field", "OP://mhlxx5y45opqk7p7prulriztqq/ch4arxhoemrdclbxyixyesgyt4/section/password?attribute=otp"),
        ("names", "op://Private Vault/Größe"),
    ],
    words: &["op://", "OP://", "?attribute=", "/", "\u{a0}"],
};

/// Answers of the server, with their status, and what was in their envelopes.
pub(crate) const ANSWER: Target = Target {
    name: "answer",
    run: |input| {
        let mut bytes = Bytes::new(input);
        let status = bytes.one_of(&[200, 204, 302, 400, 401, 403, 404, 408, 409, 410, 429, 500, 503, 999]);
        fuzzing::answer(status, bytes.rest());
    },
    longest: 2_048,
    inputs: 1_000_000,
    seeds: &[
        (
            "a list of items",
            concat!(
                "\0",
                r#"{"contentVersion":7,"batchComplete":false,"items":[{"uuid":"ch4arxhoemrdclbxyixyesgyt4","templateUuid":"001","trashed":"N","itemVersion":1,"encOverview":{"cty":"b5+jwk+json","kid":"k","enc":"A256GCM","iv":"AAAAAAAAAAAAAAAA","data":"AAAAAAAAAAAAAAAAAAAAAAAA"}},7]}"#
            ),
        ),
        (
            "an item",
            concat!(
                "\0",
                r#"{"item":{"uuid":"i","templateUuid":"001","createdAt":"t","itemVersion":1,"encOverview":{"cty":"c","kid":"k","enc":"A256GCM","iv":"AAAAAAAAAAAAAAAA","data":"AAAA"},"encDetails":{"cty":"c","kid":"k","enc":"A256GCM","iv":"AAAAAAAAAAAAAAAA","data":"AAAA"},"fileReferences":[1]}}"#
            ),
        ),
        (
            "a vault",
            concat!(
                "\0",
                r#"{"uuid":"v","contentVersion":1,"encAttrs":{"cty":"c","kid":"k","enc":"A256GCM","data":"AAAA"},"combinedAccess":{"acl":96,"encVaultKey":{"cty":"c","kid":"s","enc":"RSA-OAEP","data":"AAAA"}}}"#
            ),
        ),
        (
            "keysets in a circle",
            concat!(
                "\0",
                r#"{"keysets":[{"uuid":"a","encryptedBy":"b","sn":2,"encSymKey":{"cty":"c","kid":"b","enc":"RSA-OAEP","data":"AAAA"},"encPriKey":{"cty":"c","kid":"a","enc":"A256GCM","data":"AAAA"}},{"uuid":"b","encryptedBy":"a","encSymKey":{"cty":"c","kid":"mp","enc":"A256GCM","data":"AAAA"},"encPriKey":{"cty":"c","kid":"b","enc":"A256GCM","data":"AAAA"}}]}"#
            ),
        ),
        // 3 times 5, the smallest numbers that could be a key.
        (
            "a private key",
            concat!("\0", r#"{"kty":"RSA","kid":"a","alg":"RSA-OAEP","n":"Dw","e":"Aw","d":"Aw","p":"Aw","q":"BQ"}"#),
        ),
        (
            "an overview",
            concat!("\0", r#"{"title":"t","url":"https://user:pass@example.com:8443/a?b=c#d","ainfo":"u"}"#),
        ),
        ("what became of a change", concat!("\0", r#"{"updatedItems":{"i":2},"failedItems":{"j":104}}"#)),
        ("an error", concat!("\u{3}", r#"{"errorCode":102,"reason":"r"}"#)),
        ("a delay", concat!("\u{a}", r#"{"retryAfter":1.5e1}"#)),
    ],
    words: &[
        "\"items\":[",
        "\"encOverview\":",
        "\"encDetails\":",
        "\"trashed\":\"Y\"",
        "\"title\":",
        "\"url\":",
        "\"errorCode\":",
        "\"retry_after\":",
        "\"encryptedBy\":",
        "\"keysets\":[",
        "\"name\":",
        "null",
        "1e999",
        "\\ud800",
        "$serde_json::private::RawValue",
        "https://",
        "javascript:",
    ],
};

/// A change of an item: which one, and the texts of the item.
pub(crate) const EDIT: Target = Target {
    name: "edit",
    run: |input| {
        let mut bytes = Bytes::new(input);
        let (is_login, username, password) = (bytes.flag(), bytes.maybe(Bytes::text), bytes.maybe(Bytes::text));
        if let Ok(rest) = str::from_utf8(bytes.rest()) {
            // No JSON has this character as it is.
            let (details, overview) = rest.split_once('\u{1}').unwrap_or((rest, "{}"));
            fuzzing::edit(details, overview, is_login, username.as_deref(), password.as_deref());
        }
    },
    longest: 2_048,
    inputs: 2_000_000,
    seeds: &[
        (
            "a login",
            concat!(
                "\u{1}\u{1}\u{1}\0\u{1}\u{1}\0",
                r#"{"fields":[{"type":"T","designation":"username","id":"u","value":"x"},{"designation":"password","value":"o"}],"passwordHistory":[{"value":"older","time":1}],"sections":[{"fields":[{"n":"TOTP_1","k":"concealed","v":"JBSWY3DP"}]}],"notesPlain":""}"#,
                "\u{1}",
                r#"{"title":"t","ainfo":"x"}"#
            ),
        ),
        (
            "a login without fields",
            concat!(
                "\u{1}\u{1}\u{1}\0\u{1}\u{1}\u{1}",
                r#"{"fields":null,"passwordHistory":null,"n":-0.0,"big":12345678901234567890123}"#
            ),
        ),
        (
            "fields by their ids",
            concat!(
                "\u{1}\u{1}\u{1}\0\u{1}\u{1}\u{1}",
                r#"{"fields":[{"id":"username","value":null},{"id":"password","designation":"","\u0076alue":"\u006f"}]}"#
            ),
        ),
        ("a password", concat!("\0\0\u{1}\u{1}\0", r#"{"password":"o","fields":[7,{}]}"#)),
        (
            "a form that the ids belong to",
            concat!(
                "\u{1}\u{1}\u{1}\0\u{1}\u{1}\u{1}",
                r#"{"fields":[{"id":"username","designation":"other"}],"sections":[{"fields":[{"n":"password","v":1}]}]}"#
            ),
        ),
    ],
    words: &[
        "\"fields\":[",
        "\"designation\":",
        "\"password\"",
        "\"username\"",
        "\"value\":",
        "\"id\":",
        "\"sections\":[",
        "\"passwordHistory\":",
        "\"n\":\"TOTP_",
        "\"k\":\"concealed\"",
        "\"v\":",
        "\"ainfo\":",
        "null",
        "\\u0061",
        "[]",
        "{}",
        "\u{1}",
        "$serde_json::private::RawValue",
    ],
};
