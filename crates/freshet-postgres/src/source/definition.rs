//! What the publication and its tables were when the pipeline began, kept as the comment on the publication, and whether
//! they still are.
//!
//! The stream tells a table's columns by name and type, and nothing of what was done to it between two changes. What
//! would go unnoticed is told from the catalogue: a name that stands for another column or table, rows that were
//! rewritten (`ALTER TABLE ... USING`), an enum's label that was renamed, a publication or a table of it that was away
//! for a while, partitions that came with rows or went with them. Columns that were added or dropped are not compared:
//! the stream tells those at their place.
//!
//! Not a history: definitions are of the moment of the look, which may be later than what the stream has come to. A look
//! that finds a difference stops, whichever came first. Looks are taken when a session is opened, whenever the stream
//! describes a table, and now and then ([`super::tip`]), so that no row from after a difference is taken for one from
//! before it. What a role may do without a trace in the catalogue is documented in `docs/operations.md`.

use super::WalSourceOptions;
use super::parts::{Difference, Parts};
use super::slot::query;
use crate::error::{Scope, statement_error};
use crate::quote::{ident, literal};
use freshet_core::{Error, Result, TableName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::{Client, Row};

/// Begins the comment; what follows is [`Definitions`] as JSON.
const MARK: &str = "freshet ";
const AGAIN: &str = "Reset the pipeline and load again";

const KEEP: &str = "Reset the pipeline and load again; or give the source dropped_partitions: keep, for rows of partitions that \
     were dropped or detached to stay on the targets";

/// A publication and its tables at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Definitions {
    /// Whether freshet made the publication, and so removes it; somebody else's is only used.
    made: bool,
    /// The pipeline whose they are.
    pipeline: String,
    /// Its number, and the transaction that last altered it.
    publication: (u32, u32),
    /// By number.
    tables: BTreeMap<u32, Table>,
    /// Labels of the enums that columns are made of, by type and number.
    labels: BTreeMap<u32, BTreeMap<u32, u32>>,
    /// Attributes of the composite types that columns are made of, by type.
    composites: BTreeMap<u32, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Table {
    schema: String,
    name: String,
    is_partition: bool,
    /// What makes it part of the publication.
    members: Vec<u32>,
    /// The file of its rows. TRUNCATE and VACUUM FULL make another one, and so does a rewrite.
    file: u32,
    columns: Vec<Column>,
    /// Of a partitioned table, and of no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parts: Option<Parts>,
}

/// Number, name, type, and the transaction that last altered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Column(i16, u32, u32, u32);

/// What the changes of partitions come as.
pub(super) struct Whole {
    pub oid: u32,
    pub name: TableName,
    /// Names of its columns in order, as [`hash`] has them.
    columns: Vec<u32>,
}

impl Whole {
    /// The place of a column; one that it does not have now comes last.
    pub(super) fn place(&self, column: &str) -> usize {
        let name = hash(column);
        self.columns.iter().position(|known| *known == name).unwrap_or(usize::MAX)
    }
}

/// When a look is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// At every table.
    AtRest,
    /// At one table that the stream describes: columns that were renamed or have another type are in what it says, and
    /// become another schema at their place.
    InStream,
}

impl Definitions {
    /// As they are now. `tables` are numbers of tables; `made` is passed on.
    pub(super) async fn read(
        client: &Client,
        options: &WalSourceOptions,
        tables: &[u32],
        made: bool,
    ) -> Result<Self> {
        Self::read_with(client, options, tables, None, made).await
    }

    /// The same of one table, with one of its partitions only.
    pub(super) async fn read_partition(
        client: &Client,
        options: &WalSourceOptions,
        root: u32,
        partition: u32,
    ) -> Result<Self> {
        Self::read_with(client, options, &[root], Some(partition), false).await
    }

    async fn read_with(
        client: &Client,
        options: &WalSourceOptions,
        tables: &[u32],
        partition: Option<u32>,
        made: bool,
    ) -> Result<Self> {
        const SQL: &str = "select oid, xmin::text from pg_catalog.pg_publication where pubname = $1";
        let rows = query(client, SQL, &[&options.publication]).await?;
        let row = rows.first().ok_or_else(|| gone(options))?;
        Ok(Self {
            made,
            pipeline: options.pipeline.clone(),
            publication: (row.get(0), number(row, 1)?),
            tables: read_tables(client, row.get(0), tables, partition).await?,
            labels: read_labels(client, tables).await?,
            composites: read_composites(client, tables).await?,
        })
    }

