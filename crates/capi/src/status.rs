//! Status codes, their names and their texts.
//!
//! The rule: a number, once given, is never given to anything else. Errors of the operating system
//! are `-errno`, -1 to -4095; -10001 to -10999 are echoloop's own; -11000 to -11999 are those of
//! name resolution. Names and texts live as long as the process.

use std::ffi::{CStr, c_char, c_int};
use std::sync::OnceLock;

use echoloop_core::{ErrorKind, ResolveError, errno_name, errno_text};

use crate::text::FixedText;

/// The handle is NULL, stale, of another kind, or made up.
pub const ECHOLOOP_EBADHANDLE: c_int = -10001;
/// More than the hard cap waits to be sent, and nothing was queued. Send again after DRAINED.
pub const ECHOLOOP_EQUEUEFULL: c_int = -10002;
/// The connection takes no more sends: it was closed, aborted or shut down here, or it is dead and
/// its CLOSED event is on the way.
pub const ECHOLOOP_ECLOSING: c_int = -10003;
/// The loop behind a remote is gone; or a loop was freed while it ran.
pub const ECHOLOOP_ECLOSED: c_int = -10004;
/// All handles of this kind are taken; or a server's maximum of connections is reached.
pub const ECHOLOOP_ETOOMANY: c_int = -10005;
/// Memory could not be had; nothing was done.
pub const ECHOLOOP_ENOMEM: c_int = -10006;
/// An argument makes no sense; echoloop_last_error() says which.
pub const ECHOLOOP_EINVAL: c_int = -10007;
/// The handle belongs to a loop of another thread. Only an echoloop_remote may be used there.
pub const ECHOLOOP_EWRONGTHREAD: c_int = -10008;
/// The loop runs already: echoloop_run(), echoloop_server_run() and echoloop_poll_batch() can't be
/// called in a callback of the same loop, and nothing at all in a signal handler. Of a selector:
/// another thread waits on it. In a callback of the log or of slow handlers: the loop is in the
/// middle of a call.
pub const ECHOLOOP_EREENTRY: c_int = -10009;
/// A bug inside echoloop: the loop is unusable from now on and can only be freed. Other loops are
/// not affected.
pub const ECHOLOOP_EPANIC: c_int = -10010;
/// A pointer that must not be NULL is NULL (for handles it is ECHOLOOP_EBADHANDLE).
pub const ECHOLOOP_ENULL: c_int = -10011;
/// The loop was made before a fork(2), and this is the child. echoloop_after_fork() makes it usable
/// here; it may also be freed, which does not disturb the parent.
pub const ECHOLOOP_EFORKED: c_int = -10012;
/// Not a code itself: a name that could not be resolved has this less the size of its EAI_ number
/// (getaddrinfo(3)): ECHOLOOP_EAI(EAI_NONAME), where EAI_NONAME is -2, is -11002. For EAI_SYSTEM it
/// is the -errno behind it.
pub const ECHOLOOP_RESOLVER_BASE: c_int = -11000;

/// The texts of echoloop's own codes.
const OWN: &[(c_int, &CStr, &CStr)] = &[
    (0, c"OK", c"success"),
    (
        ECHOLOOP_EBADHANDLE,
        c"ECHOLOOP_EBADHANDLE",
        c"not a living handle of this kind",
    ),
    (
        ECHOLOOP_EQUEUEFULL,
        c"ECHOLOOP_EQUEUEFULL",
        c"queue is full, nothing was queued; try again after the drained event",
    ),
    (
        ECHOLOOP_ECLOSING,
        c"ECHOLOOP_ECLOSING",
        c"connection takes no more sends",
    ),
    (ECHOLOOP_ECLOSED, c"ECHOLOOP_ECLOSED", c"loop is gone"),
    (
        ECHOLOOP_ETOOMANY,
        c"ECHOLOOP_ETOOMANY",
        c"too many objects of this kind",
    ),
    (
        ECHOLOOP_ENOMEM,
        c"ECHOLOOP_ENOMEM",
        c"out of memory, nothing was done",
    ),
    (
        ECHOLOOP_EINVAL,
        c"ECHOLOOP_EINVAL",
        c"an argument makes no sense",
    ),
    (
        ECHOLOOP_EWRONGTHREAD,
        c"ECHOLOOP_EWRONGTHREAD",
        c"the loop belongs to another thread; use an echoloop_remote",
    ),
    (
        ECHOLOOP_EREENTRY,
        c"ECHOLOOP_EREENTRY",
        c"the loop runs already, further up this thread's stack",
    ),
    (
        ECHOLOOP_EPANIC,
        c"ECHOLOOP_EPANIC",
        c"bug inside echoloop; this loop can only be freed",
    ),
    (
        ECHOLOOP_ENULL,
        c"ECHOLOOP_ENULL",
        c"a pointer that must not be NULL is NULL",
    ),
    (
        ECHOLOOP_EFORKED,
        c"ECHOLOOP_EFORKED",
        c"made in the parent of this process; call echoloop_after_fork() first",
    ),
];

