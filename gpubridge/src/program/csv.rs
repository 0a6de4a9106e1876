//! Rows of a CSV text as a stream: only one buffer is held, however long the text is.

use std::io::{ErrorKind, Read};
use std::ops::Range;

use super::error::Error;
use super::source::Opened;
use super::split::{Plain, Quoted, scan_plain, split_quoted};

/// Bytes asked for at a time.
const BUFFER_BYTES: usize = 256 * 1024;
/// The longest row that is taken: an unclosed quote must not swallow a file into memory.
const MAX_ROW_BYTES: usize = 1024 * 1024;
/// How many columns a message lists.
const LISTED_COLUMNS: usize = 64;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What is needed of one data row.
#[derive(Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Number of the data row, from 1.
    pub number: u64,
    /// Physical line of the text where the row begins, from 1.
    pub line: u64,
    /// The field in the key column.
    pub key: &'a [u8],
    /// The field in the value column, as it was read.
    pub value: &'a [u8],
}

/// Where a row's two fields lie.
struct Located {
    line: u64,
    key: Range<usize>,
    value: Range<usize>,
    /// In `text` when the row had quotes to take off, else in `buffer`.
    is_unquoted: bool,
}

/// A stream of rows with one key and one value column. A row begins and ends at a line feed outside
/// quotes; empty lines are passed over. Every row has as many fields as the header and is UTF-8.
pub struct Rows {
    source: Opened,
    buffer: Vec<u8>,
    /// The unread part of `buffer`.
    start: usize,
    end: usize,
    source_has_ended: bool,
    /// Line feeds passed so far.
    lines: u64,
    rows: u64,
    columns: usize,
    key_column: usize,
    value_column: usize,
    comma_at: Vec<usize>,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Rows {
    /// Reads the header of `source` and finds the two columns in it.
    pub fn new(source: Opened, key: &str, value: &str) -> Result<Self, Error> {
        let mut rows = Rows {
            source,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            source_has_ended: false,
            lines: 0,
            rows: 0,
            columns: 0,
            key_column: 0,
            value_column: 0,
            comma_at: Vec::new(),
            text: Vec::new(),
            ends: Vec::new(),
        };
        let header = rows.read_header()?;
        rows.columns = header.len();
        rows.key_column = column(&header, key, &rows.source.name)?;
        rows.value_column = column(&header, value, &rows.source.name)?;
        rows.comma_at = vec![0; header.len()];
        Ok(rows)
    }

    /// The next data row, or `None` at the end of the text.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, Error> {
        let Some(Located { line, key, value, is_unquoted }) = self.locate()? else { return Ok(None) };
        self.rows += 1;
        let bytes = if is_unquoted { &self.text } else { &self.buffer };
        Ok(Some(Row { number: self.rows, line, key: &bytes[key], value: &bytes[value] }))
    }

    fn read_header(&mut self) -> Result<Vec<String>, Error> {
        while self.end < BYTE_ORDER_MARK.len() && self.fill()? {}
        if self.buffer[..self.end].starts_with(BYTE_ORDER_MARK) {
            self.start = BYTE_ORDER_MARK.len();
        }
        loop {
            let Some(line) = self.split_row()? else {
                return Err(Error::NoHeader { name: self.source.name.clone() });
            };
            if self.text.is_empty() && self.ends.len() == 1 {
                continue;
            }
            let text = std::str::from_utf8(&self.text).map_err(|_| Error::NotUtf8 { line })?;
            let mut start = 0;
            let fields = self.ends.iter().map(|&end| text[std::mem::replace(&mut start, end)..end].to_owned());
            return Ok(fields.collect());
        }
    }

