//! The version, as the header's macros and as the library tells it.

use std::ffi::{c_char, c_int};

/// Major part of the version of this header; 0: the ABI may still change with every minor version.
pub const ECHOLOOP_VERSION_MAJOR: i32 = 0;
/// Minor part of the version of this header.
pub const ECHOLOOP_VERSION_MINOR: i32 = 1;
/// Patch part of the version of this header.
pub const ECHOLOOP_VERSION_PATCH: i32 = 0;

/// The version of the library that runs, "0.1.0". Compare with ECHOLOOP_VERSION, the version of
/// the header that was compiled.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The version of the library that runs as one number that grows, 1000000 * major + 1000 * minor +
/// patch. Compare with ECHOLOOP_VERSION_NUMBER, that of the header that was compiled.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_version_number() -> c_int {
    ECHOLOOP_VERSION_MAJOR * 1_000_000 + ECHOLOOP_VERSION_MINOR * 1_000 + ECHOLOOP_VERSION_PATCH
}
