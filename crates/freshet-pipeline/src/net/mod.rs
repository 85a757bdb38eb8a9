//! From records to windows: the net change of each key, in bulk, or every change in source order.
//!
//! A window commits as one, so within it only the net change per key matters (ALGORITHMS 3.4): all deletes, then
//! all updates, then all inserts. Strictness is kept: the first operation on a key says whether the key must be
//! there. What cannot be netted is applied in source order: tables without a key always, and the whole window
//! where two keys share a value of a unique index or where the history of a key makes no sense.
//!
//! Not SQL and not IO: input is records, output is [`freshet_core::window::Window`]s that refer to images inside
//! them.

mod build;
mod held;
mod keys;
mod table;

pub use build::{Rigour, Tables, WindowBuilder};
pub use held::Held;

#[cfg(test)]
mod tests;
