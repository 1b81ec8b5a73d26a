//! Who is let in: how many connections, how many of one peer, how fast they come.
//!
//! The rule: whoever was let in is counted until [`Limits::leave`], and one place counts for all
//! the workers of a server, so a limit is that of the whole. The locks are taken once a connection,
//! never for a message.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use echoloop_core::Addr;

/// Why a connection was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// [`max_connections`](crate::ServerBuilder::max_connections) are open.
    MaxConnections,
    /// [`max_per_peer`](crate::ServerBuilder::max_per_peer) are open from this address.
    MaxPerPeer,
    /// More came than [`accept_rate`](crate::ServerBuilder::accept_rate) allows.
    AcceptRate,
    /// There is no memory to count it by its address.
    NoMemory,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MaxConnections => "the maximum of connections is reached",
            Self::MaxPerPeer => "this address has its maximum of connections",
            Self::AcceptRate => "connections come too fast",
            Self::NoMemory => "there is no memory to count it",
        })
    }
}

/// The limits, with what is counted against them.
#[derive(Debug)]
pub(crate) struct Limits {
    /// When the shared clock began; each loop has a clock of its own.
    pub(crate) epoch: Instant,
    max_connections: usize,
    max_per_peer: Option<u32>,
    open: AtomicUsize,
    peers: Mutex<HashMap<IpAddr, u32>>,
    rate: Option<Mutex<Bucket>>,
}

impl Limits {
    pub(crate) fn new(
        max_connections: usize,
        max_per_peer: Option<u32>,
        accept_rate: Option<(u32, u32)>,
    ) -> Self {
        Self {
            epoch: Instant::now(),
            max_connections,
            max_per_peer,
            open: AtomicUsize::new(0),
            peers: Mutex::default(),
            rate: accept_rate.map(|(per_second, burst)| Mutex::new(Bucket::new(per_second, burst))),
        }
    }

    /// Lets a connection in at time `now` of the shared clock, or says why not.
    pub(crate) fn enter(&self, peer: &Addr, now: Duration) -> Result<usize, Refusal> {
        let room = |open| (open < self.max_connections).then_some(open + 1);
        let Ok(before) = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
        else {
            return Err(Refusal::MaxConnections);
        };
        if let Some(refusal) = self.refusal(peer, now) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(refusal);
        }
        Ok(before + 1)
    }

    /// A connection that was let in elsewhere goes on here.
    pub(crate) fn take_over(&self, peer: &Addr) {
        self.open.fetch_add(1, Ordering::Relaxed);
        if self.max_per_peer.is_some()
            && let Some(site) = site(peer)
        {
            let mut peers = lock(&self.peers);
            if peers.try_reserve(1).is_ok() {
                *peers.entry(site).or_default() += 1; // Else it is one that does not count.
            }
        }
    }

    /// So many connections that were let in were lost on their way to another worker.
    pub(crate) fn lose(&self, n: usize) {
        self.open.fetch_sub(n, Ordering::Relaxed);
    }

    /// A connection that was let in has ended here.
    pub(crate) fn leave(&self, peer: &Addr) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if self.max_per_peer.is_none() {
            return;
        }
        let Some(site) = site(peer) else { return };
        let mut peers = lock(&self.peers);
        if let Some(n) = peers.get_mut(&site) {
            *n -= 1;
            if *n == 0 {
                peers.remove(&site);
            }
        }
    }

    /// Counts the connection, unless one of the finer limits refuses it. A refused one costs no
    /// token of the rate but by the rate itself, which is asked last.
    fn refusal(&self, peer: &Addr, now: Duration) -> Option<Refusal> {
        let site = self.max_per_peer.and_then(|max| Some((site(peer)?, max)));
        let mut peers = site.map(|(site, max)| (lock(&self.peers), site, max));
        if let Some((peers, site, max)) = &mut peers {
            if peers.get(site).unwrap_or(&0) >= max {
                return Some(Refusal::MaxPerPeer);
            }
            if peers.try_reserve(1).is_err() {
                return Some(Refusal::NoMemory);
            }
        }
        if let Some(rate) = &self.rate
            && !lock(rate).take(now)
        {
            return Some(Refusal::AcceptRate);
        }
        if let Some((peers, site, _)) = &mut peers {
            *peers.entry(*site).or_default() += 1;
        }
        None
    }
}

