//! The transaction that is being read: its name, whether it has begun, and whether anything of it was written.
//!
//! It is written into the batch from its first captured change on, so that what is filtered away costs nothing (T6).

use freshet_core::codec::BatchBuilder;
use freshet_core::position::TxnId;

use super::gtid::Begin;

/// An open transaction, or the single statement that a GTID announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    pub(super) txn: TxnId,
    start_us: i64,
    commit_us: i64,
    /// Whether it ends with XID, COMMIT or ROLLBACK rather than with its first statement.
    pub(super) has_begun: bool,
    /// Whether anything of it was written.
    pub(super) wrote: bool,
}

impl Transaction {
    pub(super) fn new(begin: Begin, timestamp_s: u32) -> Self {
        Transaction {
            txn: begin.txn,
            start_us: micros(timestamp_s),
            commit_us: begin.commit_us,
            has_begun: begin.has_begun,
            wrote: false,
        }
    }

    /// One that no GTID event named.
    pub(super) fn anonymous(timestamp_s: u32) -> Self {
        let txn = TxnId::Anonymous;
        Transaction { txn, start_us: micros(timestamp_s), commit_us: 0, has_begun: false, wrote: false }
    }

    /// Writes its beginning, once.
    pub(super) fn write_begin(&mut self, batch: &mut BatchBuilder) {
        if !self.wrote {
            batch.begin(&self.txn, self.start_us);
            self.wrote = true;
        }
    }

    /// When it was committed: what its GTID said, else the time of the event that ended it (P24).
    pub(super) fn commit_us(&self, timestamp_s: u32) -> i64 {
        if self.commit_us == 0 { micros(timestamp_s) } else { self.commit_us }
    }
}

fn micros(timestamp_s: u32) -> i64 {
    i64::from(timestamp_s) * 1_000_000
}
