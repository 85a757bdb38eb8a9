//! The real binary, run as a user runs it. One test binary, so that it is linked once.

mod logs;
mod run;
mod shop;
mod support;
mod usage;
