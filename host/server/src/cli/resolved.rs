//! What an entry resolved to, as the command line prints it.
//!
//! **Invariant:** without `reveal`, neither the text nor the data contains the password or shows
//! its length.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use keyway::{Resolution, Source};
use keyway_runtime::Fields;
use secrecy::ExposeSecret;
use serde::{Serialize, Serializer};
use unicode_width::UnicodeWidthStr;

use super::output::{FAINT, GOOD, is_harmful, printable};
use crate::view::resolved::{Further, ResolvedValue, Values};

const MASK: &str = "************";

/// The result of a resolve, and how long it took.
#[derive(Serialize)]
pub(crate) struct Resolved {
    #[serde(flatten)]
    values: Values,
    #[serde(skip)]
    asked: Fields,
    /// Whether user name and password came from the cache.
    #[serde(skip)]
    pub(crate) cached: bool,
    total_ms: Milliseconds,
    /// The provider's share; `null` when no provider was called.
    provider_ms: Option<Milliseconds>,
}

/// Serialized to the microsecond.
#[derive(Serialize)]
struct Milliseconds(#[serde(serialize_with = "milliseconds")] Duration);

impl Resolved {
    /// The result for the fields that were `asked` for. `reveal` shows the password.
    pub(crate) fn new(resolution: Resolution, asked: Fields, reveal: bool) -> Self {
        Self {
            asked,
            cached: resolution.source != Source::Live,
            total_ms: Milliseconds(resolution.timings.total),
            provider_ms: resolution.timings.provider.map(Milliseconds),
            values: Values::new(resolution, reveal),
        }
    }

    /// Whether the item has a one-time code.
    pub(crate) fn has_code(&self) -> bool {
        self.values.one_time_code.is_some()
    }

    /// Writes all of it.
    pub(super) fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        self.fields(out, 0)?;
        self.values.further.iter().try_for_each(|field| further(out, field))?;
        if let Some(reason) = self.values.no_values {
            writeln!(out, "{reason}")?;
        }
        // For `--rejected`, when the site refuses the password.
        writeln!(out, "{FAINT}revision       {}{FAINT:#}", printable(&self.values.revision))?;
        if let Some(until) = self.values.valid_until {
            writeln!(out, "{FAINT}good until     {until}{FAINT:#}")?;
        }
        if let Some(lease) = &self.values.lease {
            let (id, until) = (printable(&lease.id), lease.expires_at);
            writeln!(out, "{FAINT}lease          {id}, until {until}{FAINT:#}")?;
        }
        if self.values.rejected_is_current {
            writeln!(out, "The item still holds the rejected revision; change the password there.")?;
        }
        if let Some(rotation) = self.values.rotation {
            writeln!(out, "The password is from the rotation {rotation}; the item does not have it yet.")?;
        }
        let of_provider = |time: &Milliseconds| format!(", {} of it in the provider", ms(time.0));
        let provider = self.provider_ms.as_ref().map(of_provider).unwrap_or_default();
        writeln!(out, "{FAINT}took           {}{provider}{FAINT:#}", ms(self.total_ms.0))
    }

    /// Writes one line for each requested field, with `indent` spaces before it.
    pub(crate) fn fields(&self, out: &mut dyn Write, indent: usize) -> io::Result<()> {
        let Values { username, password, one_time_code, .. } = &self.values;
        let width = [username, password].into_iter().flatten().map(|value| first_line(text(value)).width()).max();
        let width = width.unwrap_or_default().max(if self.has_code() { 8 } else { 0 });
        if self.asked.username {
            field(out, indent, "username", username.as_ref(), width)?;
        }
        if self.asked.password {
            field(out, indent, "password", password.as_ref(), width)?;
        }
        match one_time_code {
            _ if !self.asked.one_time_code => Ok(()),
            None => {
                write!(out, "{:indent$}{FAINT}one-time code  none{FAINT:#}", "")?;
                match &self.values.no_code {
                    // Most items have none, which needs no explanation.
                    Some(none) if none.reason != "absent" => {
                        writeln!(out, " ({}): {}", printable(&none.reason), printable(&none.message))
                    }
                    _ => writeln!(out),
                }
            }
            Some(code) => {
                let mut state = live(Some(code.seconds_left));
                if code.times_handed_out > 1 {
                    state += &format!(", handed out {} times", code.times_handed_out);
                }
                line(out, indent, "one-time code", code.code.expose_secret(), width, &state)
            }
        }
    }
}

/// The shown text of a value.
fn text(value: &ResolvedValue) -> &str {
    value.value.as_ref().map_or(MASK, |value| value.expose_secret())
}

