//! Results as Markdown: a table for each run of lines that say the same things.

use std::fs;

use serde_json::{Map, Value};

use crate::Done;

/// Prints the results in this file, a line of JSON each.
pub fn print(file: &str) -> Done {
    let text = fs::read_to_string(file)?;
    let mut header = Vec::new();
    for line in text.lines() {
        let Ok(values) = serde_json::from_str::<Map<String, Value>>(line) else { continue };
        let keys: Vec<&String> = values.keys().collect();
        if keys != header.iter().collect::<Vec<_>>() {
            header = values.keys().cloned().collect();
            println!("\n| {} |\n|{}", header.join(" | "), " --- |".repeat(header.len()));
        }
        let cells: Vec<String> = values.values().map(cell).collect();
        println!("| {} |", cells.join(" | "));
    }
    Ok(true)
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{:.2}", number.as_f64().unwrap_or(f64::NAN)),
        Value::Object(values) => {
            values.iter().map(|(name, value)| format!("{name} {}", cell(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    text.replace('|', "\\|").replace('\n', " ")
}
