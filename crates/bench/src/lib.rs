//! The parts of the benchmark that others may use: [`load`], the load generator.
//!
//! The benchmark itself, which builds the servers and sets them side by side, is the program.

pub mod load;