fn field(
    out: &mut dyn Write,
    indent: usize,
    name: &str,
    value: Option<&ResolvedValue>,
    width: usize,
) -> io::Result<()> {
    let Some(value) = value else {
        return writeln!(out, "{:indent$}{FAINT}{name:13}{FAINT:#}  {FAINT}none{FAINT:#}", "");
    };
    let state = match value.source {
        "live" => live(None),
        _ => format!("cached, {} old", age(value.age_seconds)),
    };
    line(out, indent, name, text(value), width, &state)
}

fn further(out: &mut dyn Write, field: &Further) -> io::Result<()> {
    if let Some(none) = &field.no_code {
        let (name, reason, message) = (printable(&field.name), printable(&none.reason), printable(&none.message));
        return writeln!(out, "{FAINT}{name:13}{FAINT:#}  none ({reason}): {message}");
    }
    let value = field.value.as_ref().map_or(MASK, |value| value.expose_secret());
    line(out, 0, &field.name, value, 0, &live(field.seconds_left))
}

/// The name, the value and its freshness; `width` is that of the widest value. A value of several
/// lines is shown as it is, with the freshness after the first.
fn line(out: &mut dyn Write, indent: usize, name: &str, value: &str, width: usize, state: &str) -> io::Result<()> {
    let (name, first) = (printable(name), first_line(value));
    let pad = width.saturating_sub(first.width());
    write!(out, "{:indent$}{FAINT}{name:13}{FAINT:#}  {first}{:pad$}  {state}", "", "")?;
    let more = value.split('\n').skip(1);
    match more.clone().count() {
        0 => writeln!(out)?,
        more => writeln!(out, ", {} lines", more + 1)?,
    }
    for line in more {
        writeln!(out, "{:indent$}{:13}  {}", "", "", printable(line))?;
    }
    if value.contains(|c| c != '\n' && is_harmful(c)) {
        let note = "has characters that cannot be shown, here \u{fffd}; --raw writes it as it is";
        writeln!(out, "{:indent$}{FAINT}{:13}  ({note}){FAINT:#}", "", "")?;
    }
    Ok(())
}

fn first_line(value: &str) -> Cow<'_, str> {
    printable(value.split('\n').next().unwrap_or_default())
}

/// The freshness of a live value; a code is current only for some seconds.
fn live(seconds_left: Option<u64>) -> String {
    let left = seconds_left.map(|left| format!(", good for {left} s")).unwrap_or_default();
    format!("{GOOD}live{GOOD:#}{left}")
}

/// A duration in milliseconds, with three significant digits.
pub(crate) fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1_000.0;
    match ms {
        ms if ms >= 100.0 => format!("{ms:.0} ms"),
        ms if ms >= 10.0 => format!("{ms:.1} ms"),
        ms if ms >= 1.0 => format!("{ms:.2} ms"),
        ms => format!("{ms:.3} ms"),
    }
}

/// An age as text.
fn age(age: Duration) -> String {
    match age.as_secs() {
        0 => ms(age),
        seconds => format!("{seconds} s"),
    }
}