/// The text of a status code, "Connection refused". Never NULL, valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_strerror(status: c_int) -> *const c_char {
    static TEXTS: Texts = [const { OnceLock::new() }; SLOTS];
    let text = look_up(
        status,
        &TEXTS,
        |own| own.2,
        |errno| errno_text(errno).to_owned(),
        |resolver| resolver.text().to_owned(),
        c"unknown status",
    );
    text.as_ptr()
}

/// The name of a status code, "ECONNREFUSED", "ECHOLOOP_EBADHANDLE", "EAI_NONAME". Never NULL, valid
/// for ever.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_errname(status: c_int) -> *const c_char {
    name(status).as_ptr()
}

/// The status of an error of the core.
pub(crate) fn of(kind: ErrorKind) -> c_int {
    match kind {
        ErrorKind::BadHandle => ECHOLOOP_EBADHANDLE,
        ErrorKind::QueueFull => ECHOLOOP_EQUEUEFULL,
        ErrorKind::Closing => ECHOLOOP_ECLOSING,
        ErrorKind::Closed => ECHOLOOP_ECLOSED,
        ErrorKind::TooMany => ECHOLOOP_ETOOMANY,
        ErrorKind::OutOfMemory => ECHOLOOP_ENOMEM,
        ErrorKind::Os(errno) => -errno,
        ErrorKind::Resolve(e) => of_resolver(e),
        ErrorKind::BadDescriptor(_) => -libc::EBADF,
        ErrorKind::Forked => ECHOLOOP_EFORKED,
        // InvalidInput, and what a later core may add: the text says it.
        _ => ECHOLOOP_EINVAL,
    }
}

/// The status of a failure of the resolver.
pub(crate) fn of_resolver(e: ResolveError) -> c_int {
    match e.errno() {
        errno if e.code() == libc::EAI_SYSTEM && errno != 0 => -errno,
        _ => ECHOLOOP_RESOLVER_BASE - e.code().abs(),
    }
}

/// The failure of the resolver that a status stands for.
pub(crate) fn resolver_error(status: c_int) -> Option<ResolveError> {
    let size = ECHOLOOP_RESOLVER_BASE.checked_sub(status)?;
    let code = size * libc::EAI_NONAME.signum(); // Negative on Linux, positive on the BSDs.
    (1..1000)
        .contains(&size)
        .then(|| ResolveError::new(code, 0))
}

pub(crate) fn name(status: c_int) -> &'static CStr {
    static NAMES: Texts = [const { OnceLock::new() }; SLOTS];
    look_up(
        status,
        &NAMES,
        |own| own.1,
        errno_name,
        |resolver| resolver.name().to_owned(),
        c"UNKNOWN",
    )
}

/// The text of one of echoloop's own codes.
pub(crate) fn own_text(status: c_int) -> &'static str {
    let own = OWN.iter().find(|own| own.0 == status);
    own.and_then(|own| own.2.to_str().ok())
        .unwrap_or("unknown status")
}

/// The text of an error number of the system.
pub(crate) fn system_text(errno: i32) -> &'static str {
    errno_text(errno)
}

/// Error numbers of the system for which texts are kept; Linux and the BSDs use fewer than 140.
const SYSTEM_CODES: usize = 256;
/// And of the resolver; the largest on Linux is 105.
const RESOLVER_CODES: usize = 128;
const SLOTS: usize = SYSTEM_CODES + RESOLVER_CODES;
/// In memory of their own, so that an error has its text when there is no other memory.
type Texts = [OnceLock<FixedText<96>>; SLOTS];

fn look_up(
    status: c_int,
    kept: &'static Texts,
    own: fn(&(c_int, &'static CStr, &'static CStr)) -> &'static CStr,
    system: fn(i32) -> String,
    resolver: fn(ResolveError) -> String,
    unknown: &'static CStr,
) -> &'static CStr {
    if let Some(found) = OWN.iter().find(|own| own.0 == status) {
        return own(found);
    }
    if let Some(e) = resolver_error(status) {
        let slot = SYSTEM_CODES + e.code().unsigned_abs() as usize;
        let kept = kept
            .get(slot)
            .map(|kept| kept.get_or_init(|| fixed(&resolver(e))));
        return kept.map_or(unknown, FixedText::c_str);
    }
    let errno = status.wrapping_neg();
    match usize::try_from(errno) {
        Ok(slot) if slot < SYSTEM_CODES => kept[slot].get_or_init(|| fixed(&system(errno))).c_str(),
        _ => unknown,
    }
}

fn fixed(text: &str) -> FixedText<96> {
    FixedText::of(format_args!("{text}"))
}
