//! Cutting CSV text into fields: a fast scan for rows without quotes, a careful one for the rest.
//!
//! A row ends at a line feed; a carriage return just before it belongs to the line end. A field is
//! quoted when its first byte is a quote; two quotes inside stand for one; what follows the closing
//! quote up to the delimiter is taken as it is. A quote anywhere else is an ordinary byte.

use memchr::{memchr, memchr2};

/// What [`scan_plain`] met.
#[derive(Debug, PartialEq, Eq)]
pub enum Plain {
    /// The row ends at this offset, where a line feed stands; it has this many commas. All its
    /// bytes are ASCII if `is_ascii`, and may be otherwise too.
    Line { end: usize, commas: usize, is_ascii: bool },
    /// A quote stands in the row: it needs [`split_quoted`].
    Quote,
    /// The bytes end before the row does; it has this many commas so far.
    RanOut { commas: usize },
}

const LOW_BITS: u64 = u64::from_ne_bytes([0x7f; 8]);

/// The high bit of each byte of `word` that equals `byte`, and no other bit.
fn matches(word: u64, byte: u8) -> u64 {
    let zero_where_equal = word ^ u64::from_ne_bytes([byte; 8]);
    // No carry leaves a byte, so unlike the shorter form of this trick it has no false positives.
    !(((zero_where_equal & LOW_BITS) + LOW_BITS) | zero_where_equal | LOW_BITS)
}

/// Finds the end of the row that begins at `bytes[0]`, and the offsets of its first commas, eight
/// bytes at a time. `comma_at` takes as many offsets as it has room for.
pub fn scan_plain(bytes: &[u8], comma_at: &mut [usize]) -> Plain {
    let mut commas = 0;
    let mut words = bytes.chunks_exact(8);
    let mut base = 0;
    let mut seen = 0;
    for chunk in &mut words {
        let word = u64::from_le_bytes(chunk.try_into().expect("a chunk of eight bytes"));
        seen |= word;
        let mut found = matches(word, b',') | matches(word, b'\n') | matches(word, b'"');
        while found != 0 {
            let within = (found.trailing_zeros() / 8) as usize;
            found &= found - 1;
            let at = base + within;
            match chunk[within] {
                b',' => note_comma(comma_at, &mut commas, at),
                b'\n' => return Plain::Line { end: at, commas, is_ascii: seen & !LOW_BITS == 0 },
                _ => return Plain::Quote,
            }
        }
        base += 8;
    }
    for (within, byte) in words.remainder().iter().enumerate() {
        match byte {
            b',' => note_comma(comma_at, &mut commas, base + within),
            b'\n' => return Plain::Line { end: base + within, commas, is_ascii: false },
            b'"' => return Plain::Quote,
            _ => {}
        }
    }
    Plain::RanOut { commas }
}

fn note_comma(comma_at: &mut [usize], commas: &mut usize, at: usize) {
    if let Some(slot) = comma_at.get_mut(*commas) {
        *slot = at;
    }
    *commas += 1;
}

/// What [`split_quoted`] met.
#[derive(Debug, PartialEq, Eq)]
pub enum Quoted {
    /// The row is complete and takes this many bytes, its line feed included.
    Row { taken: usize },
    /// The bytes end before the row does.
    RanOut,
    /// The input ends inside a quoted field.
    Unclosed,
}

/// Splits the row that begins at `bytes[0]`; `is_last` says that no more bytes will come. `text`
/// receives the fields without their quotes, one after the other, and `ends` where each ends.
pub fn split_quoted(bytes: &[u8], is_last: bool, text: &mut Vec<u8>, ends: &mut Vec<usize>) -> Quoted {
    text.clear();
    ends.clear();
    let mut at = 0;
    loop {
        if bytes.get(at) == Some(&b'"') {
            match unquote(bytes, at + 1, text) {
                Some(after) => at = after,
                None if is_last => return Quoted::Unclosed,
                None => return Quoted::RanOut,
            }
        }
        let rest = &bytes[at..];
        let stop = memchr2(b',', b'\n', rest);
        if stop.is_none() && !is_last {
            return Quoted::RanOut;
        }
        let tail = &rest[..stop.unwrap_or(rest.len())];
        if let Some(stop) = stop
            && rest[stop] == b','
        {
            text.extend_from_slice(tail);
            ends.push(text.len());
            at += stop + 1;
            continue;
        }
        text.extend_from_slice(tail.strip_suffix(b"\r").unwrap_or(tail));
        ends.push(text.len());
        return Quoted::Row { taken: at + stop.map_or(rest.len(), |stop| stop + 1) };
    }
}

