//! Multicast: the groups that a UDP socket is a member of.
//!
//! The rule: groups and interfaces are text, as in configurations; nothing here is done per
//! datagram.

use std::ffi::{c_char, c_int};
use std::net::{IpAddr, SocketAddr};

use echoloop_core::{Error, Interface, Udp};

use crate::detail::{Refused, returned};
use crate::echoloop_udp;
use crate::ip::ip_or_host;
use crate::udp::lend_udp;
use crate::udp_options::interface;

/// Joins a multicast group, "239.1.2.3" or "ff02::1": what is sent to it and to the socket's port
/// arrives. Bind to the unspecified address or to the group's. iface is the interface to hear it
/// on: its name, its number, or for IPv4 one of its addresses ("eth0", "2", "192.0.2.1"); NULL: the
/// scope of the group ("ff02::1%eth0"), or as routed. Errors: -ENODEV without such an interface or
/// a route, -EADDRINUSE when it is a member already, -EINVAL for an address that is no group of the
/// socket's family.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_udp_join(
    udp: *mut echoloop_udp,
    group: *const c_char,
    iface: *const c_char,
) -> c_int {
    // SAFETY: header, "Pointers": NULL, or strings with an end mark.
    let found = unsafe { membership("join", group, iface) };
    change("join", udp, found, |view, (group, on)| {
        view.join_multicast(group, on)
    })
}

/// Leaves what echoloop_udp_join() joined; iface is the same. Closing the socket does so too.
/// Errors: -EADDRNOTAVAIL when it is no member.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_udp_leave(
    udp: *mut echoloop_udp,
    group: *const c_char,
    iface: *const c_char,
) -> c_int {
    // SAFETY: header, "Pointers": NULL, or strings with an end mark.
    let found = unsafe { membership("leave", group, iface) };
    change("leave", udp, found, |view, (group, on)| {
        view.leave_multicast(group, on)
    })
}

/// Joins a group for what one sender, source, sends to it, RFC 4607. IPv4 only; iface is an address
/// of the interface, or NULL. Errors: those of echoloop_udp_join().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_udp_join_source(
    udp: *mut echoloop_udp,
    group: *const c_char,
    source: *const c_char,
    iface: *const c_char,
) -> c_int {
    // SAFETY: header, "Pointers": NULL, or strings with an end mark.
    let found = unsafe { with_source("join", group, source, iface) };
    change("join", udp, found, |view, (group, source, on)| {
        view.join_multicast_source(group, source, on)
    })
}

/// Leaves what echoloop_udp_join_source() joined.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_udp_leave_source(
    udp: *mut echoloop_udp,
    group: *const c_char,
    source: *const c_char,
    iface: *const c_char,
) -> c_int {
    // SAFETY: header, "Pointers": NULL, or strings with an end mark.
    let found = unsafe { with_source("leave", group, source, iface) };
    change("leave", udp, found, |view, (group, source, on)| {
        view.leave_multicast_source(group, source, on)
    })
}

fn change<M>(
    operation: &'static str,
    udp: *mut echoloop_udp,
    found: Result<M, Refused>,
    act: impl FnOnce(&mut Udp<'_>, M) -> Result<(), Error>,
) -> c_int {
    returned(found.and_then(|membership| {
        lend_udp(operation, udp, |view| {
            act(view, membership)?;
            Ok(0)
        })
    }))
}

/// # Safety
///
/// All are NULL or strings with an end mark.
unsafe fn membership(
    operation: &'static str,
    group: *const c_char,
    iface: *const c_char,
) -> Result<(IpAddr, Interface), Refused> {
    // SAFETY: the caller's.
    let (group, on) = unsafe { (ip_or_host(operation, group)?, interface(operation, iface)?) };
    let on = match (on, group) {
        (Interface::Default, SocketAddr::V6(v6)) if v6.scope_id() != 0 => {
            Interface::Index(v6.scope_id())
        }
        _ => on,
    };
    Ok((group.ip(), on))
}

/// # Safety
///
/// All are NULL or strings with an end mark.
unsafe fn with_source(
    operation: &'static str,
    group: *const c_char,
    source: *const c_char,
    iface: *const c_char,
) -> Result<(IpAddr, IpAddr, Interface), Refused> {
    // SAFETY: the caller's.
    let source = unsafe { ip_or_host(operation, source) }?;
    // SAFETY: the caller's.
    let (group, on) = unsafe { membership(operation, group, iface) }?;
    Ok((group, source.ip(), on))
}
