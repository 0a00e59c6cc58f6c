//! How keys and values are written in files and shown: tab-separated lines and JSON lines.
//!
//! **Tab-separated**: `key<TAB>value`, one pair a line. In both, a backslash begins an escape: `\t`, `\n`, `\r`, `\\`,
//! and `\xNN` for any byte. Bytes that are not UTF-8, and control characters, are written as `\xNN`.
//!
//! **JSON lines**: `{"key": "...", "value": "..."}`, one object a line. A value that is not UTF-8 is written in
//! hexadecimal as `"value_hex": "00ff"` in place of `"value"`.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// How pairs are written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `key<TAB>value`, with backslash escapes.
    Tsv,
    /// `{"key": "...", "value": "..."}`.
    Jsonl,
}

impl Format {
    /// By the ending of a file's name; tab-separated when that says nothing.
    pub fn of_path(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("jsonl" | "ndjson" | "json") => Self::Jsonl,
            Some(_) | None => Self::Tsv,
        }
    }

    /// Writes one line.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_line(self, out: &mut impl io::Write, key: &str, value: &[u8]) -> io::Result<()> {
        match self {
            Self::Tsv => writeln!(out, "{}\t{}", escape(key.as_bytes()), escape(value)),
            Self::Jsonl => {
                serde_json::to_writer(&mut *out, &JsonLine::of(key, value)).map_err(io::Error::from)?;
                out.write_all(b"\n")
            }
        }
    }

    /// Reads one line, without its line end.
    ///
    /// # Errors
    ///
    /// Why it is malformed.
    pub fn parse_line(self, line: &[u8], backslashes: Backslashes) -> Result<(String, Vec<u8>), String> {
        let (key, value) = match self {
            Self::Tsv => parse_tsv(line, backslashes)?,
            Self::Jsonl => parse_json(line)?,
        };
        if key.is_empty() {
            return Err("the key is empty".into());
        }
        Ok((key, value))
    }
}

/// What a backslash in a tab-separated line means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backslashes {
    /// It begins an escape.
    Escape,
    /// It stands for itself, and all behind the first tab is the value.
    Literal,
}

fn parse_tsv(line: &[u8], backslashes: Backslashes) -> Result<(String, Vec<u8>), String> {
    let tab = line.iter().position(|byte| *byte == b'\t');
    let tab = tab.ok_or("there is no tab between key and value")?;
    let (key, value) = (&line[..tab], &line[tab + 1..]);
    let (key, value) = match backslashes {
        Backslashes::Literal => (key.to_vec(), value.to_vec()),
        Backslashes::Escape if value.contains(&b'\t') => {
            return Err(r"there is more than one tab: write a tab in a value as \t".into());
        }
        Backslashes::Escape => (unescape(key)?, unescape(value)?),
    };
    let key = String::from_utf8(key).map_err(|_| "the key is not UTF-8")?;
    Ok((key, value))
}

/// One JSON line.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLine {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
}

impl JsonLine {
    fn of(key: &str, value: &[u8]) -> Self {
        let key = key.to_owned();
        match std::str::from_utf8(value) {
            Ok(value) => Self { key, value: Some(value.to_owned()), value_hex: None },
            Err(_) => Self { key, value: None, value_hex: Some(hex(value)) },
        }
    }
}

fn parse_json(line: &[u8]) -> Result<(String, Vec<u8>), String> {
    let JsonLine { key, value, value_hex } = serde_json::from_slice(line)
        .map_err(|error| format!("not a JSON object with key and value: {error}"))?;
    match (value, value_hex) {
        (Some(value), None) => Ok((key, value.into_bytes())),
        (None, Some(value)) => Ok((key, unhex(&value)?)),
        (None, None) => Err("there is neither \"value\" nor \"value_hex\"".into()),
        (Some(_), Some(_)) => Err("there are both \"value\" and \"value_hex\": write one of them".into()),
    }
}

/// A JSON object with a value as in JSON lines: `{"value": ...}`, `{"value_hex": ...}`, or `{"value": null}`.
pub fn json_value(value: Option<&[u8]>) -> serde_json::Value {
    match value.map(|value| std::str::from_utf8(value).map_err(|_| hex(value))) {
        None => serde_json::json!({ "value": null }),
        Some(Ok(text)) => serde_json::json!({ "value": text }),
        Some(Err(hex)) => serde_json::json!({ "value_hex": hex }),
    }
}

/// Writes bytes so that they fit on a line: see the head of this module.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str(r"\\"),
                '\t' => text.push_str(r"\t"),
                '\n' => text.push_str(r"\n"),
                '\r' => text.push_str(r"\r"),
                c if c.is_ascii_control() => push_byte(&mut text, c as u8),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            push_byte(&mut text, *byte);
        }
    }
    text
}

