//! Datagrams that arrived, as C sees them.
//!
//! The rule: what arrived is lent, not copied: the bytes stay where the core has read them to until
//! the next event, and so does the array that tells of them. Whose it is stands beside it, and the
//! core says whether its event is still being handled; nobody else is handed it.

use std::ffi::c_int;
use std::net::{IpAddr, Ipv6Addr};
use std::ptr;

use echoloop_core::{Datagram, EventLoop, Kind, UdpId};

use crate::detail::{Refused, returned};
use crate::guard::lend;
use crate::handle::raw;
use crate::pointer::{check_out, write};
use crate::registry::{self, LoopCell};
use crate::{ECHOLOOP_EBADHANDLE, echoloop_ip, echoloop_udp};

/// A datagram that arrived.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_datagram {
    /// What it says, readable as long as the array of datagrams is.
    pub data: *const u8,
    /// Bytes of data, perhaps 0.
    pub len: usize,
    /// Who sent it: where to send the answer.
    pub from: echoloop_ip,
    /// The address of this machine, or the group, that it was sent to, without a port. Told only by
    /// a socket that is bound to all addresses, where the system can; else its version is 0.
    pub to: echoloop_ip,
    /// Not 0: it was longer than max_datagram; this is its beginning.
    pub truncated: c_int,
    /// Always 0.
    pub reserved: c_int,
}

/// The array that is lent to C.
#[derive(Default)]
pub(crate) struct Lent {
    /// The handle of the socket they came to.
    owner: u64,
    datagrams: Vec<echoloop_datagram>,
}

/// For batches: writes where the datagrams of the DATAGRAMS event that is being handled are to *out
/// and returns how many; they are readable until the next call for events on this loop. 0, and NULL
/// in *out, when no such event of this socket is being handled. In on_datagrams it has what the
/// callback was given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_udp_received(
    udp: *mut echoloop_udp,
    out: *mut *const echoloop_datagram,
) -> c_int {
    let operation = "received datagrams";
    let id = raw(udp);
    returned(check_out(operation, out).and_then(|()| {
        let cell = registry::find(operation, id, Kind::Udp)?;
        let (first, n) = lend(operation, id, Kind::Udp, |el| {
            let view = el.udp(UdpId::from_raw(id));
            let view = view.map_err(|_| Refused::new(operation, ECHOLOOP_EBADHANDLE))?;
            let lent = cell.datagrams.borrow();
            // The core knows whether its event is over; then these pointers lead nowhere.
            if lent.owner != id || view.datagrams().next().is_none() {
                return Ok((ptr::null(), 0));
            }
            Ok((lent.first(), lent.datagrams.len()))
        })?;
        // SAFETY: header, "Pointers": out is writable for a pointer; it is not NULL.
        unsafe { write(out, first) };
        Ok(c_int::try_from(n).unwrap_or(c_int::MAX))
    }))
}

impl Lent {
    pub(crate) fn first(&self) -> *const echoloop_datagram {
        self.datagrams.as_ptr()
    }
}

/// Fills the cell's array with the datagrams of the event that is being handled; how many.
pub(crate) fn lend_datagrams(cell: &LoopCell, el: &mut EventLoop, udp: UdpId) -> usize {
    let mut lent = cell.datagrams.borrow_mut();
    lent.datagrams.clear();
    lent.owner = udp.to_raw();
    if let Ok(view) = el.udp(udp) {
        for datagram in view.datagrams() {
            let lent = &mut lent.datagrams;
            if lent.len() == lent.capacity() && lent.try_reserve(64).is_err() {
                break; // As if the system had dropped them.
            }
            lent.push(echoloop_datagram {
                data: datagram.bytes.as_ptr(),
                len: datagram.bytes.len(),
                from: echoloop_ip::of(datagram.from),
                to: destination(&datagram),
                truncated: c_int::from(datagram.truncated),
                reserved: 0,
            });
        }
    }
    lent.datagrams.len()
}

/// Where a datagram was sent to. The core tells no interface with it; that of a link-local sender
/// is the one it came in by.
fn destination(datagram: &Datagram<'_>) -> echoloop_ip {
    let Some(to) = datagram.to else {
        return echoloop_ip::default();
    };
    let mut ip = echoloop_ip::of_host(to);
    if let IpAddr::V6(to) = to
        && (to.is_unicast_link_local() || is_link_local_group(to))
    {
        ip.scope = echoloop_ip::of(datagram.from).scope;
    }
    ip
}

/// RFC 4291, 2.7: multicast that stays on its link, or on its interface.
fn is_link_local_group(addr: Ipv6Addr) -> bool {
    let [first, second, ..] = addr.octets();
    first == 0xff && matches!(second & 0xf, 1 | 2)
}
