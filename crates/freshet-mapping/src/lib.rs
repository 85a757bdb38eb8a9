//! Selection and mapping rules: which source tables a pipeline captures, and what they are called on a target.
//!
//! Not SQL and not the catalogue: rules are matched against names only, and names are case-sensitive, as the
//! servers' catalogues print them. Transformations of columns and values come later and will live here too.
//!
//! Invariant: two source tables never share a target name ([`Mapping::plan`] refuses it: HAZARDS D13).

mod mapping;
mod pattern;

pub use mapping::Mapping;
pub use pattern::{Pattern, Selection};
