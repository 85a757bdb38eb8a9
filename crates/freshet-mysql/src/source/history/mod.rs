//! Whether a server still has everything after a position, and whether it is the same history at all.
//!
//! Decides between beginning by GTID and by file position, or `Resync`; never begins anywhere else (P12). *Ours* is
//! what the position to go on from says; what targets hold ahead of it is *held*. The rules:
//!
//! 1. Every transaction of ours was executed by the server, or it has lost what we already have (P22).
//! 2. Nothing that the server has purged is missing from ours.
//! 3. On the same server (by identity) the binlog does not end before our file position, and what stands there fits
//!    ours: a binlog that was reset gives the same GTIDs to other transactions (P16).
//! 4. MySQL begins by the set: membership is exact, whatever the order of the file. That needs `gtid_mode=ON`, also
//!    since the position: a transaction without a GTID is in no set, and the server leaves out whole files by their
//!    sets without a word. What of that is found and what cannot be is said in `mysql`.
//! 5. MariaDB begins by file position on the same server while the file is there, since a domain may run backwards
//!    in a file (P19); by GTID otherwise, after the last transaction of each domain: the server finds those in its
//!    binlog by domain and server, whatever the sequences of other servers.
//! 6. A position of a MySQL without GTIDs is a place: it goes on by place, on the same server only, whatever
//!    `gtid_mode` is by now, and stays a place.
//! 7. What is held is of the same kind as ours, and rules 1 and 3 hold for it; without a place, rule 1 alone; without
//!    GTIDs, its place on this server alone. What comes after it may have been purged: nothing begins there.

mod mariadb;
mod mysql;

use std::mem::discriminant;

use freshet_core::error::{Error, Result};
use freshet_core::gtid::{MariadbGtidSet, MysqlGtidSet};
use freshet_core::position::{BinlogPosition, FilePos, GtidSet, Position};

use crate::server::{Flavour, ServerFacts};
use crate::wire::Connection;

/// How the dump is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// With what MySQL's set lacks.
    MysqlGtids(MysqlGtidSet),
    /// After the last transaction of each of MariaDB's domains.
    MariadbGtids(MariadbGtidSet),
    /// At this place.
    FilePos {
        /// File name.
        file: String,
        /// Position, as much as the request can hold.
        pos: u32,
    },
}

impl std::fmt::Display for Begin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Begin::MysqlGtids(set) => write!(f, "after GTIDs {set}"),
            Begin::MariadbGtids(set) => write!(f, "after GTIDs {set}"),
            Begin::FilePos { file, pos } => write!(f, "{file}:{pos}"),
        }
    }
}

/// The history that a server has, to be asked about positions.
pub(crate) struct History<'s> {
    facts: &'s ServerFacts,
    files: Vec<FilePos>,
    connection: &'s mut Connection,
}

impl<'s> History<'s> {
    pub(crate) async fn read(facts: &'s ServerFacts, connection: &'s mut Connection) -> Result<Self> {
        let files = facts.binlog_files(connection).await?;
        Ok(Self { facts, files, connection })
    }

    /// Checks the history and says how to begin after `start` (rules 1 to 6).
    pub(crate) async fn begin_after(&mut self, start: &BinlogPosition) -> Result<Begin> {
        self.check_kind(&start.gtids)?;
        let place = self.place_of(start);
        if let Some(what) = self.lacking(start, place).await? {
            return Err(lost(&what));
        }
        match &start.gtids {
            GtidSet::Mysql(ours) => {
                mysql::check_purged(ours, self.connection).await?;
                match place {
                    Place::Kept | Place::Purged => {
                        mysql::check_all_named(start, &self.files, self.connection).await?;
                    }
                    Place::Beyond | Place::Unknown | Place::Elsewhere => {}
                }
                Ok(Begin::MysqlGtids(ours.clone()))
            }
            GtidSet::Mariadb(_) if place == Place::Kept && start.file.pos <= u64::from(u32::MAX) => {
                by_place(start, place)
            }
            GtidSet::Mariadb(ours) => {
                mariadb::check_purged(ours, &self.files, self.connection).await?;
                Ok(Begin::MariadbGtids(ours.lasts()))
            }
            GtidSet::Places => by_place(start, place),
        }
    }

