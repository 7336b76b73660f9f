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
    app.output.result(&Budgets(rows))?;
    Ok(())
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
        let mut table =
            Table::new(&["NAME", "READS LEFT, 1 H", "WRITES LEFT, 1 H", "ACCOUNT LEFT, 24 H", "NOT ASKED UNTIL"]);
        for row in &self.0 {
            let budget = &row.budget;
            let account = budget.account.as_ref().map(left).unwrap_or_default();
            let pause = budget.pause.as_ref().map(|pause| format!("{} ({})", day_and_time(pause.until), pause.reason));
            table.row([
                &row.name,
                &left(&budget.token_reads),
                &left(&budget.token_writes),
                &account,
                &pause.unwrap_or_default(),
            ]);
        }
        table.write(out, 0, "There is no connection yet. `keyway connect` creates one.")
    }
}

fn left(allowance: &AllowanceView) -> String {
    match (allowance.remaining, allowance.limit) {
        (Some(remaining), Some(limit)) => format!("{remaining} of {limit}"),
        _ => format!("{} made, no limit known", allowance.used),
    }
}
