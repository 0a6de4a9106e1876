//! Rows to be scored, as many as are wanted: what the main job is measured with where a data set is too small.

use std::io::{BufWriter, Write, stdout};

use crate::Done;

/// Prints so many rows of so many keys, as CSV; `[EVENTS, KEYS]`.
pub fn print(words: &[String]) -> Done {
    let [events, keys] = words else { return Err("a number of events and one of keys are needed".into()) };
    let (events, keys): (u64, u64) = (events.parse()?, keys.parse()?);
    let mut out = BufWriter::new(stdout().lock());
    writeln!(out, "key,value")?;
    for event in 0..events {
        // Of the golden ratio: keys come in no order, and values repeat late.
        let mixed = event.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        writeln!(out, "k{},{}", (mixed >> 32) % keys.max(1), (mixed >> 20) as i16)?;
    }
    out.flush()?;
    Ok(true)
}
