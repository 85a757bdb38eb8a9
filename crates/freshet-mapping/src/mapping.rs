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
}

impl Mapping {
    /// A mapping that renames these schemas and keeps every other name.
    pub fn new(schemas: BTreeMap<String, String>) -> Self {
        Self { schemas }
    }

    /// Name of a source table on the target.
    pub fn target(&self, source: &TableName) -> TableName {
        let schema = self.schemas.get(&source.schema).unwrap_or(&source.schema);
        TableName::new(schema, &source.table)
    }

    /// Plans every table, and refuses two that would land under one name.
    pub fn plan(&self, tables: &[TableInfo]) -> Result<Vec<TablePlan>> {
        let mut taken: HashMap<TableName, &TableName> = HashMap::new();
        let mut plans = Vec::with_capacity(tables.len());
        for info in tables {
            let target = self.target(info.name());
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
}