/// Nothing panics while one of these locks is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What counts as one peer: an IPv4 address, or the /64 of an IPv6 one, which is the least that a
/// site is given (RFC 6177) and any one host in it can use. Unix peers have no address.
fn site(peer: &Addr) -> Option<IpAddr> {
    Some(match peer.ip()?.ip().to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !0 << 64)),
        v4 => v4,
    })
}

/// A token bucket (tc-tbf(8)): holds at most `burst` tokens, and gains `per_second`.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Duration,
}

impl Bucket {
    fn new(per_second: u32, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            per_second: f64::from(per_second),
            burst,
            tokens: burst,
            at: Duration::ZERO,
        }
    }

    fn take(&mut self, now: Duration) -> bool {
        // Workers' clocks are read at slightly different times: the bucket's does not go back.
        let gained = now.saturating_sub(self.at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.at = self.at.max(now);
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn peer(text: &str) -> Addr {
        Addr::from(text.parse::<SocketAddr>().unwrap())
    }

    #[test]
    fn one_peer_is_an_ipv4_address_or_an_ipv6_site() {
        let one = |text: &str| site(&peer(text)).unwrap();
        assert_eq!(one("10.0.0.1:1"), one("10.0.0.1:2"));
        assert_eq!(one("10.0.0.1:1"), one("[::ffff:10.0.0.1]:1"));
        assert_ne!(one("10.0.0.1:1"), one("10.0.0.2:1"));
        assert_eq!(one("[2001:db8:0:1::1]:1"), one("[2001:db8:0:1:ffff::2]:1"));
        assert_ne!(one("[2001:db8:0:1::1]:1"), one("[2001:db8:0:2::1]:1"));
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(10, 3);
        let at = |ms| Duration::from_millis(ms);
        let first: Vec<bool> = (0..5).map(|_| bucket.take(at(0))).collect();
        assert_eq!(first, [true, true, true, false, false]);
        assert!(!bucket.take(at(99)) && bucket.take(at(100)) && !bucket.take(at(150)));
        assert!(bucket.take(at(10_000)) && bucket.take(at(9_000)) && bucket.take(at(9_500)));
        assert!(!bucket.take(at(9_999)), "the burst is all that is saved up");
    }

    #[test]
    fn a_maximum_of_none_lets_nobody_in() {
        let a = peer("10.0.0.1:1");
        let limits = Limits::new(9, Some(0), None);
        assert_eq!(limits.enter(&a, Duration::ZERO), Err(Refusal::MaxPerPeer));
        let limits = Limits::new(0, None, None);
        let full = Err(Refusal::MaxConnections);
        assert_eq!(limits.enter(&a, Duration::ZERO), full);
    }

    #[test]
    fn who_leaves_makes_room_and_the_refused_take_none() {
        let limits = Limits::new(3, Some(2), Some((1, 100)));
        let (a, b) = (peer("10.0.0.1:1"), peer("10.0.0.2:1"));
        assert_eq!(limits.enter(&a, Duration::ZERO), Ok(1));
        assert_eq!(limits.enter(&a, Duration::ZERO), Ok(2));
        assert_eq!(limits.enter(&a, Duration::ZERO), Err(Refusal::MaxPerPeer));
        assert_eq!(limits.enter(&b, Duration::ZERO), Ok(3));
        assert_eq!(
            limits.enter(&b, Duration::ZERO),
            Err(Refusal::MaxConnections)
        );
        limits.leave(&a);
        assert_eq!(limits.enter(&a, Duration::ZERO), Ok(3));
        for peer in [&a, &a, &b] {
            limits.leave(peer);
        }
        assert!(
            lock(&limits.peers).is_empty(),
            "nobody who left is remembered"
        );
    }
}