    fn locate(&mut self) -> Result<Option<Located>, Error> {
        loop {
            let unread = &self.buffer[self.start..self.end];
            let (length, commas, is_ascii) = match scan_plain(unread, &mut self.comma_at) {
                Plain::Line { end, commas, is_ascii } => (end, commas, is_ascii),
                Plain::Quote => return self.locate_quoted(),
                Plain::RanOut { .. } if self.fill()? => continue,
                Plain::RanOut { .. } if self.start == self.end => return Ok(None),
                Plain::RanOut { commas } => (self.end - self.start, commas, false),
            };
            let start = self.start;
            self.start = self.end.min(start + length + 1);
            self.lines += 1;
            let row = &self.buffer[start..start + length];
            let row = row.strip_suffix(b"\r").unwrap_or(row);
            if row.is_empty() {
                continue;
            }
            let line = self.lines;
            if !is_ascii {
                check_utf8(row, line)?;
            }
            check_field_count(commas + 1, self.columns, line)?;
            let comma_at = &self.comma_at;
            let field = |column: usize| {
                let begin = if column == 0 { 0 } else { comma_at[column - 1] + 1 };
                let end = if column == commas { row.len() } else { comma_at[column] };
                start + begin..start + end
            };
            let (key, value) = (field(self.key_column), field(self.value_column));
            return Ok(Some(Located { line, key, value, is_unquoted: false }));
        }
    }

    #[cold]
    fn locate_quoted(&mut self) -> Result<Option<Located>, Error> {
        let Some(line) = self.split_row()? else { return Ok(None) };
        check_field_count(self.ends.len(), self.columns, line)?;
        let field = |column: usize| {
            let begin = if column == 0 { 0 } else { self.ends[column - 1] };
            begin..self.ends[column]
        };
        let (key, value) = (field(self.key_column), field(self.value_column));
        Ok(Some(Located { line, key, value, is_unquoted: true }))
    }

    /// Takes the next row apart into `text` and `ends`; returns the line where it begins.
    fn split_row(&mut self) -> Result<Option<u64>, Error> {
        loop {
            let line = self.lines + 1;
            let unread = &self.buffer[self.start..self.end];
            if unread.is_empty() && self.source_has_ended {
                return Ok(None);
            }
            match split_quoted(unread, self.source_has_ended, &mut self.text, &mut self.ends) {
                Quoted::Row { taken } => {
                    check_utf8(&unread[..taken], line)?;
                    self.lines += memchr::memchr_iter(b'\n', &unread[..taken]).count() as u64;
                    self.start += taken;
                    return Ok(Some(line));
                }
                // At the end of the source the splitter is asked again: now it has all there is.
                Quoted::RanOut => {
                    self.fill()?;
                }
                Quoted::Unclosed => return Err(Error::UnclosedQuote { line }),
            }
        }
    }

    /// Reads more behind the unread bytes; `false` when the source has ended.
    fn fill(&mut self) -> Result<bool, Error> {
        if self.source_has_ended {
            return Ok(false);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            if self.end >= MAX_ROW_BYTES {
                return Err(Error::RowTooLong { line: self.lines + 1, limit_bytes: MAX_ROW_BYTES });
            }
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        loop {
            match self.source.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.source_has_ended = true;
                    return Ok(false);
                }
                Ok(count) => {
                    self.end += count;
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.read_error(error)),
            }
        }
    }

    fn read_error(&self, source: std::io::Error) -> Error {
        let (name, line) = (self.source.name.clone(), self.lines);
        let is_decoder =
            matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof);
        if self.source.is_gzip && is_decoder {
            Error::DamagedGzip { name, line, source }
        } else {
            Error::Read { name, line, source }
        }
    }
}

fn column(header: &[String], column: &str, name: &str) -> Result<usize, Error> {
    let mut found = header.iter().enumerate().filter(|(_, each)| *each == column).map(|(index, _)| index);
    let (first, others) = (found.next(), found.count());
    match first {
        Some(index) if others == 0 => Ok(index),
        Some(_) => Err(Error::RepeatedColumn { name: name.to_owned(), column: column.to_owned(), times: others + 1 }),
        None => {
            let mut columns = header.iter().take(LISTED_COLUMNS).cloned().collect::<Vec<_>>().join(", ");
            if header.len() > LISTED_COLUMNS {
                columns.push_str(&format!(" and {} more", header.len() - LISTED_COLUMNS));
            }
            Err(Error::MissingColumn { name: name.to_owned(), column: column.to_owned(), columns })
        }
    }
}

