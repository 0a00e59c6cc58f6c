//! How much memory a node may take, by its limits.

use crate::raft::WRITE_OVERHEAD_BYTES;

use super::Config;

/// What a read takes that is under way: its place in two queues, and the channel of its answer.
const READ_BYTES: u64 = 256;
/// What a request of an operator takes.
const REQUEST_BYTES: u64 = 1024;

impl Config {
    /// The most bytes that a node with so many peers keeps in memory: the sum of all limits.
    ///
    /// | what waits where | limit | default | beyond it |
    /// | --- | --- | --- | --- |
    /// | one command | [`command_bytes_max`](Self::command_bytes_max) | 4 MiB | refused: `WriteError::TooLarge` |
    /// | commands admitted and not answered: inbox, batch, log, waiting for their answers | [`uncommitted_bytes_max`](Self::uncommitted_bytes_max) | 64 MiB | `write` waits its turn, `try_write` gets `Busy` |
    /// | entries in the log that are not committed or not durable, also those of earlier leaders | [`uncommitted_bytes_max`](Self::uncommitted_bytes_max) | 64 MiB | the leader appends no more: `write` waits, `try_write` gets `Busy`. A follower takes what its leader has in flight |
    /// | stable entries kept for peers and state machine (the tail) | [`tail_bytes_max`](Self::tail_bytes_max) | 32 MiB | the oldest leave memory, and are read from the log when needed |
    /// | committed entries before the state machine | [`apply_bytes_max`](Self::apply_bytes_max), and four times [`apply_entries_max`](Self::apply_entries_max) | 32 MiB | they wait in the log |
    /// | appends to one peer without an answer | [`inflight_bytes_max`](Self::inflight_bytes_max), [`inflight_appends_max`](Self::inflight_appends_max) | 16 MiB, 256 | the peer is sent no more |
    /// | entries read for one peer that lags | one read at a time, of [`append_bytes_max`](Self::append_bytes_max) | 1 MiB | the next read waits |
    /// | one append, and one batch in memory | [`append_bytes_max`](Self::append_bytes_max) | 1 MiB | cut; one larger entry goes alone |
    /// | appends that have arrived | [`receive_bytes_max`](Self::receive_bytes_max) | 64 MiB | `receive` waits, so the network reads no further |
    /// | other messages that have arrived | [`receive_urgent_bytes_max`](Self::receive_urgent_bytes_max) | 1 MiB | `receive` waits; never behind appends |
    /// | reads under way, on this node | [`reads_waiting_max`](Self::reads_waiting_max) | 65,536 | `read` waits its turn |
    /// | reads of one peer that wait on the leader | as many, at that peer | 65,536 | the peer asks again |
    /// | requests of operators | [`requests_waiting_max`](Self::requests_waiting_max) | 1024 | the call waits its turn |
    /// | messages that wait for this node's disk | one acknowledgement for each write under way | | bounded by what is appended |
    /// | chunks of a snapshot | one of the application's in each direction | | the stream is read no further |
    /// | events of leadership for a slow listener | 256 | | whole leaderships are left out, and counted |
    /// | entries as bytes, for the disk and all peers | as much again as all the entries above | | they come and go with their entries |
    /// | what a network queues | limits of its own, such as [`RequestNetworkLimits`](crate::RequestNetworkLimits) | 32 MiB a peer and lane | dropped; the algorithm sends it again |
    ///
    /// Callers who wait for their turn hold their commands themselves; so does who keeps a response. Not counted are the
    /// stores and the network, the terms and memberships of the log (a few bytes for each election and change), and what
    /// the allocator adds. Where one command is larger than a limit, that limit is as large as the command: it must still
    /// get through.
    ///
    /// ```
    /// use openconsensus::Config;
    ///
    /// assert!(Config::default().memory_bytes_max(2) < 700 << 20);
    /// ```
    pub fn memory_bytes_max(&self, peers: u64) -> u64 {
        let largest = self.command_bytes_max.saturating_add(WRITE_OVERHEAD_BYTES);
        let append = self.append_bytes_max.max(largest);
        // Of the last batch all may be admitted, and what is in the log before it is below the limit, or was in flight from
        // an earlier leader.
        let admitted = self.uncommitted_bytes_max.max(largest);
        let log = admitted.max(self.inflight_bytes_max.saturating_add(append));
        // Whoever holds a part of a batch holds all of it, at both ends of what it holds.
        let cut = append.saturating_mul(2);
        let apply = self.apply_bytes_max.max(largest).saturating_add(append).saturating_add(cut);
        let received = self.receive_bytes_max.max(append);
        let peer = self.inflight_bytes_max.saturating_add(append).saturating_add(append).saturating_add(cut);
        // Entries are kept together with their encoding, which is about as large: once for the disk and all peers.
        let entries = [log, self.tail_bytes_max, cut, apply, received, peer.saturating_mul(peers)]
            .into_iter()
            .fold(0, u64::saturating_add)
            .saturating_mul(2);
        let asked = self
            .reads_waiting_max
            .saturating_mul(READ_BYTES)
            .saturating_add(self.requests_waiting_max.saturating_mul(REQUEST_BYTES));
        admitted.saturating_add(entries).saturating_add(self.receive_urgent_bytes_max).saturating_add(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever adds a limit in bytes has to think of the sum.
    #[test]
    fn every_limit_in_bytes_counts() {
        let sum = |spoil: fn(&mut Config)| {
            let mut config = Config::default();
            spoil(&mut config);
            config.memory_bytes_max(2)
        };
        let more = 1 << 30;
        let before = sum(|_| {});
        assert_eq!(sum(|c| c.uncommitted_bytes_max += 1 << 30), before + 3 * more);
        assert_eq!(sum(|c| c.tail_bytes_max += 1 << 30), before + 2 * more);
        assert_eq!(sum(|c| c.apply_bytes_max += 1 << 30), before + 2 * more);
        assert_eq!(sum(|c| c.receive_bytes_max += 1 << 30), before + 2 * more);
        assert_eq!(sum(|c| c.receive_urgent_bytes_max += 1 << 30), before + more);
        assert!(before + 4 * more < sum(|c| c.inflight_bytes_max += 1 << 30));
        assert!(before + more < sum(|c| c.append_bytes_max += 1 << 30));
        assert!(before + more < sum(|c| c.reads_waiting_max *= 100));
        assert!(before < sum(|c| c.requests_waiting_max *= 100));
        assert_eq!(sum(|c| c.uncommitted_bytes_max = u64::MAX), u64::MAX);
    }
}
