//! The row loop that the actors and the plain loop share: read, sort out, hand on.

use super::csv::{Row, Rows};
use super::error::Error;
use super::interrupt;
use super::progress::Progress;
use super::value::{Value, parse};

/// How many rows go by between two looks at the interrupt flag and the clock.
const ROWS_BETWEEN_LOOKS: u64 = 1024;
/// How many characters of a bad value a message repeats.
const QUOTED_CHARACTERS: usize = 60;

/// What became of the rows that were not handed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All data rows.
    pub rows: u64,
    /// Rows without a value or without a key.
    pub skipped: u64,
    /// Rows whose value is no finite number; zero unless they are to be counted.
    pub bad: u64,
}

/// Reads all rows and hands those with a key and a value on, in order.
pub fn for_each_scorable(
    rows: &mut Rows,
    skip_bad: bool,
    progress: &Progress,
    mut use_row: impl FnMut(&Row<'_>, f32) -> Result<(), Error>,
) -> Result<Counts, Error> {
    let mut counts = Counts::default();
    while let Some(row) = rows.next_row()? {
        counts.rows += 1;
        if counts.rows.is_multiple_of(ROWS_BETWEEN_LOOKS) {
            interrupt::check()?;
            progress.update(counts.rows);
        }
        if row.key.is_empty() {
            counts.skipped += 1;
            continue;
        }
        match parse(row.value) {
            Value::Number(value) => use_row(&row, value)?,
            Value::Missing => counts.skipped += 1,
            Value::Bad if skip_bad => counts.bad += 1,
            Value::Bad => return Err(Error::BadValue { line: row.line, text: shortened(row.value) }),
        }
    }
    interrupt::check()?;
    Ok(counts)
}

fn shortened(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    match text.char_indices().nth(QUOTED_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}