    /// As they were, or `None` if the publication has no comment of ours.
    pub(super) async fn stored(client: &Client, options: &WalSourceOptions) -> Result<Option<Self>> {
        stored(client, &options.publication).await
    }

    /// Keeps them.
    pub(super) async fn store(&self, client: &Client, options: &WalSourceOptions) -> Result<()> {
        client.batch_execute(&self.comment(options)?).await.map_err(|error| {
            let doing = format!("Keeping the tables' definitions with publication {}", options.publication);
            statement_error(&Scope::Session, doing, &error).with_hint(format!(
                "The publication must be the role's own: ALTER PUBLICATION {} OWNER TO {}",
                ident(&options.publication),
                ident(&options.connect.user)
            ))
        })
    }

    /// Partitions that are there when the pipeline begins are loaded with their root.
    pub(super) fn at_the_beginning(mut self) -> Result<Self> {
        for table in self.tables.values_mut() {
            let Some(parts) = table.parts.take() else { continue };
            if let Some((name, why)) = parts.unseen() {
                let message = format!("Partition {name} is {why}: its changes are not in the WAL");
                return Err(
                    Error::unsupported(message).with_hint("Detach the partition, or exclude the table")
                );
            }
            table.parts = Some(parts.kept());
        }
        Ok(self)
    }

    /// The statement that keeps them.
    fn comment(&self, options: &WalSourceOptions) -> Result<String> {
        let json = serde_json::to_string(self)
            .map_err(|error| Error::internal(format!("Definitions that are not JSON: {error}")))?;
        let text = literal(&format!("{MARK}{json}"));
        Ok(format!("comment on publication {} is {text}", ident(&options.publication)))
    }

    /// The statement that marks a publication as made by freshet, in the transaction that makes it.
    pub(super) fn mark(options: &WalSourceOptions) -> Result<String> {
        Self { made: true, pipeline: options.pipeline.clone(), ..Self::default() }.comment(options)
    }

    /// Whether freshet made the publication.
    pub(super) fn is_made(&self) -> bool {
        self.made
    }

    /// Numbers of the tables.
    pub(super) fn tables(&self) -> Vec<u32> {
        self.tables.keys().copied().collect()
    }

    /// Whether a table of this number was there.
    pub(super) fn holds(&self, oid: u32) -> bool {
        self.tables.contains_key(&oid)
    }

    /// Whether any of the tables is partitioned.
    pub(super) fn has_partitioned(&self) -> bool {
        self.tables.values().any(|table| table.parts.is_some())
    }

    /// The table that a partition of this number is part of, or was.
    pub(super) fn root_of(&self, oid: u32) -> Option<u32> {
        let holds = |(_, table): &(&u32, &Table)| table.parts.as_ref().is_some_and(|parts| parts.holds(oid));
        self.tables.iter().find(holds).map(|(root, _)| *root)
    }

    /// Whether a partition of this number went, and its rows stay.
    pub(super) fn is_gone(&self, oid: u32) -> bool {
        self.parts().any(|parts| parts.is_gone(oid))
    }

    fn parts(&self) -> impl Iterator<Item = &Parts> {
        self.tables.values().filter_map(|table| table.parts.as_ref())
    }

    /// Partitions of a table that hold rows, or held rows that stay on the targets.
    pub(super) fn leaves(&self, root: u32) -> BTreeSet<u32> {
        let parts = self.tables.get(&root).and_then(|table| table.parts.as_ref());
        parts.map(Parts::leaves).unwrap_or_default()
    }

    /// A partitioned table as one of its partitions is captured. `now` is of that one, and was checked.
    pub(super) fn whole(&self, now: &Self, root: u32, partition: u32, may_go: bool) -> Result<Whole> {
        let before = self.tables.get(&root).ok_or_else(|| Error::internal("A partition of no table"))?;
        let table = now.tables.get(&root).ok_or_else(|| before.stop("was dropped"))?;
        let parts = before.parts.as_ref().zip(table.parts.as_ref());
        let lost = parts.filter(|(_, now)| !now.is_below(root, partition));
        if let Some(difference) = lost.and_then(|(before, _)| before.lost(partition, may_go)) {
            return Err(before.differs(difference));
        }
        Ok(Whole {
            oid: root,
            name: TableName::new(table.schema.as_str(), table.name.as_str()),
            columns: table.columns.iter().map(|column| column.1).collect(),
        })
    }