/// Copies a quoted field that begins at `at` (behind its quote); returns the offset behind the
/// closing quote, or `None` when that is not among these bytes.
fn unquote(bytes: &[u8], mut at: usize, text: &mut Vec<u8>) -> Option<usize> {
    loop {
        let quote = at + memchr(b'"', &bytes[at..])?;
        text.extend_from_slice(&bytes[at..quote]);
        if bytes.get(quote + 1) != Some(&b'"') {
            return Some(quote + 1);
        }
        text.push(b'"');
        at = quote + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Vec<Vec<u8>> {
        let (mut text, mut ends) = (Vec::new(), Vec::new());
        assert!(matches!(split_quoted(bytes, true, &mut text, &mut ends), Quoted::Row { .. }));
        let mut start = 0;
        ends.iter().map(|&end| text[std::mem::replace(&mut start, end)..end].to_vec()).collect()
    }

    #[test]
    fn the_word_scan_marks_exactly_the_equal_bytes() {
        for byte in 0..=255_u8 {
            let word = u64::from_le_bytes([byte, b',', byte, 0, 0x80, byte, b',' | 0x80, b',' ^ 1]);
            let expected = word.to_le_bytes().map(|each| if each == b',' { 0x80 } else { 0 });
            assert_eq!(matches(word, b',').to_le_bytes(), expected);
        }
    }

    #[test]
    fn the_plain_scan_finds_commas_and_the_line_end_at_every_offset() {
        for shift in 0..24 {
            let line = format!("{},b,,{}\nnext row", "x".repeat(shift), "y".repeat(shift));
            let mut comma_at = [0; 8];
            let found = scan_plain(line.as_bytes(), &mut comma_at);
            assert_eq!(found, Plain::Line { end: 2 * shift + 4, commas: 3, is_ascii: true });
            assert_eq!(comma_at[..3], [shift, shift + 2, shift + 3]);
        }
        for at in 0..24 {
            let mut line = b"xxxxxxxxxxxxxxxxxxxxxxxx\n       ".to_vec();
            line[at] = 0x80;
            assert!(matches!(scan_plain(&line, &mut []), Plain::Line { end: 24, is_ascii: false, .. }));
        }
        assert_eq!(scan_plain(b"a,b", &mut [0; 1]), Plain::RanOut { commas: 1 });
        assert_eq!(scan_plain(b"a,\"b\"\n", &mut [0; 1]), Plain::Quote);
    }

    #[test]
    fn quotes_by_hand() {
        assert_eq!(fields(b"a,\"b\"\"c\nd,\",e\r\n"), [&b"a"[..], b"b\"c\nd,", b"e"]);
        assert_eq!(fields(b"\"\",\"x\"y"), [&b""[..], b"xy"]);
        assert_eq!(fields(b"a\"b,c"), [&b"a\"b"[..], b"c"]);
        let (mut text, mut ends) = (Vec::new(), Vec::new());
        assert_eq!(split_quoted(b"a,\"b", true, &mut text, &mut ends), Quoted::Unclosed);
        assert_eq!(split_quoted(b"a,\"b", false, &mut text, &mut ends), Quoted::RanOut);
        assert_eq!(split_quoted(b"a,\"b\"", false, &mut text, &mut ends), Quoted::RanOut);
    }

    /// The first row of `bytes` as csv-core sees it.
    fn peer_fields(reader: &mut csv_core::Reader, bytes: &[u8]) -> Vec<Vec<u8>> {
        let (mut text, mut ends) = ([0; 256], [0; 64]);
        reader.reset();
        let (mut input, mut written, mut count) = (bytes, 0, 0);
        loop {
            let (result, taken, text_len, ends_len) =
                reader.read_record(input, &mut text[written..], &mut ends[count..]);
            input = &input[taken..];
            written += text_len;
            count += ends_len;
            if result != csv_core::ReadRecordResult::InputEmpty {
                break;
            }
        }
        let mut start = 0;
        ends[..count].iter().map(|&end| text[std::mem::replace(&mut start, end)..end].to_vec()).collect()
    }

    #[test]
    fn random_rows_split_as_csv_core_splits_them() {
        let mut random = fastrand::Rng::with_seed(42);
        let pieces: [&[u8]; 7] = [b"\"", b",", b"a", b"\n", b"\r\n", b"\"\"", "\u{e9}".as_bytes()];
        let (mut peer, mut compared) = (csv_core::Reader::new(), 0);
        for _ in 0..200_000 {
            let mut row = b"x,".to_vec();
            for _ in 0..random.usize(0..14) {
                row.extend_from_slice(pieces[random.usize(..pieces.len())]);
            }
            let (mut text, mut ends) = (Vec::new(), Vec::new());
            if split_quoted(&row, true, &mut text, &mut ends) == Quoted::Unclosed {
                continue;
            }
            assert_eq!(fields(&row), peer_fields(&mut peer, &row), "{:?}", String::from_utf8_lossy(&row));
            compared += 1;
        }
        assert!(compared > 50_000);
    }
}
