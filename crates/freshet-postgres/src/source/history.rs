//! Whether a server has all of a position, and whether it is the same history at all.
//!
//! A history is told by the cluster's system identifier and its timelines: a promoted standby or a restored cluster is a
//! new timeline that left the old one at a place. A position is in it if it lies on this timeline, or on one that this
//! one came from, at or before the place where it left (P7, P22), and if the server's WAL does not end before it.

use crate::lsn;
use crate::wire::Connection;
use freshet_core::position::{Lsn, WalPosition};
use freshet_core::{Error, Result};

/// What the server says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pub system: u64,
    pub timeline: u32,
    /// The end of its WAL.
    pub end: Lsn,
}

pub(super) async fn read(connection: &mut Connection) -> Result<Server> {
    let rows = connection.query("Asking for the source's identity", "IDENTIFY_SYSTEM").await?;
    let text = |column| rows.first(column).unwrap_or_default();
    match (text("systemid").parse(), text("timeline").parse(), lsn::parse(text("xlogpos"))) {
        (Ok(system), Ok(timeline), Some(end)) => Ok(Server { system, timeline, end }),
        _ => Err(Error::corrupt("PostgreSQL's answer to IDENTIFY_SYSTEM is not understood")),
    }
}

/// Refuses a server that does not have all of `position`.
pub(super) async fn check(
    server: &Server,
    position: &WalPosition,
    connection: &mut Connection,
) -> Result<()> {
    match lacking(server, position, connection).await? {
        None => Ok(()),
        Some(what) => {
            Err(Error::resync(format!("The source has lost transactions or has another history: {what}"))
                .with_hint(
                    "Find out what happened to the server (a fail-over, a restored backup); then load again",
                ))
        }
    }
}

/// The same for what a target holds.
pub(super) async fn check_held(
    server: &Server,
    held: &WalPosition,
    connection: &mut Connection,
) -> Result<()> {
    match lacking(server, held, connection).await? {
        None => Ok(()),
        Some(what) => Err(Error::resync(format!("A target holds what the source does not have: {what}"))
            .with_hint(
                "The source was restored or failed over to a server that lacks it: compare both sides, then load again",
            )),
    }
}

async fn lacking(
    server: &Server,
    position: &WalPosition,
    connection: &mut Connection,
) -> Result<Option<String>> {
    if server.system != position.system {
        return Ok(Some(format!("it is system {}, and {} was read", server.system, position.system)));
    }
    if position.lsn > server.end {
        let (end, read) = (lsn::text(server.end), lsn::text(position.lsn));
        return Ok(Some(format!("its WAL ends at {end}, before {read}, which was read already")));
    }
    if server.timeline == position.timeline {
        return Ok(None);
    }
    let left = match server.timeline > position.timeline {
        true => where_left(server.timeline, position.timeline, connection).await?,
        false => None,
    };
    match left {
        Some(left) if position.lsn <= left => Ok(None),
        Some(left) => Ok(Some(format!(
            "its timeline {} left timeline {} at {}, before {}, which was read already",
            server.timeline,
            position.timeline,
            lsn::text(left),
            lsn::text(position.lsn)
        ))),
        None => Ok(Some(format!(
            "its timeline {} does not come from timeline {}, which was read",
            server.timeline, position.timeline
        ))),
    }
}

/// Where the line of `timeline` left `ancestor`; `None` if it does not come from it.
async fn where_left(timeline: u32, ancestor: u32, connection: &mut Connection) -> Result<Option<Lsn>> {
    let command = format!("TIMELINE_HISTORY {timeline}");
    let rows = connection.query("Reading the source's timeline history", &command).await?;
    Ok(left_at(rows.first("content").unwrap_or_default(), ancestor))
}

/// A history file has a line for each ancestor: its number, where it was left, and why, parted by tabs.
fn left_at(history: &str, ancestor: u32) -> Option<Lsn> {
    history.lines().map(str::trim).filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut words = line.split('\t');
        let number: u32 = words.next()?.trim().parse().ok()?;
        (number == ancestor).then(|| lsn::parse(words.next()?.trim())).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p7_a_history_file_says_where_each_timeline_was_left() {
        let history = "1\t0/3000110\tno recovery target specified\n\n# a comment\n2\t1/F0000000\tbefore x\n";
        assert_eq!(left_at(history, 1), Some(Lsn(0x300_0110)));
        assert_eq!(left_at(history, 2), Some(Lsn(0x1_F000_0000)));
        assert_eq!(left_at(history, 3), None);
        assert_eq!(left_at("", 1), None);
    }
}
