//! What the contract promises beyond its types, checked on everything that comes out of a
//! component.

use std::collections::BTreeSet;

use secrecy::ExposeSecret;

use crate::contract::{
    Attribute, CountedRequests, Description, FieldKind, FieldSpec, FieldValue, ItemPage, Lease, LimitScope, NoCode,
    NoCodeReason, OneTimeCode, RateLimit, RateLimitTier, Resolved, Selection, SettingKind, SettingSpec, Verified,
};
use crate::egress::DestinationTemplate;
use crate::error::{ErrorCode, ProviderError};
use crate::settings::Patterns;

// The table in the head of the WIT lists them all; a test in `limits.rs` compares.
pub(crate) const MAX_ITEMS: usize = 10_000;
pub(crate) const MAX_PAGE_TOKEN_BYTES: usize = 4_096;
/// Revisions, account keys, names of fields, options: texts that only code compares.
pub(crate) const MAX_ID_BYTES: usize = 256;
pub(crate) const MAX_LEASE_BYTES: usize = 1_024;
pub(crate) const MAX_FIELDS: usize = 1_000;
/// Further fields that one call may request.
pub(crate) const MAX_SELECTED: usize = 100;
pub(crate) const MAX_CODE_CHARS: usize = 16;
/// Rate-limit tiers, and limits of a tier.
pub(crate) const MAX_TIERS: usize = 16;
/// Longest window of a rate limit: counts are kept for a few days.
pub(crate) const MAX_WINDOW_SECONDS: u32 = 86_400;
/// 100 years of 366 days: a later time is a mistake in its unit.
pub(crate) const LONGEST_VALIDITY_SECONDS: u64 = 100 * 366 * 86_400;
pub(crate) const MAX_NAME_CHARS: usize = 64;
/// A label, a help text, a title: enough for a person, too short to break a list or a form.
pub(crate) const MAX_TEXT_CHARS: usize = 2_000;
/// Settings, destinations and attributes of a description.
pub(crate) const MAX_LIST: usize = 100;

type Check = Result<(), String>;

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Checks the first bytes of a component (the preamble of the component model's binary format:
/// magic number, version, layer). A file of another kind gets an error that says so.
pub(crate) fn preamble(component: &[u8]) -> Check {
    let is_wasm = component.starts_with(b"\0asm");
    ensure(is_wasm, || "the file does not begin as WebAssembly does; is it the right one?".into())?;
    ensure(component.get(6..8) == Some(&[1, 0]), || {
        "it is a core module; componentise it, for example with `wasm-tools component new`".into()
    })
}

fn is_name(text: &str, extra: &[char]) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME_CHARS
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || extra.contains(&c))
}

fn short(text: &str, what: &str) -> Check {
    ensure(text.chars().count() <= MAX_TEXT_CHARS, || format!("{what} has more than {MAX_TEXT_CHARS} characters"))
}

fn attributes(attributes: &[Attribute]) -> Check {
    ensure(attributes.len() <= MAX_LIST, || format!("there are more than {MAX_LIST} attributes"))?;
    attributes.iter().try_for_each(|a| short(&a.name, "an attribute").and(short(&a.value, "an attribute")))
}

pub(crate) fn description(d: &Description) -> Check {
    ensure(is_name(&d.provider_type, &['-']), || {
        "`provider-type` must be 1 to 64 lower-case letters, digits and `-`".into()
    })?;
    ensure(
        is_name(&d.reference_scheme, &['+', '.', '-'])
            && d.reference_scheme.starts_with(|c: char| c.is_ascii_lowercase()),
        || "`reference-scheme` must be lower-case letters, digits, `+`, `.` and `-`, starting with a letter".into(),
    )?;
    for (name, text) in [("display-name", &d.display_name), ("version", &d.version)] {
        ensure(!text.trim().is_empty() && text.chars().count() <= MAX_NAME_CHARS, || {
            format!("`{name}` must have 1 to 64 characters")
        })?;
    }
    short(&d.reference_format, "`reference-format`")?;
    if let Some(url) = &d.documentation_url {
        short(url, "`documentation-url`")?;
        let is_https = url::Url::parse(url).is_ok_and(|url| url.scheme() == "https");
        ensure(is_https, || "`documentation-url` must be an https address".into())?;
    }
    for (name, length, limit) in [
        ("settings", d.settings.len(), MAX_LIST),
        ("setting-groups", d.setting_groups.len(), MAX_LIST),
        ("destinations", d.destinations.len(), MAX_LIST),
        ("rate-limits", d.rate_limits.len(), MAX_TIERS),
    ] {
        ensure(length <= limit, || format!("`{name}` has more than {limit} entries"))?;
    }
    attributes(&d.attributes)?;
    for (position, setting) in d.settings.iter().enumerate() {
        setting_spec(setting)?;
        let name = &setting.name;
        ensure(d.settings.iter().take(position).all(|other| other.name != *name), || {
            format!("the setting `{name}` is declared twice")
        })?;
    }
    setting_groups(d)?;
    let mut tiers = BTreeSet::new();
    for tier in &d.rate_limits {
        rate_limit_tier(tier)?;
        ensure(tiers.insert(&tier.name), || format!("the rate-limit tier `{}` is declared twice", tier.name))?;
    }
    ensure(d.capabilities.write || !d.capabilities.conditional_writes, || {
        "the capability `conditional-writes` needs `write`".into()
    })?;
    d.destinations.iter().try_for_each(|destination| {
        short(destination, "a destination")?;
        DestinationTemplate::parse(destination, d).map(drop).map_err(|error| error.to_string())
    })
}

