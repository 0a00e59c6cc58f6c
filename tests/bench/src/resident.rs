//! How much memory a process occupies, as the kernel sees it.

use std::io;

/// The resident memory of this process in bytes. Linux only.
///
/// # Errors
///
/// Where there is no `/proc`, or one that says something else.
pub fn resident_bytes() -> io::Result<u64> {
    parse(&std::fs::read_to_string("/proc/self/statm")?)
}

/// The resident memory of another process in bytes. Linux only.
///
/// # Errors
///
/// When there is no such process.
pub fn resident_bytes_of(process: u32) -> io::Result<u64> {
    parse(&std::fs::read_to_string(format!("/proc/{process}/statm"))?)
}

/// The second number of `statm` is the resident set in pages.
fn parse(statm: &str) -> io::Result<u64> {
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages =
        pages.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("not a statm: {statm:?}")))?;
    Ok(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_set_is_the_second_number() {
        assert_eq!(parse("100 7 3 1 0 50 0\n").unwrap(), 7 * rustix::param::page_size() as u64);
        assert!(parse("100").is_err());
        assert!(parse("100 many").is_err());
    }

    #[test]
    fn what_is_filled_is_resident() {
        let before = resident_bytes().unwrap();
        let filled = vec![7_u8; 64 << 20];
        let after = resident_bytes_of(std::process::id()).unwrap();
        assert_eq!(filled[12345], 7);
        assert!(before + (60 << 20) < after, "{before} before, {after} with 64 MiB more");
    }
}