    /// Checks that the server has what targets hold ahead of `start` (rule 7).
    pub(crate) async fn check_held(&mut self, start: &BinlogPosition, held: &[Position]) -> Result<()> {
        for position in held {
            let binlog = match position {
                Position::Binlog(binlog) if discriminant(&binlog.gtids) == discriminant(&start.gtids) => {
                    binlog
                }
                Position::Binlog(_) | Position::Wal(_) => return Err(held_otherwise(position)),
            };
            let place = self.place_of(binlog);
            let is_told = place != Place::Elsewhere && place != Place::Unknown;
            if binlog.gtids == GtidSet::Places && !is_told {
                return Err(held_otherwise(position));
            }
            if let Some(what) = self.lacking(binlog, place).await? {
                return Err(held_and_lost(&what));
            }
        }
        Ok(())
    }

    /// Whether positions of this kind mean anything on this server, as it is now.
    fn check_kind(&self, gtids: &GtidSet) -> Result<()> {
        match (gtids, self.facts.flavour) {
            (GtidSet::Mysql(_), Flavour::Mysql) if !self.facts.has_gtids() => {
                let mode = self.facts.variable("gtid_mode").unwrap_or("not there");
                Err(switched_off(&format!("its gtid_mode is {mode}"), HINT_SWITCHED_OFF))
            }
            (GtidSet::Mysql(_) | GtidSet::Places, Flavour::Mysql)
            | (GtidSet::Mariadb(_), Flavour::Mariadb) => Ok(()),
            (GtidSet::Mysql(_) | GtidSet::Places, Flavour::Mariadb)
            | (GtidSet::Mariadb(_), Flavour::Mysql) => Err(Error::resync(format!(
                "The position to go on from is of another kind of server than {}",
                self.facts.flavour
            ))
            .with_hint("Give the pipeline the source that it was begun with, or load again")),
        }
    }

    fn place_of(&self, position: &BinlogPosition) -> Place {
        if position.server == self.facts.identity {
            Place::of(&position.file, &self.files)
        } else {
            Place::Elsewhere
        }
    }

    /// What the server does not have of a position (rules 1 and 3), in words; `None` if it has everything.
    async fn lacking(&mut self, position: &BinlogPosition, place: Place) -> Result<Option<String>> {
        if place == Place::Beyond {
            let what = format!("the server's binlog ends before {}, which was read from it", position.file);
            return Ok(Some(what));
        }
        let missing = match &position.gtids {
            GtidSet::Mysql(set) => mysql::not_executed(set, self.connection).await?,
            GtidSet::Mariadb(set) => mariadb::not_executed(set, self.connection).await?,
            GtidSet::Places => None,
        };
        match (missing, place, self.facts.flavour) {
            (Some(gtids), _, _) => Ok(Some(format!("the server does not have {gtids}, which was read"))),
            (None, Place::Kept, Flavour::Mysql) => mysql::misfit(position, self.connection).await,
            (None, Place::Kept, Flavour::Mariadb) => mariadb::misfit(position, self.connection).await,
            (None, Place::Purged | Place::Beyond | Place::Unknown | Place::Elsewhere, _) => Ok(None),
        }
    }
}

/// Where a file position lies, seen from the files that the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a file that is there, at or before its end.
    Kept,
    /// Before the oldest file.
    Purged,
    /// After the end of the newest file, or of another history.
    Beyond,
    /// The position has no file.
    Unknown,
    /// On another server.
    Elsewhere,
}