/// A duration as a number of milliseconds, to the microsecond.
pub(crate) fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((time.as_secs_f64() * 1_000_000.0).round() / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::resolved::{Code, LeaseView, NoCode};

    fn resolved(reveal: bool) -> Resolved {
        let value = |value: &str, shown: bool| ResolvedValue {
            value: shown.then(|| value.into()),
            source: "cached",
            age_seconds: Duration::from_secs(12),
            revision: "3".into(),
        };
        let code = Code {
            code: "492039".into(),
            seconds_left: 17,
            period_seconds: 30,
            times_handed_out: 1,
            source: "live",
            age_seconds: 0,
            revision: "4".into(),
        };
        Resolved {
            values: Values {
                username: Some(value("alice@acme.example", true)),
                password: Some(value("hunter2-not-so-secret", reveal)),
                one_time_code: Some(code),
                revision: "3".into(),
                rejected_is_current: false,
                rotation: None,
                no_code: None,
                no_values: None,
                valid_until: None,
                lease: None,
                further: Vec::new(),
            },
            asked: Fields::ALL,
            cached: true,
            total_ms: Milliseconds(Duration::from_micros(1_500)),
            provider_ms: None,
        }
    }

    fn text(resolved: &Resolved) -> String {
        let mut out = Vec::new();
        resolved.show(&mut out).unwrap();
        anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string()
    }

    #[test]
    fn a_password_is_masked_in_text_and_absent_from_data_unless_revealed() {
        let masked = resolved(false);
        assert!(text(&masked).contains("password       ************        cached, 12 s old"), "{}", text(&masked));
        let data = serde_json::to_value(&masked).unwrap();
        assert!(data["password"]["value"].is_null() && !data.to_string().contains("hunter2"));
        assert_eq!(data["total_ms"], 1.5);

        let revealed = resolved(true);
        assert!(text(&revealed).contains("hunter2-not-so-secret"));
        assert_eq!(serde_json::to_value(&revealed).unwrap()["password"]["value"], "hunter2-not-so-secret");
    }

    #[test]
    fn a_one_time_code_is_shown_with_its_seconds_left_and_that_others_have_it() {
        let mut shown = resolved(false);
        assert!(text(&shown).contains("live, good for 17 s\n"));
        shown.values.one_time_code.as_mut().unwrap().times_handed_out = 3;
        assert!(text(&shown).contains("live, good for 17 s, handed out 3 times\n"));
    }

    #[test]
    fn a_value_of_several_lines_is_shown_in_its_lines_and_what_cannot_be_shown_is_said() {
        let shown = |password: &str| {
            let mut shown = resolved(true);
            shown.values.password.as_mut().unwrap().value = Some(password.into());
            text(&shown)
        };
        let three = shown("one\n two\nthree");
        let expected =
            "password       one                 cached, 12 s old, 3 lines\n                two\n               three\n";
        assert!(three.contains(expected) && !three.contains("cannot be shown"), "{three}");
        let odd = shown("a\r\n\u{1b}[2Jb");
        assert!(odd.contains("\u{fffd}[2Jb\n") && !odd.contains('\u{1b}'), "{odd}");
        assert!(odd.contains("has characters that cannot be shown"), "{odd}");
    }

    #[test]
    fn nothing_at_all_has_a_reason() {
        let mut none = resolved(false);
        none.values = Values { username: None, password: None, one_time_code: None, ..none.values };
        none.values.no_values = Some("It is no login.");
        assert!(text(&none).contains("It is no login.\n"));
    }

    #[test]
    fn what_an_item_lacks_is_said_to_be_missing_and_what_was_not_asked_for_is_not_spoken_of() {
        let mut empty = resolved(false);
        empty.values = Values { username: None, password: None, one_time_code: None, ..empty.values };
        assert_eq!(text(&empty).matches("none").count(), 3);
        empty.asked = Fields::ONE_TIME_CODE;
        assert_eq!(text(&empty).matches("none").count(), 1);
    }

    #[test]
    fn a_one_time_password_that_makes_no_code_says_why() {
        let mut none = resolved(false);
        let reason = |reason: &str| Some(NoCode { reason: reason.into(), message: "It counts.".into() });
        none.values = Values { one_time_code: None, no_code: reason("counter-based"), ..none.values };
        assert!(text(&none).contains("one-time code  none (counter-based): It counts."), "{}", text(&none));
        none.values.no_code = reason("absent");
        assert!(text(&none).contains("one-time code  none\n"), "{}", text(&none));
        assert_eq!(serde_json::to_value(&none).unwrap()["no_code"]["reason"], "absent");
    }

    #[test]
    fn further_fields_are_masked_like_a_password_but_for_codes() {
        let field = |value: Option<&str>| Further {
            name: "api-key".into(),
            kind: "secret".into(),
            value: value.map(Into::into),
            seconds_left: None,
            period_seconds: None,
            no_code: None,
        };
        let show = |further: Further| {
            let mut shown = resolved(false);
            shown.values.further = vec![further];
            text(&shown)
        };
        assert!(show(field(None)).contains("api-key        ************  live"), "{}", show(field(None)));
        assert!(show(field(Some("key-7f3e"))).contains("api-key        key-7f3e  live"));
        let code = Further { seconds_left: Some(17), ..field(Some("492039")) };
        assert!(show(code).contains("api-key        492039  live, good for 17 s"));
    }

    #[test]
    fn the_end_of_values_and_their_lease_are_shown() {
        let mut leased = resolved(false);
        let moment = |seconds| jiff::Timestamp::from_second(seconds).unwrap();
        let lease = LeaseView { id: "db/creds/1".into(), expires_at: moment(2_000_000_000), renewable: true };
        leased.values = Values { valid_until: Some(moment(1_900_000_000)), lease: Some(lease), ..leased.values };
        let shown = text(&leased);
        assert!(shown.contains("good until     2030-03-17T17:46:40Z"), "{shown}");
        assert!(shown.contains("lease          db/creds/1, until 2033-05-18T03:33:20Z"), "{shown}");
        let data = serde_json::to_value(&leased).unwrap();
        assert_eq!((&data["valid_until"], &data["lease"]["renewable"]), (&"2030-03-17T17:46:40Z".into(), &true.into()));
    }
}
