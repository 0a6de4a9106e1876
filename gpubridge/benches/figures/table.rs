//! The table of results.

use std::fmt;

/// One line of the table.
struct Row {
    figure: String,
    target: String,
    measured: String,
    reached: Option<bool>,
}

/// The figures in the order in which they were measured.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// A figure with a bar, and whether it was reached.
    pub fn judged(&mut self, figure: impl Into<String>, target: &str, measured: impl Into<String>, reached: bool) {
        self.push(figure.into(), target, measured.into(), Some(reached));
    }

    /// A figure that stands beside another and has no bar of its own.
    pub fn beside(&mut self, figure: impl Into<String>, measured: impl Into<String>) {
        self.push(figure.into(), "", measured.into(), None);
    }

    fn push(&mut self, figure: String, target: &str, measured: String, reached: Option<bool>) {
        eprintln!("  {figure}: {measured}");
        self.rows.push(Row { figure, target: target.to_owned(), measured, reached });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| figure | target | measured | reached |\n|---|---|---|---|")?;
        for Row { figure, target, measured, reached } in &self.rows {
            let reached = match reached {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "",
            };
            writeln!(f, "| {figure} | {target} | {measured} | {reached} |")?;
        }
        Ok(())
    }
}
