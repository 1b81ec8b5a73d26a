//! What a failed connect lacked: a thing this machine may have again, or one it will not.
//!
//! The rule: only what may free up by itself makes a connect wait. `EADDRNOTAVAIL` says two things,
//! connect(2): that all ephemeral ports to this destination are taken, which passes, and that no
//! address of this machine can reach it (`::1` where IPv6 is off), which does not. A datagram
//! socket that connects there asks for a source address only, sends nothing, and so tells which.

use std::net::SocketAddr;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Addr, ConnectOptions};

pub(super) fn may_free_up(to: &Addr, options: &ConnectOptions, e: Errno) -> bool {
    let port_is_free = options.local.is_none_or(|local| local.port() == 0);
    match e {
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN => true,
        Errno::NOSPC => true, // epoll_ctl(2): the user's limit of watches.
        // bind(2) has the latter for want of an ephemeral port.
        Errno::ADDRNOTAVAIL | Errno::ADDRINUSE if port_is_free => {
            to.ip().is_some_and(|to| has_source(to, options.local))
        }
        _ => false,
    }
}

/// This machine has an address from which `to` can be reached. Where that can't be asked, it has.
fn has_source(to: SocketAddr, local: Option<SocketAddr>) -> bool {
    let probe = || {
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
        if let Some(local) = local {
            socket.bind(&local.into())?;
        }
        socket.connect(&to.into())
    };
    let unreachable = Some(Errno::ADDRNOTAVAIL.raw_os_error());
    probe()
        .err()
        .is_none_or(|e| e.raw_os_error() != unreachable)
}
