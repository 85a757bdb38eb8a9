//! The partitions of a partitioned table: what they were, what they are, and whether every row in them came through the
//! stream.
//!
//! Not the rest of a table (`definition`). Rows come and go with partitions and the stream has no word of it, so each is
//! known by its number and by the transaction that made it part of the one above it: one that is gone, that was away
//! for a while, or whose rows were written where the stream does not see it, stops the pipeline.
//!
//! Invariant: a partition becomes known only if it held no row before it was part of the table. Either it was created as
//! a partition, as was everything above it that was not known before, and its file is its first; or it is empty by the
//! time that it is first seen, and its file is its first. Rows that were there before and went since would have gone by
//! deletes that no target can apply. What neither shows is not known, whatever transaction numbers say: they tell when a
//! transaction began to write, not when it ended.

use super::definition::{Moment, transaction};
use super::slot::query;
use freshet_core::Result;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::{Client, Row};

/// Partitions of one table by number, those that have partitions of their own included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Parts(BTreeMap<u32, Part>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    /// With its schema, quoted.
    name: String,
    /// The transaction that made it part of the one above it.
    joined: u32,
    /// The file of its rows; 0 if it holds none itself.
    file: u32,
    /// The table of its large values, which an ALTER that writes all rows makes anew, and a change from unlogged too;
    /// TRUNCATE, VACUUM FULL and CLUSTER do not. 0 if it has none.
    toast: u32,
    /// It is not part of the table any more, and its rows stay on the targets.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_gone: bool,
    /// Only of one that was just read.
    #[serde(skip)]
    now: Option<Now>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Now {
    above: u32,
    /// Why its changes are not in the stream.
    unseen: Option<&'static str>,
}

/// What the stream does not tell of a table's partitions, in words that follow its name.
pub(super) enum Difference {
    /// One is gone.
    Lost(String),
    Other(String),
}

impl Parts {
    /// Those of each of these tables, as they are.
    pub(super) async fn read(client: &Client, roots: &[u32]) -> Result<BTreeMap<u32, Self>> {
        let mut parts: BTreeMap<u32, Self> = BTreeMap::new();
        if roots.is_empty() {
            return Ok(parts);
        }
        for row in query(client, &format!("{DOWN} {DESCRIBED}"), &[&roots]).await? {
            parts.entry(row.get(0)).or_default().0.insert(row.get(1), part(&row)?);
        }
        Ok(parts)
    }

    /// One of a table, and those above it.
    pub(super) async fn read_one(client: &Client, root: u32, oid: u32) -> Result<Self> {
        let mut parts = Self::default();
        for row in query(client, &format!("{UP} {DESCRIBED}"), &[&root, &oid]).await? {
            parts.0.insert(row.get(1), part(&row)?);
        }
        Ok(parts)
    }

    /// Whether one is there, and below `root`.
    pub(super) fn is_below(&self, root: u32, oid: u32) -> bool {
        let mut at = oid;
        while let Some(now) = self.0.get(&at).and_then(|part| part.now.as_ref()) {
            at = now.above;
        }
        at == root && at != oid
    }

    /// What is said of one that is not there any more.
    pub(super) fn lost(&self, oid: u32, may_go: bool) -> Option<Difference> {
        self.0.get(&oid).and_then(|part| part.difference(None, may_go))
    }

    /// As they are kept.
    pub(super) fn kept(mut self) -> Self {
        self.0.values_mut().for_each(|part| part.now = None);
        self
    }

    pub(super) fn holds(&self, oid: u32) -> bool {
        self.0.contains_key(&oid)
    }

    /// Whether it was one, and its rows stay.
    pub(super) fn is_gone(&self, oid: u32) -> bool {
        self.0.get(&oid).is_some_and(|part| part.is_gone)
    }

    /// Numbers of those that hold rows, or held rows that stay.
    pub(super) fn leaves(&self) -> BTreeSet<u32> {
        self.0.iter().filter(|(_, part)| part.file != 0).map(|(oid, _)| *oid).collect()
    }

