//! Everything that can end a run early, each with one line for the user and an exit code.

use std::io;

/// Exit code of a check that did not hold, or of a fault inside the program.
pub const EXIT_FAILED: u8 = 1;
/// Exit code of input or usage that cannot be worked with.
pub const EXIT_BAD_INPUT: u8 = 2;
/// Exit code after Ctrl-C (or SIGTERM, SIGHUP).
pub const EXIT_INTERRUPTED: u8 = 130;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line cannot be understood; the text is the parser's.
    #[error("{0}")]
    Usage(String),
    /// The input cannot be opened.
    #[error("cannot open {name}: {source}")]
    Open { name: String, source: io::Error },
    /// The input is a directory.
    #[error("{name} is a directory, not a CSV file")]
    Directory { name: String },
    /// The input fails while being read.
    #[error("cannot read {name} after line {line}: {source}")]
    Read { name: String, line: u64, source: io::Error },
    /// The compressed input is cut short or fails its checksum.
    #[error("{name} is damaged gzip (after line {line}): {source}")]
    DamagedGzip { name: String, line: u64, source: io::Error },
    /// The input has no first line.
    #[error("{name} has no header line: it is empty")]
    NoHeader { name: String },
    /// A column asked for is not in the header.
    #[error("no column {column:?} in {name}; its columns are: {columns}")]
    MissingColumn { name: String, column: String, columns: String },
    /// A column asked for is in the header more than once.
    #[error("column {column:?} is named {times} times in the header of {name}")]
    RepeatedColumn { name: String, column: String, times: usize },
    /// A row has another number of fields than the header.
    #[error("line {line}: {found} fields where the header has {expected}")]
    FieldCount { line: u64, found: usize, expected: usize },
    /// A row is not UTF-8.
    #[error("line {line}: bytes that are not UTF-8")]
    NotUtf8 { line: u64 },
    /// A quoted field is never closed.
    #[error("line {line}: a quoted field that begins in this row is never closed")]
    UnclosedQuote { line: u64 },
    /// A row is longer than the reader's bound.
    #[error("line {line}: a row of more than {limit_bytes} bytes (is a quote left open?)")]
    RowTooLong { line: u64, limit_bytes: usize },
    /// A value is not a finite 32-bit number.
    #[error("line {line}: {text:?} is no finite f32 number (--skip-bad counts such rows instead)")]
    BadValue { line: u64, text: String },
    /// There are more distinct keys than allowed.
    #[error("line {line}: more than {limit} distinct keys (--max-keys)")]
    TooManyKeys { line: u64, limit: u32 },
    /// The scores, the report or the progress cannot be written.
    #[error("cannot write {name}: {source}")]
    Write { name: String, source: io::Error },
    /// Whoever read the standard output has had enough; not an error.
    #[error("the reader of standard output has gone")]
    ReaderGone,
    /// Scores differ from the reference.
    #[error(
        "verification failed: {mismatches} of {scored} scores differ from the reference by more than {tolerance}; \
         the first at row {row}, key {key:?}: score {score}, reference {reference}"
    )]
    Verification { mismatches: u64, scored: u64, tolerance: f64, row: u64, key: String, score: f32, reference: f64 },
    /// The demonstration did not see what its data set holds.
    #[error("the demonstration expected {expected} but saw {seen}")]
    Demonstration { expected: String, seen: String },
    /// Cases of the conformance suite failed; their report says how.
    #[error("{failed} of {run} cases failed on {backend}")]
    Conformance { failed: usize, run: usize, backend: String },
    /// A stress run saw what must not be: counts that differ, contents that differ, a call that failed.
    #[error("{faults}")]
    Stress { faults: String },
    /// A page has no place for a report.
    #[error("cannot put a report into {name}: {source}")]
    Markers { name: String, source: gpubridge::figures::MissingMarker },
    /// Something that was measured failed; the report says what.
    #[error("{failed} of {parts} parts of the benchmark failed; the first, {part}: {message}")]
    Bench { failed: usize, parts: usize, part: &'static str, message: String },
    /// The engine behind the actors failed, or broke its promises.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// Signals cannot be watched for, so nothing may be begun that would have to be cleaned up.
    #[error("cannot watch for Ctrl-C: {0}")]
    Signals(String),
    /// The user, or the system, asked the program to stop.
    #[error("interrupted")]
    Interrupted,
}

/// A failure of the engine behind the actors.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The backend asked for is unknown or cannot work here.
    #[error("{}", .0.message())]
    Backend(gpubridge::Error),
    /// A call of the actors failed.
    #[error("{0}")]
    Device(gpubridge::Error),
    /// A score came back for a row that does not wait for one.
    #[error("internal fault: a score came back for token {token}, which is not in flight")]
    StrayCompletion { token: u64 },
    /// The engine says that it is finished but owes scores.
    #[error("internal fault: the engine finished with {missing} scores missing")]
    MissingScores { missing: u64 },
}

impl Error {
    /// The exit code that this error ends the program with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::ReaderGone => 0,
            Error::Interrupted => EXIT_INTERRUPTED,
            Error::Engine(EngineError::Backend(_)) => EXIT_BAD_INPUT,
            Error::Verification { .. }
            | Error::Demonstration { .. }
            | Error::Conformance { .. }
            | Error::Stress { .. }
            | Error::Bench { .. }
            | Error::Engine(_)
            | Error::Signals(_) => EXIT_FAILED,
            _ => EXIT_BAD_INPUT,
        }
    }

    /// The message on exactly one line, whatever file or column names it repeats.
    pub fn one_line(&self) -> String {
        let mut line = String::new();
        for character in self.to_string().chars() {
            if character.is_control() {
                line.extend(character.escape_default());
            } else {
                line.push(character);
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_on_one_line_whatever_it_quotes() {
        let error = Error::Directory { name: "a\nb\x1b[1m".into() };
        assert_eq!(error.one_line(), "a\\nb\\u{1b}[1m is a directory, not a CSV file");
    }

    #[test]
    fn exit_codes_follow_the_family() {
        assert_eq!(Error::NotUtf8 { line: 1 }.exit_code(), 2);
        assert_eq!(Error::Interrupted.exit_code(), 130);
        assert_eq!(Error::Demonstration { expected: "a".into(), seen: "b".into() }.exit_code(), 1);
        assert_eq!(Error::from(EngineError::StrayCompletion { token: 3 }).exit_code(), 1);
        let unknown = EngineError::Backend(gpubridge::Error::new(gpubridge::ErrorKind::NotFound, "select", "x"));
        assert_eq!(Error::from(unknown).exit_code(), 2);
    }
}