    /// What is kept after a look that found nothing to stop at. Columns that were dropped stay known, since one of the
    /// same name may come.
    pub(super) fn merged(&self, now: &Self) -> Self {
        let mut kept = self.clone();
        for (oid, table) in &mut kept.tables {
            let Some(now) = now.tables.get(oid) else { continue };
            table.file = now.file;
            for column in &mut table.columns {
                if let Some(now) = now.columns.iter().find(|now| now.0 == column.0) {
                    column.3 = now.3;
                }
            }
            if let (Some(parts), Some(now)) = (&mut table.parts, &now.parts) {
                parts.merge(now);
            }
        }
        for (oid, labels) in &now.labels {
            kept.labels.entry(*oid).or_default().extend(labels);
        }
        kept.composites.extend(&now.composites);
        kept
    }

    /// Two pipelines would overwrite what the other has to compare with.
    pub(super) fn refuse_another_pipeline(&self, options: &WalSourceOptions) -> Result<()> {
        if self.pipeline == options.pipeline {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "Publication {} belongs to pipeline {}",
            options.publication, self.pipeline
        ))
        .with_hint("Name another publication, or freshet drop that pipeline first"))
    }

    /// Whether the stream calls a table of this number by its name.
    pub(super) fn check_name(&self, oid: u32, name: &TableName) -> Result<()> {
        match self.tables.get(&oid) {
            Some(table) if table.schema != name.schema || table.name != name.table => {
                Err(table.stop(&format!("was called {name}")))
            }
            _ => Ok(()),
        }
    }

    /// Stops by name at a difference that the stream does not tell. `now` is of all tables [`Moment::AtRest`].
    pub(super) fn check(&self, now: &Self, moment: Moment, options: &WalSourceOptions) -> Result<()> {
        if self.publication != now.publication {
            return Err(Error::resync(format!(
                "Publication {} was altered (its owner counts), or dropped and made again: changes may have been left out",
                options.publication
            ))
            .with_hint(AGAIN));
        }
        for (oid, table) in &now.tables {
            match self.tables.get(oid) {
                Some(before) => before.check(table, moment, options.keeps_lost_partitions)?,
                None => return Err(table.stop("was made")),
            }
        }
        let is_gone = |(oid, _): &(&u32, &Table)| moment == Moment::AtRest && !now.tables.contains_key(oid);
        if let Some((_, table)) = self.tables.iter().find(is_gone) {
            return Err(table.stop("was dropped"));
        }
        self.check_types(now)
    }

    /// Partitions that came since may have brought rows, which the stream does not have. `now` was checked.
    pub(super) async fn check_new_parts(&self, now: &Self, client: &Client) -> Result<()> {
        for (oid, table) in &now.tables {
            let before = self.tables.get(oid).and_then(|table| table.parts.as_ref());
            let (Some(before), Some(parts)) = (before, &table.parts) else { continue };
            if let Some(name) = before.unproven(parts, client).await? {
                return Err(table.stop(&format!("got partition {name}, which may have had rows before,")));
            }
        }
        Ok(())
    }

    /// Says which partitions went, whose rows stay. `now` was checked.
    pub(super) fn tell_gone(&self, now: &Self) {
        for (oid, table) in &now.tables {
            let before = self.tables.get(oid).and_then(|table| table.parts.as_ref());
            let (Some(before), Some(parts)) = (before, &table.parts) else { continue };
            for partition in before.gone_since(parts) {
                let table = format!("{}.{}", table.schema, table.name);
                tracing::warn!(%table, partition, "A partition was dropped or detached: its rows stay on the targets");
            }
        }
    }

    fn check_types(&self, now: &Self) -> Result<()> {
        let stop = |what: &str, oid: &u32| {
            Error::resync(format!(
                "{what} that columns of the captured tables are made of were changed (type number {oid} of pg_type): rows from before have the old ones"
            ))
            .with_hint(AGAIN)
        };
        for (oid, labels) in &now.labels {
            let before = self.labels.get(oid).into_iter().flatten();
            if before.into_iter().any(|(label, name)| labels.get(label) != Some(name)) {
                return Err(stop("Labels of an enum", oid));
            }
        }
        let is_other =
            |(oid, now): &(&u32, &u32)| self.composites.get(oid).is_some_and(|before| before != *now);
        match now.composites.iter().find(is_other) {
            Some((oid, _)) => Err(stop("Attributes of a composite type", oid)),
            None => Ok(()),
        }
    }
}

impl Table {
    fn stop(&self, what: &str) -> Error {
        let name = TableName::new(self.schema.as_str(), self.name.as_str());
        let message = format!("Table {name} {what} since the pipeline began");
        Error::table(name, message).with_hint(AGAIN)
    }

