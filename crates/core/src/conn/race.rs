//! The race of a connect over several addresses: Happy Eyeballs, RFC 8305.
//!
//! The rule: one address is tried after the other, each beside those that are still under way; the
//! next one starts at once when one fails, else after a delay. The first connection that is made
//! wins: its socket becomes the connection's own and the others are closed. Nothing of a race is
//! left when the connection is made or ends, save its story, which the handler of that event may
//! still read. Where the time comes from, and who waits for descriptors, is in `connect`.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use rustix::io::Errno;

use crate::conn::connect::for_everyone;
use crate::conn::{Flags, after};
use crate::event_loop::EventLoop;
use crate::handle::slot_of;
use crate::sys::{Readiness, Ready, System};
use crate::time::deadlines::{DeadlineId, Owner};
use crate::{Addr, CloseReason, ConnectOptions, Target};

/// Addresses of one name that are tried.
const MOST: usize = 64;
/// Bounds of the delay between two tries, RFC 8305, 8.
const DELAYS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));

/// One address that a connect has tried, of [`Connection::attempts`](crate::Connection::attempts).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempted {
    /// The address.
    pub addr: Addr,
    /// The error number with which it failed. `None` for the one that won, and for those that had
    /// no answer when the race was over.
    pub errno: Option<i32>,
}

pub(crate) struct Race {
    pub(crate) target: Target,
    pub(crate) options: ConnectOptions,
    /// The lookup of the name is under way.
    pub(crate) resolving: bool,
    /// Addresses that were not tried yet, in order.
    pub(crate) waiting: VecDeque<Addr>,
    /// Slots of the tries that are under way.
    pub(crate) running: Vec<u32>,
    pub(crate) attempted: Vec<Attempted>,
    /// When the next address is to be tried.
    pub(crate) next: DeadlineId,
    /// What the next address waits for.
    pub(crate) lacking: Option<Errno>,
    /// What the first one waited for, and that this is still to be told.
    pub(crate) told_lack: Option<Errno>,
    pub(crate) tell_paused: bool,
}

/// One try: a socket that is connecting.
pub(crate) struct Attempt<K> {
    pub(crate) socket: K,
    /// The slot of the connection.
    conn: u32,
    /// Its place in the story.
    place: usize,
}

impl Race {
    pub(crate) fn new(target: Target, options: &ConnectOptions) -> Self {
        Self {
            target,
            // What the socket needs of them; the connection has its own.
            options: options.clone(),
            resolving: false,
            waiting: VecDeque::new(),
            running: Vec::new(),
            attempted: Vec::new(),
            next: DeadlineId::NONE,
            lacking: None,
            told_lack: None,
            tell_paused: false,
        }
    }
}

impl<S: System> EventLoop<S> {
    pub(crate) fn race_mut(&mut self, slot: u32) -> Option<&mut Race> {
        self.conns.get_mut(slot)?.race.as_deref_mut()
    }

    /// Tries the next address, and those after it as long as they fail at once.
    pub(crate) fn try_next_address(&mut self, slot: u32) {
        let mut lacking = 0;
        loop {
            let connecting = |c: &&mut crate::conn::Conn<S::Socket>| {
                c.flags.any(Flags::CONNECTING) && c.socket.is_none()
            };
            let conn = self.conns.get_mut(slot).filter(connecting);
            let Some(race) = conn.and_then(|c| c.race.as_deref_mut()) else {
                return;
            };
            race.lacking = None;
            let Some(addr) = race.waiting.pop_front() else {
                return self.lose_if_all_failed(slot);
            };
            let failed = match self.sys.connect(&addr, &race.options) {
                Ok(socket) => self.add_attempt(slot, socket, &addr).err(),
                Err(e) => Some(e),
            };
            let Some(e) = failed else {
                return self.arm_next_address(slot);
            };
            let _ = self.sys.refused_option(); // Told as the error of each address.
            let Some(race) = self.conns.get_mut(slot).and_then(|c| c.race.as_mut()) else {
                return;
            };
            if self.sys.may_free_up(&addr, &race.options, e) {
                if for_everyone(e) {
                    race.waiting.push_front(addr);
                    return self.pause_connect(slot, e);
                }
                // Only this destination lacks it; the others come first.
                race.waiting.push_back(addr);
                lacking += 1;
                if lacking < race.waiting.len() {
                    continue;
                }
                return self.pause_connect(slot, e);
            }
            race.attempted.push(Attempted {
                addr,
                errno: Some(e.raw_os_error()),
            });
        }
    }

