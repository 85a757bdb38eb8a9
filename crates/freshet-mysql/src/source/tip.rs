//! The end of the server's binlog, asked over a connection of its own, and how many bytes lie before it.
//!
//! The connection is made at the first question and again after it was lost. Sizes of binlog files are kept from
//! the last time that the newest file changed: files before the newest no longer grow.

use freshet_core::error::Result;
use freshet_core::position::{BinlogPosition, FilePos};

use crate::server::ServerFacts;
use crate::wire::{ConnectOptions, Connection};

/// Asks for the tip.
#[derive(Default)]
pub(crate) struct Tip {
    session: Option<(Connection, ServerFacts)>,
    /// Identity of the server that `files` belong to.
    server: String,
    files: Vec<FilePos>,
}

impl Tip {
    /// The end of the binlog right now.
    pub(crate) async fn position(&mut self, options: &ConnectOptions) -> Result<BinlogPosition> {
        // A cancelled or failed question leaves no session behind, so the next one connects again.
        let (mut connection, facts) = match self.session.take() {
            Some(session) => session,
            None => {
                let mut connection = Connection::connect(options).await?;
                let facts = ServerFacts::read(&mut connection).await?;
                (connection, facts)
            }
        };
        let position = facts.current_position(&mut connection).await?;
        let known = self.files.last().is_some_and(|newest| newest.file == position.file.file);
        if !known || self.server != position.server {
            self.files = facts.binlog_files(&mut connection).await?;
            self.server.clone_from(&position.server);
        }
        self.session = Some((connection, facts));
        Ok(position)
    }

    /// Bytes of binlog between two places on the server asked last.
    pub(crate) fn distance_bytes(&self, from: &BinlogPosition, to: &BinlogPosition) -> Option<u64> {
        if from.server != to.server || from.file.file.is_empty() || to.file.file.is_empty() {
            return None;
        }
        if from.file >= to.file {
            return Some(0);
        }
        if from.file.file == to.file.file {
            return Some(to.file.pos - from.file.pos);
        }
        if self.server != from.server {
            return None;
        }
        let at = |place: &FilePos| self.files.iter().position(|kept| kept.file == place.file);
        let (first, last) = (at(&from.file)?, at(&to.file)?);
        let whole: u64 = self.files[first..last].iter().map(|file| file.pos).sum();
        Some((whole + to.file.pos).saturating_sub(from.file.pos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(file: &str, pos: u64) -> BinlogPosition {
        let gtids = crate::server::Flavour::Mariadb.empty_gtids();
        BinlogPosition { server: "s".into(), file: FilePos { file: file.into(), pos }, gtids }
    }

    #[test]
    fn distances_add_up_over_files() {
        let sizes = [("b.1", 100), ("b.2", 200), ("b.3", 50)];
        let files = sizes.map(|(file, pos)| FilePos { file: file.into(), pos }).to_vec();
        let tip = Tip { session: None, server: "s".into(), files };
        assert_eq!(tip.distance_bytes(&place("b.2", 150), &place("b.2", 180)), Some(30));
        assert_eq!(tip.distance_bytes(&place("b.1", 90), &place("b.3", 60)), Some(270));
        assert_eq!(tip.distance_bytes(&place("b.3", 60), &place("b.1", 90)), Some(0));
        assert_eq!(tip.distance_bytes(&place("b.0", 90), &place("b.3", 60)), None);
        let elsewhere = BinlogPosition { server: "t".into(), ..place("b.1", 4) };
        assert_eq!(tip.distance_bytes(&elsewhere, &place("b.3", 60)), None);
        assert_eq!(tip.distance_bytes(&place("", 0), &place("b.3", 60)), None);
        assert_eq!(tip.distance_bytes(&place("", 0), &place("", 0)), None);
    }
}
