//! The door for fuzzing: bytes as a server could send them, into the decoder. Not for use.
//!
//! Messages stand one behind the other, each after its length in two bytes. Relations are given types as the catalogue
//! would, but for those that are not built in.

use crate::catalog::types::TypeCatalog;
use crate::decode::{Captured, Decoder, Relation, Step};
use freshet_core::codec::BatchBuilder;
use freshet_core::{Column, DataType, EventRef, RowRef, SchemaMap, TableName, TableSchema};
use std::collections::BTreeSet;

/// Decodes a session of pgoutput, and reads back what it gave.
///
/// # Panics
/// Where the decoder wrote what cannot be read back.
pub fn pgoutput(mut data: &[u8]) {
    let mut decoder = Decoder::new();
    let (mut batch, mut schemas) = (BatchBuilder::new(), SchemaMap::default());
    while let Some((length, rest)) = data.split_at_checked(2) {
        let length = usize::from(u16::from_be_bytes([length[0], length[1]])).min(rest.len());
        let (message, rest) = rest.split_at(length);
        data = rest;
        match decoder.feed(message, &mut batch) {
            Ok(Step::Relation(relation)) if relation.name == "other" => decoder.leave_out(relation.oid),
            Ok(Step::Relation(relation)) => match captured(&relation) {
                Some(captured) => decoder.define(relation.oid, captured),
                None => break,
            },
            Ok(Step::Truncate(relations)) => {
                if decoder.truncate(&relations, |_| BTreeSet::new(), &mut batch).is_err() {
                    break;
                }
            }
            Ok(Step::Commit(_) | Step::Outside | Step::InTransaction) => {}
            Err(_) => break,
        }
        read_back(&mut batch, &mut schemas);
    }
    read_back(&mut batch, &mut schemas);
}

fn captured(relation: &Relation) -> Option<Captured> {
    let types = TypeCatalog::default();
    let column = |column: &crate::decode::RelationColumn| Column {
        name: column.name.clone(),
        data_type: types
            .data_type(column.type_oid, column.type_modifier)
            .unwrap_or_else(|| DataType::Named { name: "named".to_owned() }),
        nullable: true,
    };
    let columns: Vec<Column> = relation.columns.iter().map(column).collect();
    let is_key: Vec<bool> = relation.columns.iter().map(|column| column.is_key).collect();
    let key = (0..is_key.len() as u16).filter(|i| is_key[usize::from(*i)]).collect();
    let name = TableName::new(relation.schema.as_str(), relation.name.as_str());
    let schema = TableSchema::new(name, columns, key).ok()?;
    Some(Captured { schema: schema.into(), is_key, order: Vec::new(), part: None })
}

fn read_back(batch: &mut BatchBuilder, schemas: &mut SchemaMap) {
    let batch = batch.seal();
    assert!(batch.collect_schemas(schemas).is_ok(), "a schema cannot be read back");
    for event in batch.events() {
        let Ok(event) = event else { panic!("an event cannot be read back") };
        let (id, images) = match event {
            EventRef::Insert { schema, after } => (schema, [Some(after), None]),
            EventRef::Update { schema, before, after } => (schema, [Some(before), Some(after)]),
            EventRef::Delete { schema, before } => (schema, [Some(before), None]),
            EventRef::Begin { .. }
            | EventRef::Schema { .. }
            | EventRef::Truncate(_)
            | EventRef::Statement(_)
            | EventRef::Commit(_) => continue,
        };
        for image in images.into_iter().flatten() {
            let row = schemas.get(id).map(|schema| RowRef::new(schema, image).validate());
            assert!(matches!(row, Some(Ok(()))), "a row cannot be read back");
        }
    }
}
