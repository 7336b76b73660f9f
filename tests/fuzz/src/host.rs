//! Values of the contract, as a component may say them and a person may enter them.

use std::str;

use keyway_runtime::contract::{
    Alternative, Attribute, Capabilities, ChoiceOption, CountedRequests, Description, FieldKind, FieldSpec, FieldValue,
    Fields, Item, ItemPage, LimitScope, NoCode, NoCodeReason, OneTimeCode, RateLimit, RateLimitTier, Resolved,
    Selection, SettingGroup, SettingKind, SettingSpec, Settings, Verified,
};
use keyway_runtime::fuzzing::{self, CANARY, NOW};

use crate::bytes::Bytes;
use crate::target::Target;

/// What a provider declares, and what is entered for it.
pub(crate) const DESCRIPTION: Target = Target {
    name: "description",
    run: |input| {
        let mut bytes = Bytes::new(input);
        let mut description = description(&mut bytes);
        // Most checks come after those of the names.
        if bytes.byte() % 4 != 0 {
            plain_names(&mut description);
        }
        let mut settings = Settings::new();
        for (name, value) in bytes.list(|bytes| (bytes.text_like(&NAMES), value(bytes))) {
            settings.set(name, value);
        }
        fuzzing::description(&description, &settings);
        fuzzing::template(&bytes.text_like(&DESTINATIONS), &description, &value(&mut bytes));
    },
    longest: 1_024,
    inputs: 700_000,
    seeds: &[],
    words: &[],
};

/// What it answers: an item's values, a page of items, an account.
pub(crate) const RESOLVED: Target = Target {
    name: "resolved",
    run: |input| {
        let mut bytes = Bytes::new(input);
        let asked =
            Selection::from(Fields { username: bytes.flag(), password: bytes.flag(), one_time_code: bytes.flag() });
        let asked = asked.further(bytes.list(|bytes| bytes.text_like(&NAMES)));
        fuzzing::resolved(resolved(&mut bytes), &asked);
        let mut scheme = Description::default();
        scheme.reference_scheme = "x+1".into();
        let mut page = ItemPage::default();
        page.items = bytes.list(item);
        page.next = bytes.maybe(Bytes::text);
        page.attributes = attributes(&mut bytes);
        let mut verified = Verified::default();
        (verified.account, verified.account_key) = (bytes.text(), bytes.maybe(Bytes::text));
        verified.vault_count = bytes.maybe(|bytes| bytes.byte().into());
        verified.writable_vault_count = bytes.maybe(|bytes| bytes.byte().into());
        let fields = bytes.list(|bytes| {
            let mut field = FieldSpec::default();
            (field.name, field.label, field.kind) = (bytes.text_like(&NAMES), bytes.text(), kind(bytes));
            field
        });
        fuzzing::listed(&scheme, &page, &verified, &fields);
        fuzzing::reference(&scheme, &reference(&mut bytes));
    },
    longest: 1_024,
    inputs: 300_000,
    seeds: &[],
    words: &[],
};

/// Destinations as they are stored, and as settings name them.
pub(crate) const DESTINATION: Target = Target {
    name: "destination",
    run: |input| str::from_utf8(input).map_or((), fuzzing::destination),
    longest: 256,
    inputs: 8_000_000,
    seeds: &[
        ("all names below a domain", "https://*.example.com"),
        ("a port", "http://vault.example.com:8200"),
        ("an address as a setting names it", "vault.example.com/v1?x#y"),
        ("an IPv6 address", "https://[2001:db8::1]:8443"),
        ("an IPv4 address", "http://0x7f.1"),
        ("another script", "https://b\u{fc}cher.example."),
    ],
    words: &["https://", "http://", "*.", "xn--", "[::1]", "%2e", "%2a", ":443", ":80", "0x", "\u{3002}", "\u{ad}"],
};

/// A secret, a body that was received, and the texts around the secret in a message.
pub(crate) const REDACTION: Target = Target {
    name: "redaction",
    run: |input| {
        let mut parts = input.splitn(4, |byte| *byte == 0xff);
        let mut text = || str::from_utf8(parts.next().unwrap_or_default()).unwrap_or_default();
        let (secret, before, after) = (text(), text(), text());
        fuzzing::redaction(secret, parts.next().unwrap_or_default(), before, after);
    },
    longest: 512,
    inputs: 400_000,
    seeds: &[
        ("a password with signs", "Tr0ub4dor&3 \"x\" <y>"),
        ("a key in lines", "line one\nline two\r\n"),
        ("repeated", "abab"),
        ("in another script", "p\u{e4}ssw\u{f6}rd \u{1f511}"),
    ],
    words: &["\\u0026", "%20", "\\n", "[REDACTED]", "{\"a\":\"", "eyJhIjoiYiJ9", "\u{130}"],
};

