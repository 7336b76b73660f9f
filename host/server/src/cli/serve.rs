//! `keyway serve`.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use keyway::BrokerError;

use super::app::App;
use super::args::serve::ServeOptions;
use super::exit::CliError;
use crate::config::ServeConfig;
use crate::host::Host;
use crate::logging::LogFormat;
use crate::serve::{Server, allow_open_files, asked_to_end};

/// How often to look for interrupted key rotations. A look costs one small query, and waiting for
/// the next one costs nothing: everything opens meanwhile.
const KEY_ROTATIONS_EVERY: Duration = Duration::from_secs(60);

/// Prints where the server listens once it is ready: a line on standard error (a log line, where
/// logs are JSON), and with `--json` also a JSON line on standard output.
pub(super) async fn run(app: &App, options: &ServeOptions) -> Result<(), CliError> {
    allow_open_files();
    let config = options.config().map_err(CliError::usage)?;
    // Before components are loaded, which may take a while.
    Server::check(&config).await?;
    let host = app.open_to_serve().await?;
    let server = Server::bind_with(&config, host.broker().clone()).await?;
    // Before announcing that it listens, because it may be asked to end from then on.
    let end = asked_to_end();
    if app.output.json {
        let _ =
            app.output.json_line(&serde_json::json!({ "listening": server.url(), "metrics": server.metrics_url() }));
    }
    tell_where(app, &server);
    report(host, &config, &server, &app.config()?.provider_folder());
    for provider_type in app.unknown_tiers(|provider_type| host.broker().providers().get(provider_type)) {
        tracing::warn!(provider_type, "there is a default rate-limit tier for a provider that is not installed");
    }
    // Also where nothing asks for it: it logs what is missing.
    let broker = host.broker().clone();
    tokio::spawn(async move { drop(broker.readiness().check().await) });
    finish_key_rotations(host);
    server.run(end).await;
    Ok(())
}

/// With JSON logs, it is a log line.
fn tell_where(app: &App, server: &Server) {
    if app.global.log_format == LogFormat::Json {
        tracing::info!(url = server.url(), metrics = server.metrics_url(), "listening");
        return;
    }
    let _ = writeln!(std::io::stderr(), "Listening at {}", server.url());
    if let Some(metrics) = server.metrics_url() {
        let _ = writeln!(std::io::stderr(), "Metrics at {metrics}/metrics");
    }
}

fn report(host: &Host, config: &ServeConfig, server: &Server, providers: &Path) {
    if config.tls.is_none() && server.address().is_some_and(|address| !address.ip().is_loopback()) {
        tracing::warn!("the API is plain HTTP, and other machines can reach it; TLS must end in front of it");
    }
    if host.broker().providers().list().is_empty() {
        tracing::warn!(
            folder = %providers.display(),
            "no provider is installed; put a component into the provider folder, and the server loads it at once"
        );
    }
}

/// Finishes interrupted rotations of workspaces' keys while requests are served: at the start, and
/// later those of a command line that was interrupted beside this server. Joining a rotation that
/// is still running does no harm.
fn finish_key_rotations(host: &Host) {
    let broker = host.broker().clone();
    tokio::spawn(async move {
        loop {
            // A rotation that cannot be finished is retried with growing pauses; the others are not
            // delayed.
            match broker.keys().finish_rotations().await {
                Err(BrokerError::Closed) => return,
                // The broker has named the workspace, if it is about one.
                Err(error) => {
                    tracing::error!(%error, "the work of interrupted key rotations cannot be done now; the server tries again every minute");
                }
                Ok(_) => {}
            }
            tokio::time::sleep(KEY_ROTATIONS_EVERY).await;
        }
    });
}
