//! From what was written on the command line to the one address that is driven.
//!
//! A name may have several addresses, and the server listens on one of them, as with `localhost`.
//! Then each is asked in turn, by one connection or one datagram that is not part of the measurement.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::time::Duration;

use echoloop_load::Target as Driven;
use echoloop_server::{Addr, Target};

use crate::exit::Failure;

/// How long each address has to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// The address to drive.
pub(super) fn find(target: &Target, udp: bool) -> Result<Driven, Failure> {
    let addr = match target {
        Target::Addr(Addr::Ip(addr)) => *addr,
        Target::Addr(Addr::Unix(_)) if udp => {
            let why = "--udp is for IP addresses; leave it out to drive a Unix socket";
            return Err(Failure::not_understood(why));
        }
        Target::Addr(Addr::Unix(unix)) => {
            let addr = match (unix.as_path(), unix.as_abstract_name()) {
                (Some(path), _) => UnixAddr::from_pathname(path),
                (None, name) => UnixAddr::from_abstract_name(name.unwrap_or_default()),
            };
            let bad = |e| Failure::not_understood(format!("{target}: {e}"));
            return Ok(addr.map_err(bad)?.into());
        }
        Target::Name { host, port } => by_name(host, *port, udp)?,
    };
    Ok(if udp {
        Driven::Udp(addr)
    } else {
        Driven::Tcp(addr)
    })
}

fn by_name(host: &str, port: u16, udp: bool) -> Result<SocketAddr, Failure> {
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|e| Failure::failed(format!("{host}: {e}; check the name, or give an address")))?;
    let mut addrs: Vec<SocketAddr> = Vec::new();
    for addr in found {
        if !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    if let [addr] = addrs[..] {
        return Ok(addr);
    }
    let mut refusals = Vec::new();
    for addr in addrs {
        let answer = if udp { ask_udp(addr) } else { ask_tcp(addr) };
        match answer {
            Ok(()) => return Ok(addr),
            Err(e) => refusals.push(format!("{addr}: {e}")),
        }
    }
    let refusals = refusals.join("; ");
    Err(Failure::failed(format!(
        "{host}:{port} does not answer on any address ({refusals}); is a server running there?"
    )))
}

fn ask_tcp(addr: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&addr, ANSWER).map(drop)
}

fn ask_udp(addr: SocketAddr) -> io::Result<()> {
    let any: SocketAddr = if addr.is_ipv4() {
        ([0; 4], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(addr)?;
    socket.set_read_timeout(Some(ANSWER))?;
    socket.send(b"?")?;
    socket.recv(&mut [0; 1]).map(drop)
}
