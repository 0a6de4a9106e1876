//! What a row's two fields mean.

/// A row's value field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Empty, or `NA`: there is nothing to score.
    Missing,
    /// A finite number, rounded to the nearest f32.
    Number(f32),
    /// Anything else: text, an infinity, a number that only an f64 could hold.
    Bad,
}

/// Reads a value field. Blanks around a number, or around `NA`, are passed over.
pub fn parse(field: &[u8]) -> Value {
    let Ok(text) = std::str::from_utf8(field) else { return Value::Bad };
    let text = text.trim_matches([' ', '\t']);
    if text.is_empty() || text == "NA" {
        return Value::Missing;
    }
    match text.parse::<f32>() {
        Ok(number) if number.is_finite() => Value::Number(number),
        _ => Value::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_f32_and_finite() {
        assert_eq!(parse(b"-12"), Value::Number(-12.0));
        assert_eq!(parse(b" 0.1\t"), Value::Number(0.1));
        assert_eq!(parse(b"16777217"), Value::Number(16_777_216.0));
        assert_eq!(parse(b"1e-60"), Value::Number(0.0));
        assert_eq!(parse(b"3.4028235e38"), Value::Number(f32::MAX));
        for bad in [&b"1e39"[..], b"inf", b"-infinity", b"nan", b"x", b"1,5", b"0x10", b"1 2", b"\xff", b"na"] {
            assert_eq!(parse(bad), Value::Bad, "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn empty_and_na_are_missing() {
        for missing in [&b""[..], b"NA", b"  ", b" NA "] {
            assert_eq!(parse(missing), Value::Missing);
        }
    }
}