impl Place {
    /// Of a place on the server that has these files.
    fn of(place: &FilePos, files: &[FilePos]) -> Self {
        if place.file.is_empty() {
            return Place::Unknown;
        }
        match files.iter().find(|kept| kept.file == place.file) {
            Some(kept) if place.pos <= kept.pos => Place::Kept,
            Some(_) => Place::Beyond,
            None if files.first().is_some_and(|oldest| place < oldest) => Place::Purged,
            None => Place::Beyond,
        }
    }
}

fn by_place(start: &BinlogPosition, place: Place) -> Result<Begin> {
    match place {
        Place::Kept => {}
        Place::Elsewhere => {
            return Err(Error::resync(
                "The source is another server than before, and without GTIDs a position does not carry over",
            )
            .with_hint("Go back to the server that the pipeline was begun with, or load again"));
        }
        Place::Purged => return Err(purged(&format!("it begins after {}", start.file))),
        Place::Beyond | Place::Unknown => {
            return Err(Error::resync("The position to go on from names no binlog file"));
        }
    }
    match u32::try_from(start.file.pos) {
        Ok(pos) => Ok(Begin::FilePos { file: start.file.file.clone(), pos }),
        Err(_) => Err(Error::unsupported(format!(
            "A start at {} is beyond the 4 GiB that a dump without GTIDs can begin at",
            start.file
        ))),
    }
}

/// For a server whose `gtid_mode` is not ON at an open: with the mode back at ON the open looks for transactions
/// without a GTID itself.
const HINT_SWITCHED_OFF: &str = "If nothing was written since GTIDs were switched off, set gtid_mode = ON again; otherwise load again: \
     the set does not tell which transactions without a GTID were read";

/// For a transaction without a GTID that was met.
pub(crate) const HINT_UNNAMED: &str =
    "Load again: the set does not tell which transactions without a GTID were read";

/// What was met that a position by GTIDs cannot go on over.
pub(crate) fn switched_off(what: &str, hint: &str) -> Error {
    Error::resync(format!(
        "GTIDs were switched off on the source, and the position to go on from is a set of GTIDs: {what}"
    ))
    .with_hint(hint.to_owned())
}

/// The server lost what we have (P22).
fn lost(what: &str) -> Error {
    Error::resync(format!("The source has lost transactions or has another history: {what}")).with_hint(
        "Find out what happened to the server (a fail-over, a restored backup, RESET); then load again",
    )
}

const HINT_HELD: &str =
    "The source was restored, failed over or replaced: compare it with the target, then load again";

/// The server lost what a target has (P22).
fn held_and_lost(what: &str) -> Error {
    Error::resync(format!("A target holds what the source does not have: {what}")).with_hint(HINT_HELD)
}

/// What a target has cannot be looked for on this server.
fn held_otherwise(position: &Position) -> Error {
    Error::resync(format!(
        "A target holds a position that is of another server or kind than the source, so that the source cannot be \
         asked for it: {position}"
    ))
    .with_hint(HINT_HELD)
}

/// The server has deleted what we lack (P12).
fn purged(what: &str) -> Error {
    Error::resync(format!("The source no longer has the binlog that is needed: {what}"))
        .with_hint("Load again, and keep binlogs for longer (binlog_expire_logs_seconds)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: &str, pos: u64) -> FilePos {
        FilePos { file: file.to_owned(), pos }
    }

    #[test]
    fn p16_places_are_told_by_number() {
        let files = [at("b.999999", 100), at("b.1000000", 50)];
        assert_eq!(Place::of(&at("b.999999", 100), &files), Place::Kept);
        assert_eq!(Place::of(&at("b.999999", 101), &files), Place::Beyond);
        assert_eq!(Place::of(&at("b.999998", 4), &files), Place::Purged);
        assert_eq!(Place::of(&at("b.1000001", 4), &files), Place::Beyond);
        assert_eq!(Place::of(&at("other.000001", 4), &files), Place::Beyond);
        assert_eq!(Place::of(&at("", 0), &files), Place::Unknown);
    }
}
