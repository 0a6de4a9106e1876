//! Reports as a table of backends and what they can do.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use gpubridge_abstractions::{Capabilities, MemoryType};

use crate::report::{Report, Tally};

/// A markdown table with a column per backend: its capabilities as its device reports them, then how many cases of each
/// layer passed, failed and were ignored. Says nothing of the machine, so two runs of one commit give the same table.
pub fn capability_table(reports: &[Report]) -> String {
    let mut table = String::new();
    let names: Vec<_> = reports.iter().map(|report| report.backend.as_str()).collect();
    row(&mut table, "", &names);
    row(&mut table, "---", &vec!["---"; reports.len()]);
    for (name, describe) in CAPABILITIES {
        let describe = |report: &Report| report.capabilities.map_or_else(|| "no device".to_owned(), describe);
        row(&mut table, name, &reports.iter().map(describe).collect::<Vec<_>>());
    }
    let layers: BTreeSet<_> = reports.iter().flat_map(|report| report.layers().into_keys()).collect();
    for layer in layers {
        let of_layer = |report: &Report| report.layers().get(layer).map_or_else(String::new, Tally::to_string);
        row(&mut table, &format!("cases: {layer}"), &reports.iter().map(of_layer).collect::<Vec<_>>());
    }
    row(&mut table, "all cases", &reports.iter().map(|report| report.tally().to_string()).collect::<Vec<_>>());
    table
}

type Describe = fn(Capabilities) -> String;

const CAPABILITIES: [(&str, Describe); 4] = [
    ("persistent kernel", |can| yes_or_no(can.persistent_kernel)),
    ("compute", |can| yes_or_no(can.compute)),
    ("bulk staging", |can| yes_or_no(can.bulk_staging)),
    ("memory types", |can| {
        let honoured = MemoryType::ALL.into_iter().filter(|&memory_type| can.supports_memory(memory_type));
        honoured.map(|memory_type| memory_type.to_string()).collect::<Vec<_>>().join(", ")
    }),
];

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn row(table: &mut String, first: &str, cells: &[impl AsRef<str>]) {
    table.push_str("| ");
    table.push_str(first);
    cells.iter().for_each(|cell| _ = write!(table, " | {}", cell.as_ref()));
    table.push_str(" |\n");
}
