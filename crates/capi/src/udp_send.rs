//! Sending datagrams.
//!
//! The rule: all that was sent in one callback or batch leaves together at its end, in a few system
//! calls. A datagram that is lent (`datagram`) may be sent from where it lies: the core copies it
//! to its queue and never writes what was received.

use std::ffi::{c_int, c_void};

use crate::detail::{Refused, returned};
use crate::ip::socket_addr;
use crate::pointer::bytes;
use crate::udp::lend_udp;
use crate::{ECHOLOOP_ENULL, echoloop_ip, echoloop_udp};

/// Sends a datagram to the peer of a connected socket; len may be 0. Never blocks: it leaves at the
/// end of the callback or batch, or sooner, and what the kernel does not take then is queued, in
/// order. data is read before the call returns.
///
/// Errors: ECHOLOOP_EQUEUEFULL when send_queue is full: the datagram is dropped and counted, and
/// UDP_DRAINED tells when the queue is empty. -EDESTADDRREQ when the socket is not connected,
/// -EMSGSIZE for more than 65,507 bytes over IPv4 or 65,527 over IPv6, ECHOLOOP_EINVAL for an
/// address that the socket can't send to, ECHOLOOP_ENOMEM. What the kernel finds later is told as
/// UDP_ERROR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_udp_send(
    udp: *mut echoloop_udp,
    data: *const c_void,
    len: usize,
) -> c_int {
    let operation = "send";
    // SAFETY: header, "Pointers": data is readable for len bytes during the call. It may be a
    // datagram that is lent: that is written by no call but the next for events.
    returned(unsafe { bytes(operation, data, len) }.and_then(|data| {
        lend_udp(operation, udp, |view| {
            view.send(data)?;
            Ok(0)
        })
    }))
}

/// Sends a datagram to an address, that of a datagram which came, say: `&d->from`. A connected
/// socket may send to others too; it does not hear from them. Else as echoloop_udp_send().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_udp_send_to(
    udp: *mut echoloop_udp,
    to: *const echoloop_ip,
    data: *const c_void,
    len: usize,
) -> c_int {
    let operation = "send";
    // SAFETY: as in `echoloop_udp_send`.
    returned(unsafe { bytes(operation, data, len) }.and_then(|data| {
        // SAFETY: header, "Pointers": NULL, or to is readable.
        let to = unsafe { socket_addr(operation, to) }?;
        lend_udp(operation, udp, |view| {
            view.send_to(to, data)?;
            Ok(0)
        })
    }))
}

/// Sends a datagram to an address from one of this machine's, so that an answer comes from where it
/// was asked: echoloop_udp_send_from(udp, &d->to, &d->from, ...). Of from the port and scope do not
/// count; where its version is 0, and for a multicast or broadcast address, the system chooses.
/// Datagrams with an address of their own cost a system call each, save runs of one size to one
/// address. Else as echoloop_udp_send().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_udp_send_from(
    udp: *mut echoloop_udp,
    from: *const echoloop_ip,
    to: *const echoloop_ip,
    data: *const c_void,
    len: usize,
) -> c_int {
    let operation = "send";
    // SAFETY: as in `echoloop_udp_send`.
    returned(unsafe { bytes(operation, data, len) }.and_then(|data| {
        if from.is_null() {
            return Err(Refused::new(operation, ECHOLOOP_ENULL));
        }
        // SAFETY: header, "Pointers": from is readable; it is not NULL.
        let from = match unsafe { from.read_unaligned() } {
            echoloop_ip { version: 0, .. } => None,
            // SAFETY: of this function's own.
            given => Some(unsafe { socket_addr(operation, &given) }?.ip()),
        };
        // SAFETY: header, "Pointers": NULL, or to is readable.
        let to = unsafe { socket_addr(operation, to) }?;
        lend_udp(operation, udp, |view| {
            view.send_from(from, to, data)?;
            Ok(0)
        })
    }))
}

/// Sends data as datagrams of segment bytes each, the last one shorter, to an address. The kernel
/// gets up to 64 of them in one piece where it can cut that itself (UDP_SEGMENT, udp(7)). Errors:
/// those of echoloop_udp_send(), for all of them: none is queued or all are, save that after
/// ECHOLOOP_ENOMEM the first ones may be; ECHOLOOP_EINVAL for a segment of 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_udp_send_segments(
    udp: *mut echoloop_udp,
    to: *const echoloop_ip,
    data: *const c_void,
    len: usize,
    segment: usize,
) -> c_int {
    let operation = "send";
    // SAFETY: as in `echoloop_udp_send`.
    returned(unsafe { bytes(operation, data, len) }.and_then(|data| {
        // SAFETY: header, "Pointers": NULL, or to is readable.
        let to = unsafe { socket_addr(operation, to) }?;
        lend_udp(operation, udp, |view| {
            view.send_segments(to, data, segment)?;
            Ok(0)
        })
    }))
}
