//! Names on the target: schemas may be renamed, tables keep their names.

use freshet_core::sink::TablePlan;
use freshet_core::table::TableInfo;
use freshet_core::{Error, Result, TableName};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How one sink names what it receives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    schemas: BTreeMap<String, String>,
    reserved: Option<String>,
}

impl Mapping {
    /// A mapping that renames these schemas and keeps every other name.
    pub fn new(schemas: BTreeMap<String, String>) -> Self {
        Self { schemas, reserved: None }
    }

    /// Keeps a schema of the target free: no table is planned there.
    pub fn reserving(self, schema: impl Into<String>) -> Self {
        Self { reserved: Some(schema.into()), ..self }
    }

    /// Name of a source table on the target.
    pub fn target(&self, source: &TableName) -> TableName {
        let schema = self.schemas.get(&source.schema).unwrap_or(&source.schema);
        TableName::new(schema, &source.table)
    }

    /// Names of source schemas on the target, sorted.
    pub fn schemas(&self, sources: &[String]) -> Vec<String> {
        let target = |source: &String| self.schemas.get(source).unwrap_or(source).clone();
        let mut targets: Vec<String> = sources.iter().map(target).collect();
        targets.sort_unstable();
        targets.dedup();
        targets
    }

    /// Plans every table, and refuses two that would land under one name, and any in the reserved schema.
    pub fn plan(&self, tables: &[TableInfo]) -> Result<Vec<TablePlan>> {
        let mut taken: HashMap<TableName, &TableName> = HashMap::new();
        let mut plans = Vec::with_capacity(tables.len());
        for info in tables {
            let target = self.target(info.name());
            if self.reserved.as_ref() == Some(&target.schema) {
                return Err(Error::invalid(format!(
                    "Table {} would be {target} on the target, in the schema of freshet's own tables",
                    info.name()
                ))
                .with_hint("Exclude the table, or give the sink another control_schema"));
            }
            if let Some(other) = taken.insert(target.clone(), info.name()) {
                return Err(Error::invalid(format!(
                    "Tables {other} and {} would both be {target} on the target",
                    info.name()
                ))
                .with_hint("Give their schemas different names under the sink's `schemas`, or exclude one"));
            }
            plans.push(TablePlan { info: Arc::new(info.clone()), target });
        }
        Ok(plans)
    }

    /// The mapping as canonical text, for noticing that it changed between runs.
    pub fn digest(&self) -> String {
        let pairs: Vec<String> = self.schemas.iter().map(|(a, b)| format!("{a}:{b}")).collect();
        format!("schemas={}", pairs.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freshet_core::table::Dialect;
    use freshet_core::{Column, DataType, TableSchema};

    fn table(schema: &str, table: &str) -> TableInfo {
        let column = Column { name: "id".into(), data_type: DataType::Date, nullable: false };
        let schema = TableSchema::new(TableName::new(schema, table), vec![column], vec![0]).expect("valid");
        TableInfo {
            schema: schema.into(),
            dialect: Dialect::Mysql,
            columns: vec![Default::default()],
            indexes: vec![],
            next_value: None,
            rows_estimate: 0,
            native: Default::default(),
            not_carried: vec![],
        }
    }

    #[test]
    fn d13_two_tables_under_one_name_are_refused() {
        let m = Mapping::new(
            [("a".to_owned(), "public".to_owned()), ("b".to_owned(), "public".to_owned())].into(),
        );
        let plans = m.plan(&[table("a", "x"), table("b", "y"), table("c", "x")]).expect("distinct");
        assert_eq!(plans[2].target, TableName::new("c", "x"));
        let error = m.plan(&[table("a", "x"), table("b", "x")]).expect_err("collides");
        assert_eq!(error.message(), "Tables a.x and b.x would both be public.x on the target");
    }

    #[test]
    fn nothing_is_planned_where_the_control_tables_are() {
        let m = Mapping::new([("freshet".to_owned(), "other".to_owned())].into()).reserving("freshet");
        assert_eq!(m.plan(&[table("freshet", "checkpoint")]).expect("renamed").len(), 1);
        let m = Mapping::default().reserving("freshet");
        let error = m.plan(&[table("freshet", "checkpoint")]).expect_err("reserved");
        assert!(error.message().contains("in the schema of freshet's own tables"), "{error}");
    }
}