fn rate_limit_tier(tier: &RateLimitTier) -> Check {
    let name = &tier.name;
    ensure(is_name(name, &['-']), || {
        "the name of a rate-limit tier must be 1 to 64 lower-case letters, digits and `-`".into()
    })?;
    short(&tier.label, "the label of a rate-limit tier")?;
    attributes(&tier.attributes)?;
    ensure(tier.limits.len() <= MAX_TIERS, || {
        format!("the rate-limit tier `{name}` has more than {MAX_TIERS} limits")
    })?;
    for (position, limit) in tier.limits.iter().enumerate() {
        ensure(limit.max_requests > 0, || format!("a limit of the tier `{name}` allows no request"))?;
        ensure((1..=MAX_WINDOW_SECONDS).contains(&limit.window_seconds), || {
            format!("the window of a limit of the tier `{name}` must have 1 to {MAX_WINDOW_SECONDS} seconds")
        })?;
        let counted = |l: &RateLimit| (l.window_seconds, l.requests.clone(), l.scope.clone());
        ensure(tier.limits.iter().take(position).all(|other| counted(other) != counted(limit)), || {
            format!("the tier `{name}` has two limits for the same requests, scope and window")
        })?;
        if let CountedRequests::Other(name) = &limit.requests {
            short(name, "a kind of requests")?;
        }
        if let LimitScope::Other(name) = &limit.scope {
            short(name, "the scope of a limit")?;
        }
        attributes(&limit.attributes)?;
    }
    Ok(())
}

fn setting_spec(setting: &SettingSpec) -> Check {
    let name = &setting.name;
    ensure(is_name(name, &['_']), || {
        "the name of a setting must be 1 to 64 lower-case letters, digits and `_`".into()
    })?;
    ensure(!(setting.secret && setting.default.is_some()), || format!("the secret setting `{name}` has a default"))?;
    for text in [Some(&setting.label), Some(&setting.help), setting.pattern.as_ref(), setting.default.as_ref()]
        .into_iter()
        .flatten()
    {
        short(text, &format!("a text of the setting `{name}`"))?;
    }
    attributes(&setting.attributes)?;
    if let SettingKind::Other(kind) = &setting.kind {
        short(kind, &format!("the kind of the setting `{name}`"))?;
    }
    if let SettingKind::Choice(options) = &setting.kind {
        ensure((1..=MAX_LIST).contains(&options.len()), || {
            format!("the choice `{name}` must have 1 to {MAX_LIST} options")
        })?;
        let mut values = BTreeSet::new();
        for option in options {
            ensure((1..=MAX_ID_BYTES).contains(&option.value.len()), || {
                format!("an option of the choice `{name}` must have 1 to {MAX_ID_BYTES} bytes")
            })?;
            short(&option.label, "the label of an option")?;
            attributes(&option.attributes)?;
            ensure(values.insert(&option.value), || {
                format!("the choice `{name}` has two options with the same value")
            })?;
        }
    }
    Ok(())
}

/// Checks the defaults, once the patterns are compiled.
pub(crate) fn defaults(d: &Description, patterns: &Patterns) -> Check {
    for spec in &d.settings {
        if let Some(default) = &spec.default {
            ensure(spec.refuse(default, patterns).is_none(), || {
                format!("the default of the setting `{}` is not a value that it may have", spec.name)
            })?;
        }
    }
    Ok(())
}

