//! `keyway resolve`.
//!
//! The cache lives in the process that resolves, so a command always asks the provider. A running
//! server answers from its cache.

use keyway::ResolveRequest;
use keyway_runtime::Fields;

use super::app::App;
use super::args::{ResolveField, ResolveOptions};
use super::exit::CliError;
use super::resolved::Resolved;

pub(super) async fn run(app: &App, options: ResolveOptions) -> Result<(), CliError> {
    let entry = options.entry.selector()?;
    let asked = if options.further.is_empty() || !options.fields.is_empty() {
        asked(&options.fields)
    } else {
        Fields::default()
    };
    let mut request = ResolveRequest::new(entry).fields(asked).further(options.further);
    request.rejected = options.rejected;
    let (host, access) = app.open_in(&options.workspace).await?;
    let resolved = Resolved::new(host.broker().resolve(&access, request).await?, asked, options.reveal);
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
