//! Time: the program's timers, and the order in which all that has a time falls due.
//!
//! The rule: times are nanoseconds of the loop's clock; what a program sees is a `Duration` since
//! the loop was made.

pub(crate) mod deadlines;
pub(crate) mod schedule;
pub(crate) mod timer;