    /// The name of one that holds rows and is not in `known`.
    pub(super) fn unknown_to(&self, known: &Self) -> Option<&str> {
        let unknown = self.0.iter().find(|(oid, part)| part.file != 0 && !known.holds(**oid));
        unknown.map(|(_, part)| part.name.as_str())
    }

    /// What is kept after a look that found nothing to stop at.
    pub(super) fn merge(&mut self, now: &Self) {
        for (oid, part) in &mut self.0 {
            part.is_gone |= !now.holds(*oid);
        }
        self.0.extend(now.clone().kept().0);
    }

    /// Whether the rows of one that is in both were written anew.
    pub(super) fn are_rewritten(&self, now: &Self) -> bool {
        self.0.iter().any(|(oid, part)| now.0.get(oid).is_some_and(|now| now.file != part.file))
    }

    /// What the stream does not tell. `now` is of all at rest, and else of some. `may_go`: rows of one that is gone stay.
    pub(super) fn difference(&self, now: &Self, moment: Moment, may_go: bool) -> Option<Difference> {
        if let Some((name, why)) = now.unseen() {
            let what = format!("has partition {name}, which became {why} or came so,");
            return Some(Difference::Other(what));
        }
        let compared = self.0.iter().filter(|(oid, _)| moment == Moment::AtRest || now.holds(**oid));
        compared.map(|(oid, part)| part.difference(now.0.get(oid), may_go)).find_map(|found| found)
    }

    /// The name of one whose changes are not in the stream, and why.
    pub(super) fn unseen(&self) -> Option<(&str, &'static str)> {
        let why = |part: &Part| part.now.as_ref().and_then(|now| now.unseen);
        self.0.values().find_map(|part| Some((part.name.as_str(), why(part)?)))
    }

    /// Those that went since, by name.
    pub(super) fn gone_since<'a>(&'a self, now: &'a Self) -> impl Iterator<Item = &'a str> {
        let gone = self.0.iter().filter(|(oid, part)| !part.is_gone && !now.holds(**oid));
        gone.map(|(_, part)| part.name.as_str())
    }

    /// The name of one of `now` that came since and may have brought rows along.
    pub(super) async fn unproven<'a>(&self, now: &'a Self, client: &Client) -> Result<Option<&'a str>> {
        // The file is looked at after the size: one that was made anew in between has no rows that tell.
        const SQL: &str = "select coalesce(case when pg_catalog.pg_relation_size($1::oid::pg_catalog.regclass) = 0 \
             then pg_catalog.pg_relation_filenode($1::oid::pg_catalog.regclass) = $1 end, false)";
        let new: Vec<u32> = now.0.keys().filter(|oid| !self.holds(**oid)).copied().collect();
        let born = if new.is_empty() { BTreeSet::new() } else { now.born(&new, client).await? };
        for (oid, part) in now.0.iter().filter(|(oid, part)| part.file != 0 && !self.holds(**oid)) {
            if part.file == *oid && self.is_born_in(now, &born, *oid) {
                continue;
            }
            let rows = query(client, SQL, &[oid]).await?;
            if !rows[0].get::<_, bool>(0) {
                return Ok(Some(&part.name));
            }
        }
        Ok(None)
    }

    /// Those of these that were created as partitions and never detached.
    ///
    /// A table that is created as a partition is made part of the one above it two commands after its first columns are,
    /// as seen on PostgreSQL 15, 17 and 18; ALTER TABLE ... ATTACH PARTITION comes five later at the least. The columns of
    /// the system are never altered but for privileges. A row that somebody tried to delete shows the command of that.
    async fn born(&self, of: &[u32], client: &Client) -> Result<BTreeSet<u32>> {
        const SQL: &str = "select i.inhrelid, i.xmin::text from pg_catalog.pg_inherits i where i.inhrelid = any($1) \
             and i.xmax = '0'::pg_catalog.xid and not exists (select from pg_catalog.pg_attribute a \
               where a.attrelid = i.inhrelid and a.attnum < 0 and (a.xmin <> i.xmin or a.xmax <> '0'::pg_catalog.xid \
                 or i.cmin::text::int8 - a.cmin::text::int8 not between 0 and 2)) \
             and exists (select from pg_catalog.pg_attribute a where a.attrelid = i.inhrelid and a.attnum < 0)";
        let mut born = BTreeSet::new();
        for row in query(client, SQL, &[&of]).await? {
            let oid = row.get(0);
            let joined = transaction(row.get(1))?;
            if self.0.get(&oid).is_some_and(|part| part.joined == joined) {
                born.insert(oid);
            }
        }
        Ok(born)
    }

    /// Whether it was part of the table from its creation on: it and all above it were created so, or were known before
    /// it came.
    fn is_born_in(&self, now: &Self, born: &BTreeSet<u32>, oid: u32) -> bool {
        let mut at = oid;
        while let Some(part) = now.0.get(&at) {
            let Some(seen) = &part.now else { return false };
            if !born.contains(&at) && !self.holds(at) {
                return false;
            }
            at = seen.above;
        }
        true
    }
}