    fn check(&self, now: &Self, moment: Moment, may_go: bool) -> Result<()> {
        if (&self.schema, &self.name) != (&now.schema, &now.name) {
            return Err(self.stop(&format!("was renamed to {}.{}", now.schema, now.name)));
        }
        if self.is_partition != now.is_partition {
            return Err(self.stop("became a partition, or ceased to be one,"));
        }
        if self.members != now.members {
            return Err(self.stop("was taken out of the publication, or published in another way,"));
        }
        if self.parts.is_some() != now.parts.is_some() {
            return Err(self.stop("became partitioned, or ceased to be,"));
        }
        let parts = self.parts.as_ref().zip(now.parts.as_ref());
        let is_rewritten = parts.is_some_and(|(before, now)| before.are_rewritten(now));
        for column in &now.columns {
            self.check_column(column, moment, self.file != now.file || is_rewritten)?;
        }
        match parts.and_then(|(before, now)| before.difference(now, moment, may_go)) {
            None => Ok(()),
            Some(difference) => Err(self.differs(difference)),
        }
    }

    fn differs(&self, difference: Difference) -> Error {
        match difference {
            Difference::Lost(what) => self.stop(&what).with_hint(KEEP),
            Difference::Other(what) => self.stop(&what),
        }
    }

    fn check_column(&self, now: &Column, moment: Moment, has_other_file: bool) -> Result<()> {
        let Column(number, name, data_type, altered) = *now;
        if self.columns.iter().any(|before| before.1 == name && before.0 != number) {
            return Err(self.stop("was changed so that a column's name stands for another column"));
        }
        let Some(before) = self.columns.iter().find(|before| before.0 == number) else { return Ok(()) };
        let is_same = before.1 == name && before.2 == data_type;
        if is_same && before.3 != altered && has_other_file {
            return Err(self.stop("was altered and its rows were written anew"));
        }
        if !is_same && moment == Moment::AtRest {
            return Err(self.stop("was changed: a column was renamed or has another type"));
        }
        Ok(())
    }
}

/// The name of a partition that is in the snapshot of `client` and that no look has seen by then: if it went before the
/// next one, nobody would know that its rows were read.
pub(crate) async fn unseen_partition(client: &Client, publication: &str) -> Result<Option<String>> {
    let Some(stored) = stored(client, publication).await? else { return Ok(None) };
    let now = Parts::read(client, &stored.tables()).await?;
    let unknown = |(root, now): (&u32, &Parts)| {
        let known = stored.tables.get(root).and_then(|table| table.parts.as_ref());
        now.unknown_to(known?).map(ToOwned::to_owned)
    };
    Ok(now.iter().find_map(unknown))
}

async fn stored(client: &Client, publication: &str) -> Result<Option<Definitions>> {
    const SQL: &str = "select pg_catalog.obj_description(oid, 'pg_publication') from pg_catalog.pg_publication \
         where pubname = $1";
    let rows = query(client, SQL, &[&publication]).await?;
    let comment: Option<String> = rows.first().and_then(|row| row.get(0));
    let stored = comment.as_deref().and_then(|comment| comment.strip_prefix(MARK));
    Ok(stored.and_then(|json| serde_json::from_str(json).ok()))
}

pub(super) fn gone(options: &WalSourceOptions) -> Error {
    Error::resync(format!("Publication {} is gone", options.publication))
        .with_hint("Changes may have been missed since it was dropped: reset the pipeline and load again")
}

async fn read_tables(
    client: &Client,
    publication: u32,
    tables: &[u32],
    partition: Option<u32>,
) -> Result<BTreeMap<u32, Table>> {
    const SQL: &str = "select c.oid, n.nspname::text, c.relname::text, \
           array(select r.oid from pg_catalog.pg_publication_rel r where r.prpubid = $2 and r.prrelid = c.oid \
             order by 1), \
           c.relfilenode::oid, \
           a.numbers, a.names, a.types, a.modifiers, a.altered, c.relispartition, c.relkind = 'p' \
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         cross join lateral (select pg_catalog.array_agg(attnum order by attnum) as numbers, \
             pg_catalog.array_agg(attname::text order by attnum) as names, \
             pg_catalog.array_agg(atttypid order by attnum) as types, \
             pg_catalog.array_agg(atttypmod order by attnum) as modifiers, \
             pg_catalog.array_agg(xmin::text order by attnum) as altered from pg_catalog.pg_attribute \
           where attrelid = c.oid and attnum > 0 and not attisdropped and attgenerated = '') a \
         where c.oid = any($1)";
    let rows = query(client, SQL, &[&tables, &publication]).await?;
    let roots: Vec<u32> = rows.iter().filter(|row| row.get(11)).map(|row| row.get(0)).collect();
    let mut parts = match (partition, roots.as_slice()) {
        (Some(partition), &[root]) => {
            BTreeMap::from([(root, Parts::read_one(client, root, partition).await?)])
        }
        _ => Parts::read(client, &roots).await?,
    };
    let mut parts_of =
        |row: &Row| row.get::<_, bool>(11).then(|| parts.remove(&row.get(0)).unwrap_or_default());
    rows.iter().map(|row| Ok((row.get(0), table(row, parts_of(row))?))).collect()
}