    fn add_attempt(&mut self, slot: u32, socket: S::Socket, addr: &Addr) -> Result<(), Errno> {
        let place = self.race_mut(slot).map_or(0, |race| race.attempted.len());
        let attempt = Attempt {
            socket,
            conn: slot,
            place,
        };
        let key = self.attempts.insert(attempt).map_err(|_| Errno::NOMEM)?;
        let attempt = slot_of(key);
        if let Some(Attempt { socket, .. }) = self.attempts.get(attempt)
            && let Err(e) = self.sys.register(socket, key)
        {
            self.close_attempt(attempt);
            return Err(e);
        }
        if let Some(race) = self.race_mut(slot) {
            race.running.push(attempt);
            race.attempted.push(Attempted {
                addr: addr.clone(),
                errno: None,
            });
        }
        Ok(())
    }

    /// Lets the next address be tried after the delay, if there is one.
    fn arm_next_address(&mut self, slot: u32) {
        let now = self.sys.now();
        let Some(race) = self.conns.get_mut(slot).and_then(|c| c.race.as_mut()) else {
            return;
        };
        if race.waiting.is_empty() {
            self.deadlines
                .remove(std::mem::replace(&mut race.next, DeadlineId::NONE));
            return;
        }
        if race.next == DeadlineId::NONE {
            let Some(next) = self.deadlines.add(Owner::Race(slot)) else {
                return; // It is tried when this one has failed.
            };
            race.next = next;
        }
        let delay = race.options.attempt_delay.clamp(DELAYS.0, DELAYS.1);
        self.deadlines.arm(race.next, after(now, delay));
    }

    /// The kernel has the answer of one try.
    pub(crate) fn attempt_ready(&mut self, report: Ready) {
        let answer = Readiness::WRITABLE.0 | (Readiness::ERROR.0 & !Readiness::READ_CLOSED.0);
        let found = self.attempts.find(report.token);
        self.counters.stale_events += u64::from(found.is_none());
        let Some(slot) = found.filter(|_| report.readiness.0 & answer != 0) else {
            return;
        };
        let Some(attempt) = self.attempts.get(slot) else {
            return;
        };
        let (conn, place) = (attempt.conn, attempt.place);
        match self.sys.take_error(&attempt.socket) {
            Some(e) => self.attempt_failed(slot, conn, place, e),
            None => self.attempt_won(slot, conn, place),
        }
    }

    fn attempt_failed(&mut self, slot: u32, conn: u32, place: usize, e: Errno) {
        self.close_attempt(slot);
        if let Some(race) = self.race_mut(conn) {
            race.running.retain(|running| *running != slot);
            if let Some(attempted) = race.attempted.get_mut(place) {
                attempted.errno = Some(e.raw_os_error());
            }
        }
        self.descriptor_freed();
        let waits_in_line = self.race_mut(conn).is_some_and(|r| r.lacking.is_some());
        if !waits_in_line {
            self.try_next_address(conn);
        }
    }

    fn attempt_won(&mut self, slot: u32, conn: u32, place: usize) {
        let key = self.conns.key(conn);
        if let Some(attempt) = self.attempts.get(slot)
            && let Err(e) = self.sys.reregister(&attempt.socket, key)
        {
            return self.attempt_failed(slot, conn, place, e);
        }
        let Some(attempt) = self.attempts.remove(slot) else {
            return;
        };
        if let Some(race) = self.race_mut(conn) {
            race.running.retain(|running| *running != slot);
        }
        self.end_race(conn);
        let Some(conn_mut) = self.conns.get_mut(conn) else {
            return self.sys.close(attempt.socket);
        };
        conn_mut.socket = Some(attempt.socket);
        conn_mut.flags.set(Flags::WRITABLE);
        if let Some(winner) = conn_mut.race.as_ref().and_then(|r| r.attempted.get(place)) {
            conn_mut.peer = winner.addr.clone();
        }
        self.requeue(conn);
    }

    /// No address is left: when no try is under way either, the connection has failed.
    fn lose_if_all_failed(&mut self, slot: u32) {
        let Some(race) = self.race_mut(slot) else {
            return;
        };
        if !race.running.is_empty() || race.resolving {
            return;
        }
        let errno = most_telling(race.attempted.iter().filter_map(|a| a.errno));
        self.terminate(slot, CloseReason::ConnectFailed(errno));
    }

