//! The detail of this thread's last failure, in a fixed buffer.
//!
//! The rule: the buffer belongs to the thread and is never moved or freed while it lives, so the
//! pointer that C holds stays good even when the next failure overwrites the text. Only failures
//! write; success leaves it alone.

use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int};
use std::fmt;

use echoloop_core::Error;

use crate::status;
use crate::text::FixedText;

/// Bytes of the text, its end mark included; longer texts are cut.
const SIZE: usize = 512;

struct Last {
    status: c_int,
    text: FixedText<SIZE>,
}

thread_local! {
    static LAST: UnsafeCell<Last> = const { UnsafeCell::new(Last { status: 0, text: FixedText::EMPTY }) };
}

/// The full text of this thread's last failure: operation, address, text, name. Empty when nothing
/// has failed yet. The buffer belongs to the thread: valid until the thread ends, overwritten by
/// the next failure.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_last_error() -> *const c_char {
    // SAFETY: only this thread reaches its cell, and the reference ends here. What C keeps is a
    // pointer, which header section "Errors" lets the next failure overwrite.
    LAST.with(|last| unsafe { (*last.get()).text.with_end().as_ptr().cast() })
}

/// The status code of this thread's last failure; 0 when nothing has failed yet. For functions
/// that return a pointer.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_last_status() -> c_int {
    // SAFETY: only this thread reaches its cell, and no reference to it is kept anywhere.
    LAST.with(|last| unsafe { (*last.get()).status })
}

/// A failure whose detail has been recorded; the status code to return.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refused(c_int);

impl Refused {
    #[cold]
    pub(crate) fn new(operation: &str, status: c_int) -> Self {
        Self::because(
            operation,
            status,
            format_args!("{}", status::own_text(status)),
        )
    }

    #[cold]
    pub(crate) fn because(operation: &str, status: c_int, why: fmt::Arguments<'_>) -> Self {
        let name = status::name(status).to_str().unwrap_or_default();
        Self::record(status, format_args!("{operation}: {why} ({name})"))
    }

    pub(crate) fn status(self) -> c_int {
        self.0
    }

    fn record(status: c_int, text: fmt::Arguments<'_>) -> Self {
        LAST.with(|last| {
            // SAFETY: only this thread reaches its cell, and no reference to it is kept anywhere.
            // Formatting the texts of this crate and the core does not come back here.
            let last = unsafe { &mut *last.get() };
            last.status = status;
            last.text.set(text);
        });
        Self(status)
    }
}

impl From<Error> for Refused {
    #[cold]
    fn from(e: Error) -> Self {
        let status = status::of(e.kind());
        match e.errno() {
            // The text of a system error ends in its name already.
            Some(_) => Self::record(status, format_args!("{e}")),
            None => Self::record(
                status,
                format_args!("{e} ({})", status::name(status).to_string_lossy()),
            ),
        }
    }
}

/// What an exported function returns.
#[inline]
pub(crate) fn returned(outcome: Result<c_int, Refused>) -> c_int {
    match outcome {
        Ok(value) => value,
        Err(refused) => refused.status(),
    }
}

#[cfg(test)]
mod tests {
    use echoloop_core::ErrorKind;

    use super::*;

    #[test]
    fn a_text_has_the_name_of_its_error_once() {
        for (kind, name) in [
            (ErrorKind::BadDescriptor(7), "EBADF"),
            (ErrorKind::Os(libc::EMFILE), "EMFILE"),
            (ErrorKind::QueueFull, "ECHOLOOP_EQUEUEFULL"),
        ] {
            let _ = Refused::from(Error::new("test", kind));
            // SAFETY: a text with an end mark, in this thread's buffer.
            let text = unsafe { std::ffi::CStr::from_ptr(echoloop_last_error()) };
            let text = text.to_str().unwrap();
            assert!(text.ends_with(&format!("({name})")), "{text}");
            assert_eq!(text.matches(name).count(), 1, "{text}");
        }
    }
}
