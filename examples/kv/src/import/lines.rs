//! Splits a stream into lines, without ever holding more than one of limited length.

use std::io::{self, BufRead};

/// The longest line that is read. A longer one is malformed.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// One line of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number; the first is 1.
    pub number: u64,
    /// What it says without its line end, or why it could not be read.
    pub text: Result<Vec<u8>, String>,
    /// How many bytes it took, with its line end.
    pub bytes: u64,
}

/// The lines of a stream. A line ends with a newline, with a carriage return before it or without; the last may end
/// with the stream.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    number: u64,
    bytes_max: usize,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `reader`, each of at most [`LINE_BYTES_MAX`].
    pub fn new(reader: R) -> Self {
        Self { reader, number: 0, bytes_max: LINE_BYTES_MAX }
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        let mut text = Vec::new();
        let mut bytes = 0_u64;
        let mut is_too_long = false;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            if !is_too_long && text.len() + part.len() <= self.bytes_max {
                text.extend_from_slice(part);
            } else {
                is_too_long = true;
            }
            let used = end.map_or(available.len(), |end| end + 1);
            self.reader.consume(used);
            bytes += used as u64;
            if end.is_some() || used == 0 {
                break;
            }
        }
        if bytes == 0 {
            return Ok(None);
        }
        self.number += 1;
        if text.last() == Some(&b'\r') {
            text.pop();
        }
        let text = if is_too_long {
            Err(format!("the line is longer than {} bytes", self.bytes_max))
        } else {
            Ok(text)
        };
        Ok(Some(Line { number: self.number, text, bytes }))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<io::Result<Line>> {
        self.next_line().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, buffer: usize) -> Vec<(u64, Result<String, String>)> {
        let reader = io::BufReader::with_capacity(buffer, text.as_bytes());
        let lines = Lines { bytes_max: 8, ..Lines::new(reader) };
        lines
            .map(|line| line.unwrap())
            .map(|line| (line.number, line.text.map(|t| String::from_utf8(t).unwrap())))
            .collect()
    }

    #[test]
    fn lines_are_numbered_and_split_at_any_buffer_size() {
        for buffer in 1..20 {
            assert_eq!(lines("", buffer), vec![]);
            let expected = vec![(1, Ok("a".into())), (2, Ok(String::new())), (3, Ok("bc".into()))];
            assert_eq!(lines("a\n\nbc", buffer), expected);
            assert_eq!(lines("a\r\n\r\nbc\n", buffer), expected);
        }
    }

    #[test]
    fn a_line_over_the_limit_is_malformed_and_the_next_is_read() {
        for buffer in 1..20 {
            let read = lines("12345678\n123456789\nok\n", buffer);
            assert_eq!(read[0], (1, Ok("12345678".into())));
            assert!(read[1].1.as_ref().unwrap_err().contains("longer than 8 bytes"));
            assert_eq!(read[2], (3, Ok("ok".into())));
        }
    }

    #[test]
    fn bytes_count_line_ends() {
        let total: u64 = Lines::new("a\r\nb\nc".as_bytes()).map(|line| line.unwrap().bytes).sum();
        assert_eq!(total, 6);
    }
}
