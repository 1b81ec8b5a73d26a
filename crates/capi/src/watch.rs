//! Functions on watches of raw descriptors.

use std::ffi::c_int;

/// A read would find something, or end of stream, or an error: it would not block.
pub const ECHOLOOP_READABLE: c_int = 1;
/// A write would be taken, or fail: it would not block.
pub const ECHOLOOP_WRITABLE: c_int = 2;
/// There is something exceptional to read, such as urgent data of TCP (POLLPRI of poll(2)).
pub const ECHOLOOP_PRIORITY: c_int = 4;
/// Readiness only: the peer has finished sending (POLLRDHUP), or hung up.
pub const ECHOLOOP_READ_CLOSED: c_int = 8;
/// Readiness only: an error is pending; for a pipe, the reading end is closed (POLLERR).
pub const ECHOLOOP_FAILED: c_int = 16;
/// Readiness only: the other end is gone (POLLHUP). What it sent before may still be to be read.
pub const ECHOLOOP_HANG_UP: c_int = 32;
/// Readiness only: the descriptor is not open, or its number names another one by now (POLLNVAL).
pub const ECHOLOOP_INVALID: c_int = 64;