fn setting_groups(d: &Description) -> Check {
    let mut grouped = BTreeSet::new();
    for group in &d.setting_groups {
        short(&group.label, "the label of a setting group")?;
        attributes(&group.attributes)?;
        ensure((2..=MAX_LIST).contains(&group.alternatives.len()), || {
            format!("the setting group `{}` must have 2 to {MAX_LIST} alternatives", group.label)
        })?;
        let needing_nothing = group.alternatives.iter().filter(|set| set.required.is_empty()).count();
        ensure(needing_nothing <= 1, || {
            format!("two alternatives of the group `{}` require nothing, so nothing tells them apart", group.label)
        })?;
        for set in &group.alternatives {
            short(&set.label, "the label of an alternative")?;
            attributes(&set.attributes)?;
            for name in set.names() {
                let spec = d.settings.iter().find(|spec| spec.name == *name);
                let spec = spec.ok_or_else(|| {
                    format!("the group `{}` names the setting `{name}`, which does not exist", group.label)
                })?;
                ensure(!spec.required && spec.default.is_none(), || {
                    format!("the setting `{name}` is in a group, so it cannot be required or have a default")
                })?;
                ensure(grouped.insert(name), || format!("the setting `{name}` is in two alternatives"))?;
            }
        }
    }
    Ok(())
}

/// What the host checks of a reference before it asks the provider: its length, control characters
/// and the scheme in either case. `normalize-reference` does the rest.
pub(crate) fn reference(d: &Description, reference: &str) -> Result<(), ProviderError> {
    let scheme = &d.reference_scheme;
    let refused = |what: String| Err(ProviderError::new(ErrorCode::InvalidReference, what));
    let has_scheme = reference.split_once("://").is_some_and(|(given, _)| given.eq_ignore_ascii_case(scheme));
    if !has_scheme {
        return refused(format!(
            "A reference of {} begins with {scheme}://, as in {}.",
            d.display_name, d.reference_format
        ));
    }
    if reference.chars().count() > MAX_TEXT_CHARS {
        return refused(format!("A reference may have {MAX_TEXT_CHARS} characters at most."));
    }
    if reference.chars().any(char::is_control) {
        return refused("A reference must not contain control characters.".into());
    }
    Ok(())
}

/// What the contract promises of a normalized reference.
pub(crate) fn normal_form(d: &Description, normal: &str) -> Check {
    let scheme = &d.reference_scheme;
    let rest = normal.strip_prefix(scheme.as_str()).and_then(|rest| rest.strip_prefix("://"));
    ensure(rest.is_some_and(|rest| !rest.is_empty()), || {
        format!("the normal form of a reference does not begin with {scheme}:// (`normalize-reference`)")
    })?;
    ensure(normal.chars().count() <= MAX_TEXT_CHARS && !normal.chars().any(char::is_control), || {
        "the normal form of a reference is too long or has control characters (`normalize-reference`)".into()
    })
}

pub(crate) fn verified(v: &Verified) -> Check {
    ensure(v.vault_count != Some(0), || {
        "`vault-count` is 0; return an error if the connection can read no vault".into()
    })?;
    short(&v.account, "`account`")?;
    if let Some(key) = &v.account_key {
        ensure((1..=MAX_ID_BYTES).contains(&key.len()), || {
            format!("`account-key` must have 1 to {MAX_ID_BYTES} bytes")
        })?;
    }
    attributes(&v.attributes)?;
    let readable = v.vault_count.unwrap_or(u32::MAX);
    ensure(v.writable_vault_count.is_none_or(|writable| writable <= readable), || {
        "more vaults can be written than read".into()
    })
}

pub(crate) fn item_page(d: &Description, page: &ItemPage) -> Check {
    ensure(page.items.len() <= MAX_ITEMS, || format!("a page has more than {MAX_ITEMS} items"))?;
    attributes(&page.attributes)?;
    ensure(page.next.as_ref().is_none_or(|next| next.len() <= MAX_PAGE_TOKEN_BYTES), || {
        format!("`next` has more than {MAX_PAGE_TOKEN_BYTES} bytes")
    })?;
    for item in &page.items {
        ensure(!item.id.is_empty(), || "an item has no id".into())?;
        reference(d, &item.reference).map_err(|error| format!("an item has an invalid reference: {error}"))?;
        let vault = [&item.vault_id, &item.vault_name].into_iter().flatten();
        for text in [&item.id, &item.title, &item.category].into_iter().chain(vault).chain(&item.urls) {
            short(text, "a text of an item")?;
        }
        ensure(item.urls.len() <= MAX_LIST, || format!("an item has more than {MAX_LIST} sites"))?;
        attributes(&item.attributes)?;
    }
    Ok(())
}

