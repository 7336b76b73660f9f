//! `keyway connection budget`: the remaining requests of connections to their secret managers.

use serde::Serialize;

use super::app::App;
use super::args::target::ConnectionTarget;
use super::connection::{Named, empty};
use super::exit::CliError;
use super::output::{Table, day_and_time};
use super::select;
use crate::view::budget::{AllowanceView, BudgetView};

pub(super) async fn run(app: &App, target: &ConnectionTarget) -> Result<(), CliError> {
    let (host, access) = app.open_in(&target.workspace).await?;
    let connections = match &target.connection.connection {
        Some(_) => vec![select::connection(host.broker(), &access, &target.connection).await?],
        None => host.broker().connections().list(&access).await?,
    };
    let mut rows = Vec::new();
    for connection in connections {
        let budget = host.broker().connections().budget(&access, connection.id).await?;
        rows.push(Row { connection: Named::from(&connection), budget: budget.into() });
    }
    let empty = empty(&rows, host, &access).await;
    app.output.list(&rows, ["NAME", "REQUESTS", "OF THE", "IN", "LEFT", "PAUSED UNTIL"], &empty, add)
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    connection: Named,
    #[serde(flatten)]
    budget: BudgetView,
}

fn add(table: &mut Table<6>, row: &Row) {
    let pause = row.budget.pause.as_ref();
    let pause = pause.map(|pause| format!("{} ({})", day_and_time(pause.until), pause.reason)).unwrap_or_default();
    for allowance in &row.budget.allowances {
        let (window, left) = (window(allowance.window_seconds), left(allowance));
        table.row([&row.connection.name, &allowance.requests, &allowance.scope, &window, &left, &pause]);
    }
}

/// A window in words.
pub(super) fn window(seconds: u64) -> String {
    match seconds {
        s if s % 3_600 == 0 => format!("{} h", s / 3_600),
        s if s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

fn left(allowance: &AllowanceView) -> String {
    match (allowance.remaining, allowance.limit) {
        (Some(remaining), Some(limit)) => format!("{remaining} of {limit}"),
        _ => format!("{} made, no limit known", allowance.used),
    }
}
