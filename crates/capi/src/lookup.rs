//! Names to addresses, off the loop's thread.
//!
//! The rule: every lookup has one event, unless it is cancelled, and its addresses are there until
//! the next call for events. A resolver of the program's own is in `resolver`.

use std::ffi::{c_char, c_int, c_void};
use std::time::Duration;

use echoloop_core::{Kind, LookupId};

use crate::detail::{Refused, returned};
use crate::guard::{lend, lend_server};
use crate::handle::{handle, raw};
use crate::options::time;
use crate::own::Own;
use crate::pointer::{check_out, string, write};
use crate::{ECHOLOOP_EINVAL, ECHOLOOP_ENULL, echoloop, echoloop_ip, echoloop_lookup, registry};

/// How long a lookup may take unless it is said.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Resolves a name on a thread of the loop, by getaddrinfo(3), so /etc/hosts counts, or by the
/// resolver of echoloop_options. The answer is one event, on_resolved or RESOLVED; timeout_us (0:
/// 30 s; negative: for ever) without one is the answer -ETIMEDOUT. An IP address is its own answer,
/// by an event too; one with a scope is for echoloop_ip_parse(). user comes with the event. To
/// connect, give the name to echoloop_connect(): it tries all addresses.
///
/// Errors: ECHOLOOP_EINVAL for what can't be a name; ECHOLOOP_ETOOMANY while 1,024 lookups are
/// under way; -EAGAIN when no thread can be started; ECHOLOOP_ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_resolve(
    r#loop: *mut echoloop,
    host: *const c_char,
    timeout_us: i64,
    user: *mut c_void,
    out: *mut *mut echoloop_lookup,
) -> c_int {
    let operation = "resolve";
    returned(check_out(operation, out).and_then(|()| {
        // SAFETY: header, "Pointers": NULL, or a string with an end mark.
        let host = unsafe { string(operation, host) }?;
        let host = host.ok_or_else(|| Refused::new(operation, ECHOLOOP_ENULL))?;
        let timeout = time(timeout_us, Some(TIMEOUT));
        let cell = registry::exact(operation, raw(r#loop), Kind::Loop)?;
        let lookup = lend_server(operation, raw(r#loop), Kind::Loop, |server| {
            let el = server.event_loop();
            let lookup = el.resolve(&host, timeout)?;
            let user = Own::Lookup(user.expose_provenance());
            let kept = cell
                .own
                .borrow_mut()
                .set(operation, el, lookup.to_raw(), user);
            if let Err(refused) = kept {
                el.cancel_lookup(lookup)?;
                return Err(refused);
            }
            Ok(lookup)
        })?;
        // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
        unsafe { write(out, handle(lookup.to_raw())) };
        Ok(0)
    }))
}

/// How many addresses a lookup found: in on_resolved, or after RESOLVED until the next call for
/// events. Why there are none: ECHOLOOP_RESOLVER_BASE - x (EAI_NONAME: no such name), -ETIMEDOUT;
/// before the event ECHOLOOP_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_lookup_count(lookup: *mut echoloop_lookup) -> c_int {
    let id = raw(lookup);
    returned(lend("count of a lookup", id, Kind::Lookup, |el| {
        let n = el.resolved(LookupId::from_raw(id))?.len();
        Ok(c_int::try_from(n).unwrap_or(c_int::MAX))
    }))
}

/// Writes the address number index (from 0, in the order to try them, RFC 6724) that a lookup found
/// to *out, with the port 0: for echoloop_udp_send_to() set its port. No scopes come from lookups.
/// Errors: ECHOLOOP_EINVAL for an index that is not below the count, and those of
/// echoloop_lookup_count().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_lookup_addr(
    lookup: *mut echoloop_lookup,
    index: usize,
    out: *mut echoloop_ip,
) -> c_int {
    let operation = "address of a lookup";
    let id = raw(lookup);
    returned(check_out(operation, out).and_then(|()| {
        let addr = lend(operation, id, Kind::Lookup, |el| {
            let addrs = el.resolved(LookupId::from_raw(id))?;
            addrs.get(index).copied().ok_or_else(|| {
                let why = format_args!("there are only {} addresses", addrs.len());
                Refused::because(operation, ECHOLOOP_EINVAL, why)
            })
        })?;
        // SAFETY: header, "Pointers": out is writable for an address; it is not NULL.
        unsafe { write(out, echoloop_ip::of_host(addr)) };
        Ok(0)
    }))
}

/// Ends a lookup without an event.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_lookup_cancel(lookup: *mut echoloop_lookup) -> c_int {
    let operation = "cancel lookup";
    let id = raw(lookup);
    returned(
        registry::find(operation, id, Kind::Lookup).and_then(|cell| {
            lend(operation, id, Kind::Lookup, |el| {
                el.cancel_lookup(LookupId::from_raw(id))?;
                cell.own.borrow_mut().remove(id);
                Ok(0)
            })
        }),
    )
}
