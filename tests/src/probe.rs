//! What /proc tells about a server from outside: memory, descriptors, and the bytes that wait in the kernel.
//!
//! Only numbers are read here; what they must be is said in the scenarios. Linux only, as the suite is.

use std::fs;
use std::net::SocketAddr;

/// Bytes of anonymous memory a process holds now (`RssAnon`): heap and stacks, without mapped code.
#[track_caller]
pub fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is alive");
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB"));
    1024 * kib
        .and_then(|n| n.parse::<u64>().ok())
        .expect("RssAnon in kB")
}

/// Open descriptors of a process.
#[track_caller]
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the process is alive")
        .count()
}

/// What waits in the kernel for one end of a TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Written by this end and not yet acknowledged by the other.
    pub unacknowledged: u64,
    /// Arrived at this end and not yet read by its program.
    pub unread: u64,
}

/// The kernel's queues of the end with address `local`, connected to `remote`; `None` when there is no such end.
pub fn queues(local: SocketAddr, remote: SocketAddr) -> Option<Queues> {
    let (local, remote) = (in_hex(local), in_hex(remote));
    let table = fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp can be read");
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        if fields.next()? != local || fields.next()? != remote {
            return None;
        }
        let (tx, rx) = fields.nth(1)?.split_once(':')?;
        Some(Queues {
            unacknowledged: u64::from_str_radix(tx, 16).ok()?,
            unread: u64::from_str_radix(rx, 16).ok()?,
        })
    })
}

/// An IPv4 address as /proc/net/tcp prints it: the address in the machine's byte order, the port in reading order.
fn in_hex(addr: SocketAddr) -> String {
    let SocketAddr::V4(v4) = addr else {
        panic!("{addr} is not IPv4; the suite talks over 127.0.0.0/8");
    };
    let ip = u32::from_ne_bytes(v4.ip().octets());
    format!("{ip:08X}:{:04X}", v4.port())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::{Queues, queues};
    use crate::patience::{PATIENCE, until};

    #[test]
    fn bytes_that_nobody_reads_are_seen_in_the_kernel() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(addr).unwrap();
        client.write_all(&[0; 1000]).unwrap();
        let from = client.local_addr().unwrap();
        let arrived = Queues {
            unacknowledged: 0,
            unread: 1000,
        };
        until("1000 bytes wait", PATIENCE, || {
            (queues(addr, from) == Some(arrived)).then_some(())
        });
    }
}