pub(crate) fn field_specs(fields: &[FieldSpec]) -> Check {
    ensure(fields.len() <= MAX_FIELDS, || format!("an item has more than {MAX_FIELDS} further fields"))?;
    let mut names = BTreeSet::new();
    for field in fields {
        ensure((1..=MAX_ID_BYTES).contains(&field.name.len()), || {
            format!("the name of a field must have 1 to {MAX_ID_BYTES} bytes")
        })?;
        ensure(names.insert(&field.name), || same_name("an item has", &field.name))?;
        short(&field.label, "the label of a field")?;
        field_kind(&field.kind)?;
        attributes(&field.attributes)?;
    }
    Ok(())
}

/// Names are no secrets: they are listed, or the caller asked for them.
fn same_name(what: &str, name: &str) -> String {
    format!("{what} two fields with the same name, `{}`", name.escape_debug())
}

fn field_kind(kind: &FieldKind) -> Check {
    if let FieldKind::Other(kind) = kind { short(kind, "the kind of a field") } else { Ok(()) }
}

/// Checks what a caller requests.
pub(crate) fn selection(d: &Description, selection: &Selection) -> Result<(), ProviderError> {
    let refuse = |message: String| Err(ProviderError::new(ErrorCode::Unsupported, message));
    if selection.further.is_empty() {
        return Ok(());
    }
    if !d.interfaces.item_fields {
        return refuse(format!("Items of {} have no further fields.", d.display_name));
    }
    if selection.further.len() > MAX_SELECTED {
        return refuse(format!("At most {MAX_SELECTED} further fields can be asked for at a time."));
    }
    let mut names = BTreeSet::new();
    if let Some(name) = selection.further.iter().find(|name| name.len() > MAX_ID_BYTES || name.is_empty()) {
        return refuse(format!("The name of a field has 1 to {MAX_ID_BYTES} bytes; one has {}.", name.len()));
    }
    if !selection.further.iter().all(|name| names.insert(name)) {
        return refuse("A further field is asked for twice.".into());
    }
    Ok(())
}

pub(crate) fn revision(revision: &str) -> Check {
    ensure((1..=MAX_ID_BYTES).contains(&revision.len()), || format!("a revision must have 1 to {MAX_ID_BYTES} bytes"))
}

pub(crate) fn lease(lease: &Lease) -> Check {
    ensure((1..=MAX_LEASE_BYTES).contains(&lease.id.len()), || {
        format!("the id of a lease must have 1 to {MAX_LEASE_BYTES} bytes")
    })?;
    attributes(&lease.attributes)
}