impl Part {
    fn difference(&self, now: Option<&Self>, may_go: bool) -> Option<Difference> {
        let name = &self.name;
        let other = match now {
            None if self.is_gone || may_go => return None,
            None => {
                let what = format!("lost partition {name}, and the rows in it, without deleting them");
                return Some(Difference::Lost(what));
            }
            Some(_) if self.is_gone => format!("got partition {name} back, whose rows may have changed,"),
            Some(now) if now.joined != self.joined => {
                format!("had partition {name} detached and attached again")
            }
            Some(now) if now.file != self.file && (now.toast != self.toast || now.toast == 0) => format!(
                "had partition {name} written anew where the stream does not tell (ALTER TABLE, also SET UNLOGGED, or any \
                 TRUNCATE, VACUUM FULL or CLUSTER of one without large values)"
            ),
            Some(_) => return None,
        };
        Some(Difference::Other(other))
    }
}

/// The partitions below the tables `$1`. Not by `pg_partition_tree`, which takes a lock on each.
const DOWN: &str = "with recursive tree(root, above, oid, joined) as ( \
       select i.inhparent, i.inhparent, i.inhrelid, i.xmin::text \
         from pg_catalog.pg_inherits i where i.inhparent = any($1) and not i.inhdetachpending \
       union all select t.root, i.inhparent, i.inhrelid, i.xmin::text \
         from tree t join pg_catalog.pg_inherits i on i.inhparent = t.oid and not i.inhdetachpending)";
/// Partition `$2` of table `$1`, and those above it.
const UP: &str = "with recursive tree(root, above, oid, joined) as ( \
       select $1::oid, i.inhparent, i.inhrelid, i.xmin::text \
         from pg_catalog.pg_inherits i where i.inhrelid = $2 and not i.inhdetachpending \
       union all select t.root, i.inhparent, i.inhrelid, i.xmin::text \
         from tree t join pg_catalog.pg_inherits i on i.inhrelid = t.above and not i.inhdetachpending)";
const DESCRIBED: &str = "select t.root, t.oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), \
       t.joined, c.relfilenode::oid, c.reltoastrelid::oid, t.above, \
       c.relkind = 'f', c.relpersistence <> 'p' and c.relkind = 'r' \
     from tree t join pg_catalog.pg_class c on c.oid = t.oid and c.relispartition \
     join pg_catalog.pg_namespace n on n.oid = c.relnamespace";

fn part(row: &Row) -> Result<Part> {
    let unseen = match (row.get(7), row.get(8)) {
        (true, _) => Some("a foreign table"),
        (_, true) => Some("unlogged"),
        _ => None,
    };
    Ok(Part {
        name: row.get(2),
        joined: transaction(row.get(3))?,
        file: row.get(4),
        toast: row.get(5),
        is_gone: false,
        now: Some(Now { above: row.get(6), unseen }),
    })
}
