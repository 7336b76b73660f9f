//! `keyway connection budget`: what connections may still ask of their secret managers.

use std::io::{self, Write};

use keyway::ConnectionId;
use serde::Serialize;

use super::app::App;
use super::args::target::{ConnectionOption, WorkspaceOption};
use super::exit::CliError;
use super::output::{Show, Table, day_and_time};
use super::select;
use crate::view::budget::{AllowanceView, BudgetView};

pub(super) async fn run(app: &App, connection: &ConnectionOption, workspace: &WorkspaceOption) -> Result<(), CliError> {
    let host = app.open().await?;
    let access = select::workspace(host.broker(), workspace).await?;
    let connections = match &connection.connection {
        Some(_) => vec![select::connection(host.broker(), &access, connection).await?],
        None => host.broker().list_connections(&access).await?,
    };
    let mut rows = Vec::new();
    for connection in connections {
        let budget = host.broker().budget(&access, connection.id).await?;
        rows.push(Row { secret_provider_id: connection.id, name: connection.name, budget: budget.into() });
    }
    app.output.result(&Budgets(rows))
}

#[derive(Serialize)]
struct Row {
    secret_provider_id: ConnectionId,
    name: String,
    #[serde(flatten)]
    budget: BudgetView,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Budgets(Vec<Row>);

impl Show for Budgets {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&["NAME", "REQUESTS", "OF THE", "IN", "LEFT", "NOT ASKED UNTIL"]);
        for row in &self.0 {
            let budget = &row.budget;
            let pause = budget.pause.as_ref().map(|pause| format!("{} ({})", day_and_time(pause.until), pause.reason));
            let pause = pause.unwrap_or_default();
            for allowance in &budget.allowances {
                let (window, left) = (window(allowance.window_seconds), left(allowance));
                table.row([row.name.as_str(), allowance.requests, allowance.scope, &window, &left, &pause]);
            }
        }
        table.write(out, 0, "There is no connection yet. `keyway connect` creates one.")
    }
}

/// A window as people say it.
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
