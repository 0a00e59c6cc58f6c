//! Counts what is allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The allocator of the system, which counts what it is asked for while [`Allocations::count`] runs.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: openconsensus_bench::CountingAllocator = openconsensus_bench::CountingAllocator;
/// ```
///
/// At any other time it costs one load and a branch, so that a contender that allocates more is not made slower than it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

/// What was allocated within a time, by all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    /// How often memory was asked for, growing included.
    pub count: u64,
    /// How many bytes were asked for; of what grows, the whole new size.
    pub bytes: u64,
}

impl Allocations {
    /// What all threads allocate from now on until [`Counting::stop`]. One at a time in a process.
    ///
    /// # Panics
    ///
    /// If somebody else is counting.
    pub fn count() -> Counting {
        assert!(!IS_COUNTING.swap(true, Ordering::SeqCst), "allocations are being counted already");
        Counting { before: total() }
    }
}

/// A count that runs.
#[derive(Debug)]
pub struct Counting {
    before: Allocations,
}

impl Counting {
    /// Stops counting, and says what was allocated.
    pub fn stop(self) -> Allocations {
        let after = total();
        Allocations { count: after.count - self.before.count, bytes: after.bytes - self.before.bytes }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        IS_COUNTING.store(false, Ordering::SeqCst);
    }
}

static IS_COUNTING: AtomicBool = AtomicBool::new(false);

/// Counters of some of the threads, on a cache line of their own so that threads do not wait for each other.
#[repr(align(128))]
struct Shard {
    count: AtomicU64,
    bytes: AtomicU64,
}

const SHARDS: usize = 16;
static COUNTED: [Shard; SHARDS] =
    [const { Shard { count: AtomicU64::new(0), bytes: AtomicU64::new(0) } }; SHARDS];
static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // Made at compile time and never dropped: to use it allocates nothing, also when a thread begins or ends.
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn total() -> Allocations {
    let sum =
        |of: fn(&Shard) -> &AtomicU64| COUNTED.iter().map(|shard| of(shard).load(Ordering::SeqCst)).sum();
    Allocations { count: sum(|shard| &shard.count), bytes: sum(|shard| &shard.bytes) }
}

fn note(bytes: usize) {
    if !IS_COUNTING.load(Ordering::Relaxed) {
        return;
    }
    let shard = SHARD.with(|shard| {
        if shard.get() == usize::MAX {
            shard.set(NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        shard.get()
    });
    COUNTED[shard].count.fetch_add(1, Ordering::Relaxed);
    COUNTED[shard].bytes.fetch_add(bytes as u64, Ordering::Relaxed);
}

// SAFETY: every method hands its arguments unchanged to the same method of `System` and returns what that returns, so the
// contract of `GlobalAlloc` is kept because `System` keeps it, and the caller's promises are those that `System` needs.
// What `note` does besides touches atomics and a thread-local without destructor, neither of which allocates or panics.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, new_size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: CountingAllocator = CountingAllocator;

    #[test]
    fn what_is_allocated_while_it_counts_is_counted() {
        let uncounted = std::hint::black_box(vec![1_u8; 1 << 20]);
        let counting = Allocations::count();
        let thread = std::thread::spawn(|| std::hint::black_box(vec![0_u8; 300 << 20]).len());
        let mut grown = Vec::with_capacity(1);
        for n in 0..100 {
            grown.push(std::hint::black_box(n));
        }
        let other = thread.join().unwrap();
        let counted = counting.stop();
        assert_eq!((uncounted.len(), grown.len(), other), (1 << 20, 100, 300 << 20));
        // Other tests run beside this one, and allocate less. The 300 MiB are never touched, so that they take no memory.
        assert!(7 < counted.count, "{counted:?}");
        assert!(300 << 20 <= counted.bytes && counted.bytes < 500 << 20, "{counted:?}");
    }
}
