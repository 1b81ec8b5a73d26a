//! A client that sends datagrams while a system call of the server fails.
//!
//! The rule: a datagram is lost only when one that was sent later has come back. Each is a pattern of its own, so a
//! wrong one shows, and so does one that comes twice.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::workload::{End, PATIENCE, Told};
use crate::Pattern;

/// Datagrams of one client.
const DATAGRAMS: u64 = 12;
/// One that is not back by then may be lost; the next one tells.
const LATE: Duration = Duration::from_millis(400);

/// Datagrams, all at once, and all are to come back, in any order.
pub(super) fn all_at_once(to: SocketAddr) -> Told {
    let end = exchange(to).unwrap_or_else(|e| End::Hung(format!("datagrams: {e}")));
    Told {
        name: "datagrams",
        kind: "udp",
        port: 0,
        end,
    }
}

fn exchange(to: SocketAddr) -> io::Result<End> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(LATE))?;
    let datagram = |n| Pattern::new(300 + n).take(50 * n as usize + 8);
    let mut missing: Vec<Vec<u8>> = (0..DATAGRAMS).map(datagram).collect();
    for one in &missing {
        socket.send(one)?;
    }
    let (mut room, began, mut probes) = (vec![0; 2000], Instant::now(), 0);
    while !missing.is_empty() && began.elapsed() < PATIENCE {
        match socket.recv(&mut room) {
            Ok(n) if room[..n] == *b"probe" => {
                let lost = format!("{} datagrams lost", missing.len());
                return Ok(End::Early(lost));
            }
            Ok(n) => match missing.iter().position(|one| *one == room[..n]) {
                Some(place) => drop(missing.swap_remove(place)),
                None => {
                    return Ok(End::Wrong(format!(
                        "a datagram of {n} bytes that nobody sent"
                    )));
                }
            },
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                probes += 1;
                socket.send(b"probe")?;
            }
            Err(e) => return Err(e),
        }
    }
    match missing.len() {
        0 => Ok(End::Whole),
        n => Ok(End::Hung(format!(
            "{n} datagrams are not back, nor {probes} probes"
        ))),
    }
}
