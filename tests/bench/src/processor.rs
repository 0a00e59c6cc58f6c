//! How much time has passed, on the clock and on the processors.

use std::io;
use std::time::{Duration, Instant};

/// The processor time that all threads of this process have used, in user mode and in the kernel.
pub fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The processor time of another process, of all its threads, also of those that have ended. Not of its children. Known
/// to a hundredth of a second. Linux only.
///
/// # Errors
///
/// When there is no such process.
pub fn processor_time_of(process: u32) -> io::Result<Duration> {
    let ticks = parse(&std::fs::read_to_string(format!("/proc/{process}/stat"))?)?;
    let for_each_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_nanos(ticks * (1_000_000_000 / for_each_second)))
}

/// The ticks in user mode and in the kernel, which are the fields 14 and 15.
fn parse(stat: &str) -> io::Result<u64> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("not a stat: {stat:?}"));
    // The second field is a name in brackets, in which anything may stand.
    let (_, after_name) = stat.rsplit_once(')').ok_or_else(invalid)?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<u64>().ok());
    Ok(field(14).ok_or_else(invalid)? + field(15).ok_or_else(invalid)?)
}

/// Measures how long something takes in this process.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    begun: Instant,
    processor: Duration,
}

/// What a [`Stopwatch`] has measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed {
    /// Time on the clock.
    pub wall: Duration,
    /// Processor time of all threads.
    pub processor: Duration,
}

impl Stopwatch {
    /// Begins now.
    pub fn start() -> Self {
        Self { processor: processor_time(), begun: Instant::now() }
    }

    /// What has passed until now.
    pub fn stop(&self) -> Elapsed {
        Elapsed { wall: self.begun.elapsed(), processor: processor_time().saturating_sub(self.processor) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 1 0 5 0 0\n";
        assert_eq!(parse(stat).unwrap(), 42);
        assert!(parse("7 (a) S 1").is_err());
        assert!(parse("nothing").is_err());
    }

    #[test]
    fn work_takes_processor_time() {
        let watch = Stopwatch::start();
        let mut sum = 0_u64;
        while watch.stop().processor < Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(Duration::from_millis(10) <= processor_time_of(std::process::id()).unwrap(), "{sum}");
    }
}