fn table(row: &Row, parts: Option<Parts>) -> Result<Table> {
    let numbers: Vec<i16> = row.get::<_, Option<_>>(5).unwrap_or_default();
    let (names, altered): (Option<Vec<String>>, Option<Vec<String>>) = (row.get(6), row.get(9));
    let (types, modifiers): (Option<Vec<u32>>, Option<Vec<i32>>) = (row.get(7), row.get(8));
    let (names, altered) = (names.unwrap_or_default(), altered.unwrap_or_default());
    let (types, modifiers) = (types.unwrap_or_default(), modifiers.unwrap_or_default());
    let column = |(at, number): (usize, &i16)| {
        let data_type = hash(&format!("{} {}", types[at], modifiers[at]));
        Ok(Column(*number, hash(&names[at]), data_type, transaction(&altered[at])?))
    };
    Ok(Table {
        schema: row.get(1),
        name: row.get(2),
        is_partition: row.get(10),
        members: row.get(3),
        file: row.get(4),
        columns: numbers.iter().enumerate().map(column).collect::<Result<_>>()?,
        parts,
    })
}

/// Every type that columns are made of and that is not the system's own (numbers below 16384): of domains, arrays, ranges and composite types also what those are made of.
const TYPES: &str = "with recursive types(oid) as ( \
     select distinct atttypid from pg_catalog.pg_attribute \
       where attrelid = any($1) and attnum > 0 and not attisdropped and atttypid >= 16384 \
     union select part.oid from types join pg_catalog.pg_type t on t.oid = types.oid cross join lateral ( \
       select t.typbasetype as oid union all select t.typelem \
       union all select a.atttypid from pg_catalog.pg_attribute a where t.typtype = 'c' and a.attrelid = t.typrelid \
         and a.attnum > 0 and not a.attisdropped \
       union all select r.rngsubtype from pg_catalog.pg_range r where t.oid in (r.rngtypid, r.rngmultitypid)) part \
     where part.oid >= 16384)";

async fn read_labels(client: &Client, tables: &[u32]) -> Result<BTreeMap<u32, BTreeMap<u32, u32>>> {
    let sql = format!(
        "{TYPES} select enumtypid, oid, enumlabel || ' ' || xmin::text from pg_catalog.pg_enum \
         where enumtypid in (select oid from types)"
    );
    let mut labels: BTreeMap<u32, BTreeMap<u32, u32>> = BTreeMap::new();
    for row in query(client, &sql, &[&tables]).await? {
        labels.entry(row.get(0)).or_default().insert(row.get(1), hash(row.get(2)));
    }
    Ok(labels)
}

async fn read_composites(client: &Client, tables: &[u32]) -> Result<BTreeMap<u32, u32>> {
    let sql = format!(
        "{TYPES} select t.oid, pg_catalog.string_agg(a.attnum || ' ' || a.atttypid || ' ' || a.atttypmod, ',' \
           order by a.attnum) from pg_catalog.pg_type t join pg_catalog.pg_attribute a on a.attrelid = t.typrelid \
         where t.oid in (select oid from types) and t.typtype = 'c' and a.attnum > 0 and not a.attisdropped group by t.oid"
    );
    let rows = query(client, &sql, &[&tables]).await?;
    Ok(rows.iter().map(|row| (row.get(0), hash(row.get(1)))).collect())
}

fn number(row: &Row, at: usize) -> Result<u32> {
    transaction(row.get(at))
}

pub(super) fn transaction(text: &str) -> Result<u32> {
    text.parse()
        .map_err(|_| Error::corrupt("A transaction number of PostgreSQL's catalogue is not understood"))
}

/// Enough to tell a change by.
fn hash(text: &str) -> u32 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(4).fold(0, |hash, byte| hash << 8 | u32::from(*byte))
}