    /// Ends all that a race has under way: its lookup, its tries, its times. Its story stays.
    pub(crate) fn end_race(&mut self, slot: u32) {
        let key = self.conns.key(slot);
        let Some(race) = self.race_mut(slot) else {
            return;
        };
        let resolving = std::mem::take(&mut race.resolving);
        let running = std::mem::take(&mut race.running);
        let next = std::mem::replace(&mut race.next, DeadlineId::NONE);
        let waited = race.lacking.take().is_some();
        race.waiting.clear();
        if resolving {
            self.sys.cancel_lookup(key);
        }
        if waited {
            self.starved_connects.retain(|waiting| *waiting != key);
        }
        self.deadlines.remove(next);
        let any = !running.is_empty();
        for attempt in running {
            self.close_attempt(attempt);
        }
        if any {
            self.descriptor_freed();
        }
    }

    /// After the handler of `Connected`.
    pub(crate) fn forget_race(&mut self, slot: u32) {
        if let Some(conn) = self.conns.get_mut(slot)
            && !conn.flags.any(Flags::DEAD)
        {
            conn.race = None;
        }
    }

    fn close_attempt(&mut self, slot: u32) {
        if let Some(attempt) = self.attempts.remove(slot) {
            self.sys.close(attempt.socket);
        }
    }
}

/// The addresses in the order to try them: those of the first one's family and of the other by
/// turns, each family in the order of the resolver (RFC 8305, 4, with a First Address Family Count
/// of 1); none twice.
pub(crate) fn order(found: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    for ip in found {
        if !all.contains(&ip) {
            all.push(ip);
        }
        if all.len() == 16 * MOST {
            break;
        }
    }
    let v6_first = all.first().is_some_and(IpAddr::is_ipv6);
    let is_first = |ip: &IpAddr| ip.is_ipv6() == v6_first;
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) = all.into_iter().partition(is_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::new();
    while ordered.len() < MOST {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            break;
        }
        ordered.extend(pair.into_iter().flatten());
    }
    ordered.truncate(MOST);
    ordered
}

/// Of the errors of several tries the one that says most: that of the try that got farthest, and of
/// equal ones the last.
fn most_telling(errnos: impl Iterator<Item = i32>) -> i32 {
    let how_far = |errno: &i32| match Errno::from_raw_os_error(*errno) {
        Errno::CONNREFUSED | Errno::CONNRESET => 3,
        Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::HOSTDOWN => 2,
        Errno::NETUNREACH | Errno::NETDOWN | Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT => 0,
        _ => 1,
    };
    // None was tried: no address is of the local address's family.
    let nothing = Errno::AFNOSUPPORT.raw_os_error();
    errnos.max_by_key(how_far).unwrap_or(nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(text: &str) -> String {
        let ips = text.split(' ').map(|ip| ip.parse().unwrap());
        let texts: Vec<String> = order(ips).iter().map(IpAddr::to_string).collect();
        texts.join(" ")
    }

    #[test]
    fn families_take_turns_beginning_with_that_of_the_first_address() {
        assert_eq!(
            ordered("::1 ::2 ::3 1.1.1.1 2.2.2.2"),
            "::1 1.1.1.1 ::2 2.2.2.2 ::3"
        );
        assert_eq!(
            ordered("1.1.1.1 2.2.2.2 ::1 3.3.3.3"),
            "1.1.1.1 ::1 2.2.2.2 3.3.3.3"
        );
        assert_eq!(ordered("::2 ::1"), "::2 ::1", "the resolver knows why");
        assert_eq!(
            ordered("1.1.1.1 ::1 1.1.1.1 ::1"),
            "1.1.1.1 ::1",
            "none twice"
        );
    }

    #[test]
    fn a_name_with_more_addresses_than_can_be_tried_is_cut() {
        let many = (0..=255).map(|n| IpAddr::from([10, 0, 0, n]));
        assert_eq!(order(many).len(), MOST);
    }

    #[test]
    fn the_most_telling_error_is_that_of_the_try_that_got_farthest() {
        let of = |all: &[Errno]| most_telling(all.iter().map(|e| e.raw_os_error()));
        let (refused, unreachable) = (Errno::CONNREFUSED, Errno::NETUNREACH);
        assert_eq!(of(&[refused, unreachable]), refused.raw_os_error());
        assert_eq!(of(&[unreachable, refused]), refused.raw_os_error());
        assert_eq!(
            of(&[Errno::HOSTUNREACH, unreachable]),
            Errno::HOSTUNREACH.raw_os_error()
        );
        assert_eq!(of(&[]), Errno::AFNOSUPPORT.raw_os_error());
    }
}