fn push_byte(text: &mut String, byte: u8) {
    // Writing to a string cannot fail.
    let _ = write!(text, r"\x{byte:02x}");
}

/// Undoes [`escape`].
///
/// # Errors
///
/// Which escape is not one.
pub fn unescape(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let (&kind, tail) = rest.split_first().ok_or(r"there is a backslash at the end; write it as \\")?;
        rest = tail;
        bytes.push(match kind {
            b'\\' => b'\\',
            b't' => b'\t',
            b'n' => b'\n',
            b'r' => b'\r',
            b'x' => {
                let digits = rest.get(..2).ok_or(r"\x needs two hexadecimal digits")?;
                rest = &rest[2..];
                let digits = String::from_utf8_lossy(digits);
                unhex(&digits)
                    .map_err(|_| format!(r"\x{digits} is not an escape: \x needs two hexadecimal digits"))?[0]
            }
            other => {
                let other = char::from(other);
                return Err(format!(r"\{other} is not an escape: write a backslash as \\"));
            }
        });
    }
    Ok(bytes)
}

/// Two hexadecimal digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Undoes [`hex`].
///
/// # Errors
///
/// Why `text` is not hexadecimal.
pub fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.ok_or_else(|| format!("{text:?} is not hexadecimal"))?;
    if digits.len() % 2 != 0 {
        return Err(format!("{text:?} has an odd number of hexadecimal digits"));
    }
    Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let values: [&[u8]; 6] = [
            b"",
            b"plain",
            b"tab\tnewline\nreturn\rback\\slash",
            b"\x00\x1b\x7f",
            &[0xff, 0xfe, b'a'],
            "größe".as_bytes(),
        ];
        for format in [Format::Tsv, Format::Jsonl] {
            for value in values {
                for key in ["k", "tab\tkey", "back\\slash", "ключ"] {
                    let mut line = Vec::new();
                    format.write_line(&mut line, key, value).unwrap();
                    assert_eq!(line.pop(), Some(b'\n'));
                    assert!(!line.contains(&b'\n'), "{line:?}");
                    let parsed = format.parse_line(&line, Backslashes::Escape).unwrap();
                    assert_eq!(parsed, (key.to_owned(), value.to_vec()));
                }
            }
        }
    }

    #[test]
    fn malformed_tab_separated_lines_say_why() {
        let wrong: [(&[u8], &str); 8] = [
            (b"no tab", "no tab"),
            (b"\tvalue", "key is empty"),
            (b"k\ta\tb", "more than one tab"),
            (b"k\ta\\", "backslash at the end"),
            (b"k\ta\\q", r"\q is not an escape"),
            (b"k\t\\x1", "two hexadecimal digits"),
            (b"k\t\\xzz", "two hexadecimal digits"),
            (b"\xff\tvalue", "key is not UTF-8"),
        ];
        for (line, says) in wrong {
            let error = Format::Tsv.parse_line(line, Backslashes::Escape).unwrap_err();
            assert!(error.contains(says), "{line:?}: {error}");
        }
    }

    #[test]
    fn literal_backslashes_and_tabs_are_kept() {
        let parsed = Format::Tsv.parse_line(b"k\\n\tC:\\temp\tx", Backslashes::Literal).unwrap();
        assert_eq!(parsed, ("k\\n".to_owned(), b"C:\\temp\tx".to_vec()));
    }

    #[test]
    fn malformed_json_lines_say_why() {
        let wrong: [(&str, &str); 7] = [
            ("{", "not a JSON object"),
            (r#"{"key":"k"}"#, "neither"),
            (r#"{"value":"v"}"#, "missing field `key`"),
            (r#"{"key":"k","value":1}"#, "invalid type"),
            (r#"{"key":"k","value":"v","more":1}"#, "unknown field `more`"),
            (r#"{"key":"k","value":"v","value_hex":"00"}"#, "both"),
            (r#"{"key":"k","value_hex":"0"}"#, "odd number"),
        ];
        for (line, says) in wrong {
            let error = Format::Jsonl.parse_line(line.as_bytes(), Backslashes::Escape).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn the_ending_tells_the_format() {
        assert_eq!(Format::of_path(Path::new("a/b.jsonl")), Format::Jsonl);
        assert_eq!(Format::of_path(Path::new("a.tsv")), Format::Tsv);
        assert_eq!(Format::of_path(Path::new("a")), Format::Tsv);
    }
}
