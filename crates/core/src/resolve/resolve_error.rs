//! Why a name could not be resolved, in the terms of getaddrinfo(3).
//!
//! The rule: code, name and text are always there, as for errors of the system; the numbers are
//! those of this system's `netdb.h`.

use std::fmt;

use crate::error::{errno_name, errno_text};

/// A failed lookup.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResolveError {
    code: i32,
    errno: i32,
}

impl ResolveError {
    /// The failure with this `EAI_` code and, for `EAI_SYSTEM`, this error number.
    #[must_use]
    pub const fn new(code: i32, errno: i32) -> Self {
        Self { code, errno }
    }

    /// The number, `-2` for `EAI_NONAME` on Linux.
    #[must_use]
    pub const fn code(self) -> i32 {
        self.code
    }

    /// The error number behind `EAI_SYSTEM`, else 0.
    #[must_use]
    pub const fn errno(self) -> i32 {
        self.errno
    }

    /// The symbolic name, `"EAI_NONAME"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        known(self.code).map_or("EAI_UNKNOWN", |(_, name, _)| name)
    }

    /// The text, `"Name or service not known"`.
    #[must_use]
    pub fn text(self) -> &'static str {
        if self.code == libc::EAI_SYSTEM && self.errno != 0 {
            return errno_text(self.errno);
        }
        known(self.code).map_or("Unknown error of the resolver", |(_, _, text)| text)
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "name resolution failed: {} ({}",
            self.text(),
            self.name()
        )?;
        if self.code == libc::EAI_SYSTEM && self.errno != 0 {
            write!(f, ", {}", errno_name(self.errno))?;
        }
        f.write_str(")")
    }
}

impl fmt::Debug for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResolveError({self})")
    }
}

impl std::error::Error for ResolveError {}

type Known = (i32, &'static str, &'static str);

fn known(code: i32) -> Option<Known> {
    CODES.iter().copied().find(|known| known.0 == code)
}

#[rustfmt::skip]
const CODES: &[Known] = &[
    (libc::EAI_AGAIN, "EAI_AGAIN", "Temporary failure in name resolution"),
    (libc::EAI_BADFLAGS, "EAI_BADFLAGS", "Bad value for the flags"),
    (libc::EAI_FAIL, "EAI_FAIL", "Non-recoverable failure in name resolution"),
    (libc::EAI_FAMILY, "EAI_FAMILY", "Address family not supported"),
    (libc::EAI_MEMORY, "EAI_MEMORY", "Out of memory"),
    (libc::EAI_NODATA, "EAI_NODATA", "No address associated with the name"),
    (libc::EAI_NONAME, "EAI_NONAME", "Name or service not known"),
    (libc::EAI_OVERFLOW, "EAI_OVERFLOW", "Result too large for the buffer"),
    (libc::EAI_SERVICE, "EAI_SERVICE", "Service not supported for the socket type"),
    (libc::EAI_SOCKTYPE, "EAI_SOCKTYPE", "Socket type not supported"),
    (libc::EAI_SYSTEM, "EAI_SYSTEM", "System error"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_code_name_and_text() {
        let e = ResolveError::new(libc::EAI_NONAME, 0);
        assert_eq!((e.code(), e.name()), (libc::EAI_NONAME, "EAI_NONAME"));
        let text = "name resolution failed: Name or service not known (EAI_NONAME)";
        assert_eq!(e.to_string(), text);
    }

    #[test]
    fn a_system_error_names_what_is_behind_it() {
        let e = ResolveError::new(libc::EAI_SYSTEM, libc::EMFILE);
        let text = "name resolution failed: Too many open files (EAI_SYSTEM, EMFILE)";
        assert_eq!(e.to_string(), text);
        assert_eq!(ResolveError::new(12345, 0).name(), "EAI_UNKNOWN");
    }
}
