//! The tables that a statement's row events refer to by number, and the definitions met so far.
//!
//! A number means a table only until its statement ends (R12). The definition is looked up by the bytes of the
//! TABLE_MAP: where they are equal to the last ones under that number, nothing is parsed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use freshet_core::schema::{SchemaId, TableName, TableSchema};
use freshet_core::source::Selects;

use super::plan::{self, Plan};
use super::table_map::Head;
use super::{DecodeOptions, Flavour};
use crate::values::reader::Short;

/// Definitions kept; a server gives a table a new number at every DDL and reopening.
const DEFINITIONS_MAX: usize = 4096;

/// What a number stands for.
#[derive(Clone, Debug)]
pub(super) enum Mapped {
    /// A table that is not captured: its rows are passed over.
    Other,
    /// A captured table.
    Captured(Arc<Plan>),
}

/// Why a TABLE_MAP stops us.
#[derive(Debug)]
pub(super) enum MapError {
    Damaged(&'static str),
    Refused(TableName, plan::Refusal),
}

impl From<Short> for MapError {
    fn from(_: Short) -> Self {
        MapError::Damaged("a TABLE_MAP is cut off or has a value out of range")
    }
}

struct Known {
    definition: Vec<u8>,
    mapped: Mapped,
}

/// The tables of a session.
#[derive(Default)]
pub(super) struct Tables {
    known: HashMap<u64, Known>,
    /// Of the statement that is being read.
    current: Vec<(u64, Mapped)>,
    /// The schema that each table was announced with last: a definition that comes back is announced again.
    announced: HashMap<TableName, SchemaId>,
    /// Databases in which a captured table was met.
    schemas: HashSet<String>,
}

impl Tables {
    /// Forgets everything: a new session.
    pub(super) fn reset(&mut self) {
        *self = Tables::default();
    }

    /// Forgets what was announced, since it stood in a part that was taken back.
    pub(super) fn forget_announced(&mut self) {
        self.announced.clear();
    }

    /// A statement ended: its numbers mean nothing any more.
    pub(super) fn end_statement(&mut self) {
        self.current.clear();
    }

    /// What a number of the current statement stands for.
    pub(super) fn get(&self, id: u64) -> Option<&Mapped> {
        self.current.iter().rev().find(|known| known.0 == id).map(|known| &known.1)
    }

    /// Whether the schema must be announced now; counts it as announced.
    pub(super) fn announce(&mut self, schema: &TableSchema) -> bool {
        match self.announced.get_mut(schema.name()) {
            Some(id) if *id == schema.id() => false,
            Some(id) => {
                *id = schema.id();
                true
            }
            None => {
                self.announced.insert(schema.name().clone(), schema.id());
                true
            }
        }
    }

    /// Whether a captured table of this database was met.
    pub(super) fn has_met(&self, schema: &str) -> bool {
        self.schemas.contains(schema)
    }

    /// A TABLE_MAP.
    pub(super) fn map(
        &mut self,
        head: &Head<'_>,
        flavour: Flavour,
        selects: &dyn Selects,
        options: &DecodeOptions,
    ) -> Result<(), MapError> {
        let known = self.known.get(&head.id).filter(|known| known.definition == head.definition);
        let mapped = match known {
            Some(known) => known.mapped.clone(),
            None => self.define(head, flavour, selects, options)?,
        };
        self.current.push((head.id, mapped));
        Ok(())
    }

    fn define(
        &mut self,
        head: &Head<'_>,
        flavour: Flavour,
        selects: &dyn Selects,
        options: &DecodeOptions,
    ) -> Result<Mapped, MapError> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned);
        let (Ok(schema), Ok(table)) = (text(head.schema), text(head.table)) else {
            return Err(MapError::Damaged("a TABLE_MAP has a name that is not UTF-8"));
        };
        let name = TableName { schema, table };
        let mapped =
            if selects.selects(&name) { self.capture(name, head, flavour, options)? } else { Mapped::Other };
        if self.known.len() >= DEFINITIONS_MAX {
            self.known.clear();
        }
        self.known.insert(head.id, Known { definition: head.definition.to_vec(), mapped: mapped.clone() });
        Ok(mapped)
    }

    fn capture(
        &mut self,
        name: TableName,
        head: &Head<'_>,
        flavour: Flavour,
        options: &DecodeOptions,
    ) -> Result<Mapped, MapError> {
        let map = head.table_map(flavour)?;
        if flavour == Flavour::Mariadb && plan::is_sequence(&map) {
            return Ok(Mapped::Other);
        }
        self.schemas.insert(name.schema.clone());
        let special = options.special_columns.get(&name);
        match plan::make(name.clone(), &map, flavour, special) {
            Ok(plan) => Ok(Mapped::Captured(Arc::new(plan))),
            Err(refusal) => Err(MapError::Refused(name, refusal)),
        }
    }
}
