//! A resolver of the program's own.
//!
//! The rule: it is called on threads of the loop, and all it can reach there is the answer that it
//! is given: a handle that is good on that thread, during that call, and a bad one anywhere else.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::net::IpAddr;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use echoloop_core::{ResolveError, Resolver};

use crate::detail::{Refused, returned};
use crate::handle::{handle, raw};
use crate::ip::socket_addr;
use crate::status::resolver_error;
use crate::{ECHOLOOP_EBADHANDLE, ECHOLOOP_ENOMEM, ECHOLOOP_ETOOMANY, echoloop_ip};

/// The answer of a resolver of the program's own, echoloop_resolve_fn: good on that thread until it
/// returns.
pub struct echoloop_answer {
    _opaque: (),
}

/// Resolves host: adds its addresses, in the order to try them, by echoloop_answer_add() and
/// returns 0; or returns why there are none: ECHOLOOP_EAI(EAI_NONAME) and the like, -errno, or what
/// echoloop_answer_add() returned. Any other number is EAI_FAIL, and 0 without an address
/// EAI_NODATA.
///
/// It is called for echoloop_resolve() and for names in echoloop_connect(), on threads that the
/// loop starts, up to four at a time, with all signals blocked. It may block; nothing of a loop may
/// be used in it but an echoloop_remote. It must return in the ordinary way, as callbacks do. A
/// call that is under way when its lookup times out, or its loop is freed, is not waited for: what
/// resolve_user names must live until it returns. host is readable until then.
pub type echoloop_resolve_fn = Option<
    unsafe extern "C-unwind" fn(
        resolve_user: *mut c_void,
        host: *const c_char,
        answer: *mut echoloop_answer,
    ) -> c_int,
>;

/// Addresses that one answer may have.
const MOST: usize = 1024;
/// What a handle of the core has its kind in; no kind has this number.
const ANSWER: u64 = 15;

struct Open {
    handle: u64,
    addrs: Vec<IpAddr>,
}

thread_local! {
    /// The answer that is being made on this thread.
    static OPEN: RefCell<Option<Open>> = const { RefCell::new(None) };
}

/// Adds an address to an answer; its port and scope do not count. Errors: ECHOLOOP_EBADHANDLE save
/// on the thread of the call and until it returns, ECHOLOOP_EINVAL for a version that is not 4 or
/// 6, ECHOLOOP_ETOOMANY above 1,024 addresses, ECHOLOOP_ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_answer_add(
    answer: *mut echoloop_answer,
    ip: *const echoloop_ip,
) -> c_int {
    let operation = "add to answer";
    // SAFETY: header, "Pointers": NULL, or ip is readable.
    returned(unsafe { socket_addr(operation, ip) }.and_then(|addr| {
        let refused = |status| Err(Refused::new(operation, status));
        let added = OPEN.try_with(|open| match &mut *open.borrow_mut() {
            Some(open) if open.handle == raw(answer) => {
                if open.addrs.len() == MOST {
                    return refused(ECHOLOOP_ETOOMANY);
                }
                if open.addrs.try_reserve(1).is_err() {
                    return refused(ECHOLOOP_ENOMEM);
                }
                open.addrs.push(addr.ip());
                Ok(0)
            }
            _ => refused(ECHOLOOP_EBADHANDLE),
        });
        added.unwrap_or_else(|_| refused(ECHOLOOP_EBADHANDLE)) // The thread is ending.
    }))
}

/// The resolver of C's options.
pub(crate) fn resolver(resolve: echoloop_resolve_fn, user: *mut c_void) -> Option<Resolver> {
    let resolve = resolve?;
    let user = user.expose_provenance();
    Some(Resolver::new(move |host| {
        let Ok(host) = CString::new(host) else {
            return Err(ResolveError::new(libc::EAI_NONAME, 0));
        };
        let this = next_handle();
        let before = OPEN.replace(Some(Open {
            handle: this,
            addrs: Vec::new(),
        }));
        let user = ptr::with_exposed_provenance_mut(user);
        // SAFETY: header, "echoloop_resolve_fn": the function is of this type, and returns or ends
        // the process; user is only handed back.
        let status = unsafe { resolve(user, host.as_ptr(), handle(this)) };
        let open = OPEN.replace(before);
        match status {
            0 => Ok(open.map_or_else(Vec::new, |open| open.addrs)),
            status => Err(failure(status)),
        }
    }))
}

/// Why there are no addresses, of what C returned.
fn failure(status: c_int) -> ResolveError {
    if let Some(e) = resolver_error(status) {
        return e;
    }
    match status {
        -4095..0 => ResolveError::new(libc::EAI_SYSTEM, -status),
        ECHOLOOP_ENOMEM => ResolveError::new(libc::EAI_MEMORY, 0),
        _ => ResolveError::new(libc::EAI_FAIL, 0),
    }
}

/// A handle that nothing else has, nor ever had.
fn next_handle() -> u64 {
    static MADE: AtomicU64 = AtomicU64::new(0);
    1 | ANSWER << 1 | (MADE.fetch_add(1, Relaxed) + 1) << 5
}
