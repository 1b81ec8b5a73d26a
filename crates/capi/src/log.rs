//! The log: what the library has to tell people, line by line, to a callback of the program's.
//!
//! The rule: a callback that was replaced is not called any more once echoloop_set_log() has returned,
//! so each line holds a lock for reading while it is told. A line that comes of telling another one, on
//! the same thread, is dropped. Lines are cut to fixed buffers, so that a shortage of memory can be told.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::fmt;
use std::sync::{OnceLock, PoisonError, RwLock};

use ::log::{LevelFilter, Log, Metadata, Record};

use crate::detail::{Refused, returned};
use crate::text::FixedText;
use crate::{ECHOLOOP_EINVAL, ECHOLOOP_EREENTRY};

/// No log; see echoloop_set_log().
pub const ECHOLOOP_LOG_OFF: c_int = 0;
/// Something is broken: a bug in echoloop (target "panic"), a worker that has failed.
pub const ECHOLOOP_LOG_ERROR: c_int = 1;
/// Somebody should look at it: refused connections (at most a line a second), callbacks that hold the
/// loop.
pub const ECHOLOOP_LOG_WARN: c_int = 2;
/// What happens now and then.
pub const ECHOLOOP_LOG_INFO: c_int = 3;
/// What happens to single connections.
pub const ECHOLOOP_LOG_DEBUG: c_int = 4;
/// All there is.
pub const ECHOLOOP_LOG_TRACE: c_int = 5;

/// Called with a line of log; see echoloop_set_log().
pub type echoloop_log_fn = Option<
    unsafe extern "C-unwind" fn(
        user: *mut c_void,
        level: c_int,
        target: *const c_char,
        text: *const c_char,
    ),
>;

/// Has every line of log up to level (ECHOLOOP_LOG_ERROR to ECHOLOOP_LOG_TRACE) told to callback:
/// target says where it comes from, such as "echoloop_core::conn::accept" or "panic"; text has no line
/// feed at its end and is cut at 1,023 bytes. Both are readable until the callback returns. Replaces
/// what was set before, for the whole process; callback NULL, or ECHOLOOP_LOG_OFF: no log, which is how
/// it begins. May be called at any time, on any thread.
///
/// callback is called on any thread, on several at a time, and in the middle of calls: it must not call
/// back into echoloop, save for texts and versions. If it does, this function, and calls on the loop
/// in the middle of whose call it was called, get ECHOLOOP_EREENTRY, and lines that come of it are
/// dropped. Once this has returned, the callback before is called no more: it waits for calls under
/// way, so the caller must not hold what that callback waits for.
///
/// A bug in echoloop (ECHOLOOP_EPANIC) is told here with what is known of it; the library itself prints
/// nothing. Errors: ECHOLOOP_EINVAL for a level that there is not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_set_log(
    level: c_int,
    callback: echoloop_log_fn,
    user: *mut c_void,
) -> c_int {
    returned(set(level, callback, user).map(|()| 0))
}

fn set(level: c_int, callback: echoloop_log_fn, user: *mut c_void) -> Result<(), Refused> {
    let operation = "set log";
    let invalid = |why| Err(Refused::because(operation, ECHOLOOP_EINVAL, why));
    let filter = match level {
        ECHOLOOP_LOG_OFF => LevelFilter::Off,
        ECHOLOOP_LOG_ERROR => LevelFilter::Error,
        ECHOLOOP_LOG_WARN => LevelFilter::Warn,
        ECHOLOOP_LOG_INFO => LevelFilter::Info,
        ECHOLOOP_LOG_DEBUG => LevelFilter::Debug,
        ECHOLOOP_LOG_TRACE => LevelFilter::Trace,
        _ => return invalid(format_args!("{level} is no level of the log")),
    };
    if INSIDE.get() {
        return Err(Refused::new(operation, ECHOLOOP_EREENTRY));
    }
    static TAKEN: OnceLock<bool> = OnceLock::new();
    if !TAKEN.get_or_init(|| ::log::set_logger(&Logger).is_ok()) {
        return invalid(format_args!("this program, in Rust, has a logger already"));
    }
    let sink = callback
        .filter(|_| filter != LevelFilter::Off)
        .map(|callback| Sink {
            callback,
            user: user.expose_provenance(),
        });
    let filter = sink.as_ref().map_or(LevelFilter::Off, |_| filter);
    let mut place = SINK.write().unwrap_or_else(PoisonError::into_inner);
    *place = sink;
    ::log::set_max_level(filter);
    Ok(())
}

/// Tells a bug: its text, and the place in the source.
pub(crate) fn bug(text: fmt::Arguments<'_>) {
    tell(ECHOLOOP_LOG_ERROR, "panic", text);
}

struct Sink {
    callback: unsafe extern "C-unwind" fn(*mut c_void, c_int, *const c_char, *const c_char),
    /// The exposed address of the user pointer.
    user: usize,
}

static SINK: RwLock<Option<Sink>> = RwLock::new(None);

thread_local! {
    /// This thread is telling a line.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= ::log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            tell(record.level() as c_int, record.target(), *record.args());
        }
    }

    fn flush(&self) {}
}

fn tell(level: c_int, target: &str, text: fmt::Arguments<'_>) {
    /// Ends the telling, also when the formatting of a line panics.
    struct Told;
    impl Drop for Told {
        fn drop(&mut self) {
            INSIDE.set(false);
        }
    }
    if INSIDE.replace(true) {
        return;
    }
    let _told = Told;
    let sink = SINK.read().unwrap_or_else(PoisonError::into_inner);
    let Some(sink) = &*sink else { return };
    let target = FixedText::<64>::of(format_args!("{target}"));
    let text = FixedText::<1024>::of(text);
    let user = std::ptr::with_exposed_provenance_mut(sink.user);
    // SAFETY: header, "Callbacks": the callback is a function of its type, and it returns or ends the
    // process; both texts live until then. The lock keeps it from being replaced meanwhile.
    unsafe {
        (sink.callback)(
            user,
            level,
            target.with_end().as_ptr().cast(),
            text.with_end().as_ptr().cast(),
        );
    }
}

const _: () = assert!(
    ::log::Level::Error as c_int == ECHOLOOP_LOG_ERROR
        && ::log::Level::Trace as c_int == ECHOLOOP_LOG_TRACE,
    "the levels are numbered alike"
);
