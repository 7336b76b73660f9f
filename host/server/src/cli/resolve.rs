//! `keyway resolve`.
//!
//! The cache lives in the process that resolves, so a command always asks the provider. A running
//! server answers from its cache.

use keyway::{ErrorKind, Resolution, ResolveRequest};
use keyway_runtime::Fields;
use keyway_runtime::contract::{Field, FieldValue};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::app::App;
use super::args::{ResolveField, ResolveOptions};
use super::exit::CliError;
use super::output::Output;
use super::resolved::Resolved;

pub(super) async fn run(app: &App, options: ResolveOptions) -> Result<(), CliError> {
    let entry = options.entry.selector()?;
    let asked = if options.further.is_empty() || !options.fields.is_empty() {
        asked(&options.fields)
    } else {
        Fields::default()
    };
    if options.raw && (options.fields.len() + options.further.len() != 1 || app.output.json) {
        return Err(CliError::usage(
            "--raw writes one value and no document; name it with --fields or --further, without --json",
        ));
    }
    let mut request = ResolveRequest::new(entry).fields(asked).further(options.further).code(options.code.into());
    request.rejected = options.rejected;
    let (host, access) = app.open_in(&options.workspace).await?;
    let resolution = host.broker().resolve(&access, request).await?;
    if options.raw {
        return Output::raw(&only_value(resolution)?);
    }
    let resolved = Resolved::new(resolution, asked, options.reveal);
    app.output.result(&resolved, |out| resolved.show(out))
}

/// The named fields; all of them when none is named.
fn asked(named: &[ResolveField]) -> Fields {
    if named.is_empty() {
        return Fields::ALL;
    }
    named.iter().fold(Fields::default(), |asked, field| match field {
        ResolveField::Username => Fields { username: true, ..asked },
        ResolveField::Password => Fields { password: true, ..asked },
        ResolveField::OneTimeCode => Fields { one_time_code: true, ..asked },
    })
}

/// The bytes of the one value that was asked for.
fn only_value(resolution: Resolution) -> Result<SecretSlice<u8>, CliError> {
    let Resolution { username, password, one_time_code, no_code, no_values, mut further, .. } = resolution;
    let bytes = |text: SecretString| SecretSlice::from(text.expose_secret().as_bytes().to_vec());
    let value = username.or(password).or(one_time_code.map(|code| code.code)).map(bytes);
    let (value, no_code) = match further.pop().map(|Field { value, .. }| value) {
        Some(FieldValue::Text(text)) => (Some(bytes(text)), None),
        Some(FieldValue::Binary(binary)) => (Some(binary), None),
        Some(FieldValue::OneTimeCode(Ok(code))) => (Some(bytes(code.code)), None),
        Some(FieldValue::OneTimeCode(Err(none))) => (None, Some(none)),
        _ => (value, no_code),
    };
    let reason = no_code.map(|none| none.message).or(no_values.map(str::to_owned));
    let missing = || reason.unwrap_or_else(|| "The item has no such field.".to_owned());
    value.ok_or_else(|| CliError::new(ErrorKind::NotFound, missing()))
}