fn one_time_code(result: &Result<OneTimeCode, NoCode>) -> Check {
    match result {
        Ok(code) => {
            let text = code.code.expose_secret();
            let fits = (1..=MAX_CODE_CHARS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
            ensure(fits, || format!("a one-time code must have 1 to {MAX_CODE_CHARS} letters and digits"))?;
            ensure(code.period_seconds > 0, || "`period-seconds` of a one-time code must be at least 1".into())?;
            attributes(&code.attributes)
        }
        Err(none) => {
            short(&none.message, "the reason why there is no one-time code")?;
            if let NoCodeReason::Other(reason) = &none.reason {
                short(reason, "the reason why there is no one-time code")?;
            }
            attributes(&none.attributes)
        }
    }
}

/// Checks the answer and drops what was not requested. `now` is in seconds since 1970.
pub(crate) fn resolved(r: &mut Resolved, asked: &Selection, now: u64) -> Check {
    if !asked.standard.username {
        r.username = None;
    }
    if !asked.standard.password {
        r.password = None;
    }
    if !asked.standard.one_time_code {
        r.one_time_code = None;
    }
    r.further.retain(|field| asked.further.contains(&field.name));
    let mut names = BTreeSet::new();
    for field in &r.further {
        ensure(names.insert(&field.name), || same_name("it returns", &field.name))?;
        field_kind(&field.kind)?;
        attributes(&field.attributes)?;
        match (&field.kind, &field.value) {
            (FieldKind::OneTimePassword, FieldValue::OneTimeCode(code)) => one_time_code(code)?,
            (FieldKind::Binary, FieldValue::Binary(_)) => {}
            (FieldKind::OneTimePassword | FieldKind::Binary, _)
            | (_, FieldValue::OneTimeCode(_) | FieldValue::Binary(_)) => {
                return Err(format!("the value of the field `{}` is not of its kind", field.name));
            }
            (_, FieldValue::Text(_)) => {}
        }
    }
    revision(&r.revision)?;
    attributes(&r.attributes)?;
    if let Some(until) = r.valid_until {
        ensure(until > now, || "`valid-until` is in the past, so the values are no longer valid".into())?;
        ensure(until - now <= LONGEST_VALIDITY_SECONDS, || "`valid-until` is more than a century away".into())?;
    }
    if let Some(of) = &r.lease {
        lease(of)?;
    }
    r.one_time_code.as_ref().map_or(Ok(()), one_time_code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Field, Fields, Item};

    fn page(title: &str, attributes: usize) -> ItemPage {
        let text = || "x".to_owned();
        let attribute = Attribute { name: text(), value: text() };
        let item = Item {
            id: text(),
            title: title.to_owned(),
            reference: "x://y".into(),
            attributes: vec![attribute; attributes],
            ..Item::default()
        };
        ItemPage { items: vec![item], ..ItemPage::default() }
    }

    fn scheme() -> Description {
        Description { reference_scheme: "x".into(), ..Description::default() }
    }

    #[test]
    fn texts_of_items_and_accounts_are_bounded() {
        assert_eq!(item_page(&scheme(), &page(&"x".repeat(MAX_TEXT_CHARS), MAX_LIST)), Ok(()));
        assert!(item_page(&scheme(), &page(&"x".repeat(MAX_TEXT_CHARS + 1), 0)).is_err());
        assert!(item_page(&scheme(), &page("x", MAX_LIST + 1)).is_err());
        let account = |account: String| Verified { account, ..Verified::default() };
        assert_eq!(verified(&account("a@example.com".into())), Ok(()));
        assert!(verified(&account("x".repeat(MAX_TEXT_CHARS + 1))).is_err());
    }

    #[test]
    fn a_reference_needs_the_scheme_in_either_case_and_nothing_else() {
        for good in ["x://a", "X://a/b/c/d", "x://", "x:///a//b?c#d", "x://%61"] {
            assert_eq!(reference(&scheme(), good), Ok(()), "{good}");
        }
        for bad in ["", "a", "x:a", "y://a", "x//a", "x://a\nb", &format!("x://{}", "a".repeat(2_000))] {
            let error = reference(&scheme(), bad).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidReference, "{bad}");
        }
    }

    fn answer(further: Vec<Field>, valid_until: Option<u64>) -> Resolved {
        Resolved { revision: "1".into(), further, valid_until, ..Resolved::default() }
    }

    #[test]
    fn a_lifetime_ends_in_the_future_and_within_a_century() {
        let check = |until| resolved(&mut answer(Vec::new(), Some(until)), &Fields::ALL.into(), 1_000);
        assert_eq!(check(1_001), Ok(()));
        assert!(check(1_000).unwrap_err().contains("valid-until"));
        assert!(check(1_000_000_000_000).unwrap_err().contains("century"));
    }

    #[test]
    fn further_fields_are_those_asked_for_each_once_and_of_their_kind() {
        let field = |name: &str, kind, value| Field { name: name.into(), kind, value, attributes: Vec::new() };
        let text = || FieldValue::Text("v".into());
        let asked = Selection { standard: Fields::default(), further: vec!["a".into(), "b".into()] };
        let mut fields = answer(vec![field("a", FieldKind::Text, text()), field("c", FieldKind::Text, text())], None);
        assert_eq!(resolved(&mut fields, &asked, 0), Ok(()));
        assert_eq!(fields.further.len(), 1, "what was not asked for is dropped");
        let twice = vec![field("a", FieldKind::Text, text()), field("a", FieldKind::Secret, text())];
        assert!(resolved(&mut answer(twice, None), &asked, 0).unwrap_err().contains("two fields with the same name"));
        let wrong = vec![field("b", FieldKind::Binary, text())];
        assert!(resolved(&mut answer(wrong, None), &asked, 0).unwrap_err().contains("`b`"));
    }

    #[test]
    fn a_long_or_doubled_selection_is_refused_before_the_call() {
        let mut description = scheme();
        description.interfaces.item_fields = true;
        let further = |names: Vec<String>| Selection { standard: Fields::default(), further: names };
        let many = (0..10_000).map(|n| n.to_string()).collect();
        assert!(selection(&description, &further(many)).unwrap_err().message.contains("100"));
        let twice = vec!["a".to_owned(), "a".to_owned()];
        assert!(selection(&description, &further(twice)).unwrap_err().message.contains("twice"));
        assert!(selection(&scheme(), &further(vec!["a".into()])).is_err());
    }
}