/// `bytes` begin at the beginning of line `line`.
fn check_utf8(bytes: &[u8], line: u64) -> Result<(), Error> {
    std::str::from_utf8(bytes).map(drop).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        Error::NotUtf8 { line: line + memchr::memchr_iter(b'\n', before).count() as u64 }
    })
}

fn check_field_count(found: usize, expected: usize, line: u64) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::FieldCount { line, found, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Hands out a few bytes at a time, so that rows are cut everywhere.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    type Owned = (u64, u64, String, String);

    fn read(text: &'static [u8], step: usize, key: &str, value: &str) -> Result<Vec<Owned>, Error> {
        let source = Opened {
            reader: Box::new(Trickle(text, step)),
            name: "t".into(),
            is_gzip: false,
            stored_bytes: None,
            consumed_bytes: Arc::default(),
        };
        let mut rows = Rows::new(source, key, value)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next_row()? {
            let owned = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            all.push((row.number, row.line, owned(row.key), owned(row.value)));
        }
        Ok(all)
    }

    fn expect(rows: &[(u64, u64, &str, &str)]) -> Vec<Owned> {
        rows.iter().map(|&(number, line, key, value)| (number, line, key.into(), value.into())).collect()
    }

    #[test]
    fn rows_are_the_same_however_the_bytes_arrive() {
        let text = b"\xef\xbb\xbfv,\"k\",o\r\n1,a,x\r\n\r\n\"2\",\"b\nb\"\"\",\n,c,\xc3\xa9\n-4,d,";
        let expected = expect(&[(1, 2, "a", "1"), (2, 4, "b\nb\"", "2"), (3, 6, "c", ""), (4, 7, "d", "-4")]);
        for step in 1..=text.len() {
            assert_eq!(read(text, step, "k", "v").unwrap(), expected, "{step} bytes at a time");
        }
    }

    #[test]
    fn errors_name_the_physical_line() {
        let fails = |text: &'static [u8]| read(text, 7, "k", "v").unwrap_err().to_string();
        assert_eq!(fails(b"k,v\n\"a\n\n\",1\na,2,3\n"), "line 5: 3 fields where the header has 2");
        assert_eq!(fails(b"k,v\n\n\na\n"), "line 4: 1 fields where the header has 2");
        assert_eq!(fails(b"k,v\n\"a\n\n\n"), "line 2: a quoted field that begins in this row is never closed");
        assert_eq!(fails(b"k,v\n\"a\n\n\xff\",1\n"), "line 4: bytes that are not UTF-8");
        assert_eq!(fails(b"k,v\na,1\nb\xc3,2\n"), "line 3: bytes that are not UTF-8");
        assert_eq!(fails(b"k,v\na,1\nb,2\xc3"), "line 3: bytes that are not UTF-8");
    }

    #[test]
    fn bytes_that_are_utf8_only_across_a_comma_or_a_quote_are_refused() {
        let fails = |text: &'static [u8]| read(text, 100, "k", "v").unwrap_err().to_string();
        assert_eq!(fails(b"k,v\n\xc3,\xa9\n"), "line 2: bytes that are not UTF-8");
        assert_eq!(fails(b"k,v\n\"\xc3\",\"\xa9\"\n"), "line 2: bytes that are not UTF-8");
    }

    #[test]
    fn the_header_is_looked_at_closely() {
        let fails = |text: &'static [u8]| read(text, 100, "k", "v").unwrap_err().to_string();
        assert_eq!(fails(b""), "t has no header line: it is empty");
        assert_eq!(fails(b"\xef\xbb\xbf\r\n\n"), "t has no header line: it is empty");
        assert_eq!(fails(b"k,w\n"), "no column \"v\" in t; its columns are: k, w");
        assert_eq!(fails(b"k,v,w,v\n"), "column \"v\" is named 2 times in the header of t");
        assert_eq!(read(b"w,w,k,v\n", 100, "k", "v").unwrap(), []);
        assert_eq!(read(b"k", 100, "k", "k").unwrap(), []);
    }
}
