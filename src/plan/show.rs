//! A plan for people and for scripts.

use comfy_table::Table;
use comfy_table::presets::NOTHING;

use super::{Change, Left, Plan, Unserved};

/// How a plan is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A line for each change, and below it the decision.
    #[default]
    Table,
    /// The whole plan as one JSON object.
    Json,
}

/// The plan in that form, ending in a line break.
#[must_use]
#[expect(clippy::expect_used, reason = "strings and lists under fixed names are always JSON")]
pub fn render(plan: &Plan, format: Format) -> String {
    match format {
        Format::Table => table(plan),
        Format::Json => serde_json::to_string_pretty(plan).expect("a plan is JSON") + "\n",
    }
}

fn table(plan: &Plan) -> String {
    let mut text = String::new();
    if let Some(reason) = &plan.without_history {
        text += &format!("without history, as a leader that has lost its journal: {reason}\n\n");
    }
    if plan.changes.is_empty() {
        text += "nothing would be changed\n";
    } else {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["ACTION", "SUBJECT", "WHAT"]);
        for Change { action, subject, detail, .. } in &plan.changes {
            table.add_row([*action, subject, detail]);
        }
        text.extend(table.lines().map(|line| format!("{}\n", line.trim_end())));
        text += "\nbecause\n";
        let mut told = std::collections::BTreeSet::new();
        let reasons = plan.changes.iter().filter(|change| told.insert((&change.subject, &change.why)));
        text.extend(reasons.map(|change| format!("  {}: {}\n", change.subject, change.why)));
    }
    if let Some(sentence) = plan.halted {
        text += &format!("\ndecisions would stop: {sentence}\n");
    }
    if !plan.left_alone.is_empty() {
        text += "\nleft alone\n";
        for Left { what, subject, detail, why } in &plan.left_alone {
            text += &format!("  {what} {subject} {detail}: {why}\n");
        }
    }
    if !plan.unserved.is_empty() {
        text += "\nwithout a mapping\n";
        for Unserved { pod, standing, reason, message } in &plan.unserved {
            let why = reason.zip(*message).map_or_else(String::new, |(word, words)| format!(" ({word}: {words})"));
            text += &format!("  {pod}: {standing}{why}\n");
        }
    }
    if !plan.unread.is_empty() {
        text += "\nthis plan is incomplete\n";
        text.extend(plan.unread.iter().map(|error| format!("  {error}\n")));
    }
    text
}