/// Names of settings, fields and tiers.
const NAMES: [&str; 8] = ["a", "b", "c", "token", "region", "address", "key_file", "x-1"];

const DESTINATIONS: [&str; 12] = [
    "https://*.example.com",
    "https://a.{region}.example.com",
    "https://{a}-{b}.{region}.example.com:8443",
    "https://{region}.com",
    "{address}",
    "{key_file.uri}",
    "{key_file.a.b}",
    "{a.}",
    "http://[::1]:80",
    "https://a.{region}.example.com.",
    "https://{region}.1.2",
    "https://xn--{region}.example.com",
];

fn value(bytes: &mut Bytes<'_>) -> String {
    let values = [
        "true",
        "eu-central-1",
        "1",
        "https://vault.example.com:8200/v1",
        "https://a.example.com.",
        "%2a.example.com",
        r#"{"uri":"https://a.example.com","a":{"b":"hunter2hunter2.example.com"}}"#,
        r#"{"uri":7}"#,
        "a",
        "",
    ];
    let text = bytes.text_like(&values);
    // Nothing else has it, so that it is found wherever it should not be.
    if bytes.flag() { text } else { format!("{text}{CANARY}") }
}

fn attributes(bytes: &mut Bytes<'_>) -> Vec<Attribute> {
    if bytes.byte() % 4 != 0 {
        return Vec::new();
    }
    bytes.list(|bytes| Attribute { name: bytes.text(), value: bytes.text() })
}

fn description(bytes: &mut Bytes<'_>) -> Description {
    let mut said = Description::default();
    said.provider_type = bytes.text_like(&NAMES);
    said.display_name = bytes.text_like(&["X"]);
    said.version = bytes.text_like(&["1.0.0"]);
    said.documentation_url = bytes.maybe(|bytes| bytes.text_like(&["https://example.com/docs", "http://example.com"]));
    said.reference_scheme = bytes.text_like(&["x", "x+1", "1x", "X"]);
    said.reference_format = bytes.text();
    said.settings = bytes.list(setting);
    said.setting_groups = bytes.list(|bytes| {
        let mut group = SettingGroup::default();
        group.label = bytes.text();
        group.alternatives = bytes.list(|bytes| {
            let mut set = Alternative::default();
            set.required = bytes.list(|bytes| bytes.text_like(&NAMES));
            set.optional = bytes.list(|bytes| bytes.text_like(&NAMES));
            set
        });
        group
    });
    said.destinations = bytes.list(|bytes| bytes.text_like(&DESTINATIONS));
    said.rate_limits = bytes.list(|bytes| {
        let mut tier = RateLimitTier::default();
        tier.name = bytes.text_like(&NAMES);
        tier.limits = bytes.list(limit);
        tier
    });
    said.capabilities = capabilities(bytes);
    said.attributes = attributes(bytes);
    said
}

fn capabilities(bytes: &mut Bytes<'_>) -> Capabilities {
    let mut capabilities = Capabilities::default();
    (capabilities.write, capabilities.conditional_writes) = (bytes.flag(), bytes.flag());
    capabilities
}

/// Names that are right, each once.
fn plain_names(said: &mut Description) {
    for (index, setting) in said.settings.iter_mut().take(NAMES.len() - 1).enumerate() {
        setting.name = NAMES[index].to_owned();
        setting.default = setting.default.take().filter(|_| !setting.secret);
    }
    (said.provider_type, said.reference_scheme, said.display_name, said.version) =
        ("x".into(), "x".into(), "X".into(), "1".into());
    said.documentation_url = None;
    for (index, tier) in said.rate_limits.iter_mut().enumerate() {
        tier.name = format!("t{index}");
    }
}

fn setting(bytes: &mut Bytes<'_>) -> SettingSpec {
    let mut spec = SettingSpec::default();
    (spec.name, spec.label, spec.help) = (bytes.text_like(&NAMES), bytes.text(), bytes.text());
    spec.kind = match bytes.byte() % 7 {
        0 => SettingKind::Text,
        1 => SettingKind::MultiLineText,
        2 => SettingKind::Url,
        3 => SettingKind::Boolean,
        4 => SettingKind::Json,
        5 => SettingKind::Other(bytes.text()),
        _ => SettingKind::Choice(bytes.list(|bytes| {
            let mut option = ChoiceOption::default();
            option.value = bytes.text_like(&["a", "b", "true"]);
            option
        })),
    };
    (spec.secret, spec.required) = (bytes.flag(), bytes.flag());
    spec.pattern =
        bytes.maybe(|bytes| bytes.text_like(&["[a-z]+", "a|b", "(", r"a)|(?:.*", r"\p{L}{1,9999}", "(?i)x*"]));
    spec.default = bytes.maybe(|bytes| bytes.text_like(&["a", "true", "https://example.com", "{}"]));
    spec.attributes = attributes(bytes);
    spec
}

fn limit(bytes: &mut Bytes<'_>) -> RateLimit {
    let requests = match bytes.byte() % 4 {
        0 => CountedRequests::Reads,
        1 => CountedRequests::Writes,
        2 => CountedRequests::All,
        _ => CountedRequests::Other(bytes.text()),
    };
    let scope = match bytes.byte() % 3 {
        0 => LimitScope::Credential,
        1 => LimitScope::Account,
        _ => LimitScope::Other(bytes.text()),
    };
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    RateLimit::new(number(bytes.number()), number(bytes.number()), requests, scope)
}

fn kind(bytes: &mut Bytes<'_>) -> FieldKind {
    match bytes.byte() % 6 {
        0 => FieldKind::Text,
        1 => FieldKind::Secret,
        2 => FieldKind::Url,
        3 => FieldKind::OneTimePassword,
        4 => FieldKind::Binary,
        _ => FieldKind::Other(bytes.text()),
    }
}

/// Of digits and letters that say which one it is, or with the canary.
fn code(bytes: &mut Bytes<'_>) -> Result<OneTimeCode, NoCode> {
    match bytes.byte() % 3 {
        0 => Err(NoCode::new(NoCodeReason::Other(bytes.text()), bytes.text())),
        of => {
            let code = if of == 1 { CANARY.to_owned() } else { format!("{CANARY}{}", bytes.text()) };
            let (expires_at, period) = (bytes.number(), bytes.byte());
            let mut code = OneTimeCode::new(code, expires_at, period.into());
            code.attributes = attributes(bytes);
            Ok(code)
        }
    }
}

fn resolved(bytes: &mut Bytes<'_>) -> Resolved {
    let secret = |bytes: &mut Bytes<'_>| format!("{CANARY}{}", bytes.text()).into();
    let mut answer = Resolved::default();
    (answer.username, answer.password) = (bytes.maybe(secret), bytes.maybe(secret));
    answer.one_time_code = bytes.maybe(code);
    for _ in 0..bytes.byte() % 8 {
        let (name, kind) = (bytes.text_like(&NAMES), kind(bytes));
        let value = match bytes.byte() % 4 {
            0 => FieldValue::Binary(CANARY.as_bytes().to_vec().into()),
            1 => FieldValue::OneTimeCode(code(bytes)),
            _ => FieldValue::Text(secret(bytes)),
        };
        answer.further.push(fuzzing::field(name, kind, value, attributes(bytes)));
    }
    answer.revision = bytes.text_like(&["1"]);
    answer.valid_until = bytes.maybe(|bytes| NOW.wrapping_add(bytes.number()).wrapping_sub(100));
    answer.lease = bytes.maybe(|bytes| fuzzing::lease(bytes.text_like(&["l"]), bytes.number(), attributes(bytes)));
    answer.attributes = attributes(bytes);
    answer
}

fn reference(bytes: &mut Bytes<'_>) -> String {
    let start = bytes.text_like(&["x+1://", "X+1://", "x+1:", "y://", "x+1://x+1://"]);
    start + &bytes.text()
}

fn item(bytes: &mut Bytes<'_>) -> Item {
    let mut item = Item::default();
    (item.id, item.title, item.reference) = (bytes.text(), bytes.text(), reference(bytes));
    (item.vault_id, item.vault_name) = (bytes.maybe(Bytes::text), bytes.maybe(Bytes::text));
    (item.category, item.urls) = (bytes.text(), bytes.list(Bytes::text));
    item.attributes = attributes(bytes);
    item
}
