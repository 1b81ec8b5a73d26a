//! The real system: mio for readiness, socket2 to make sockets, rustix for the calls on them.
//!
//! The rule: no call here may raise SIGPIPE. std's and mio's vectored writes are `writev(2)`,
//! which does; `sendmsg` and `send` with MSG_NOSIGNAL do not. Descriptors are close-on-exec.

mod adopt;
mod alarm;
mod datagrams;
mod fork;
mod options;
mod resolver;
mod shortage;
mod signal;
mod tcp;
mod udp;
mod unix;
mod watch;

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use nix::time::ClockId;
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrAny, SocketAddrUnix,
    SocketFlags, sockopt,
};

use self::alarm::Alarm;
use self::fork::{Process, Waking};
use self::options::Outcome;
use self::signal::Signals;
use self::unix::SocketFile;
use self::watch::Watching;
use crate::handle::{Kind, kind_of};
use crate::sys::{
    Answer, Credentials, Readiness, Ready, SocketOption, System, UdpChange, UdpFeatures, UdpPlaces,
    UdpReceived, UdpSend, WAKER, Waker,
};
use crate::{Addr, ConnOptions, ConnectOptions, ListenOptions, Resolver, UdpOptions, UnixAddr};

/// The operating system.
pub struct Os {
    poll: Poll,
    registry: Registry,
    events: Events,
    waker: Arc<Waking>,
    process: Process,
    alarm: Alarm,
    /// Made by the first signal that is watched.
    signals: Option<Signals>,
    /// Files of the Unix listeners, with the listeners' descriptors.
    files: Vec<(RawFd, SocketFile)>,
    refused_option: Option<&'static str>,
    watching: Watching,
    /// Started by the first lookup.
    threads: Option<resolver::Threads>,
    resolver: Option<Resolver>,
}

impl Os {
    /// Opens the selector; one turn takes at most `events_per_turn` reports from it.
    ///
    /// # Errors
    ///
    /// The system's: `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new(events_per_turn: usize) -> Result<Self, Errno> {
        // mio would end the process; between the question and its call only another thread may come.
        let mut room: Vec<libc::epoll_event> = Vec::new();
        room.try_reserve_exact(events_per_turn)
            .map_err(|_| Errno::NOMEM)?;
        drop(std::hint::black_box(room));
        let poll = Poll::new().map_err(errno)?;
        let registry = poll.registry().try_clone().map_err(errno)?;
        let waker = mio::Waker::new(&registry, Token(WAKER as usize)).map_err(errno)?;
        let alarm = Alarm::new(&registry).map_err(errno)?;
        Ok(Self {
            poll,
            registry,
            alarm,
            signals: None,
            events: Events::with_capacity(events_per_turn),
            waker: Waking::new(waker),
            process: Process::new()?,
            watching: Watching::default(),
            files: Vec::new(),
            refused_option: None,
            threads: None,
            resolver: None,
        })
    }

    fn answer<T>(&mut self, outcome: Outcome<T>) -> Result<T, Errno> {
        outcome.map_err(|failed| {
            self.refused_option = failed.option;
            failed.errno
        })
    }
}

/// The selector itself, which other selectors can watch.
impl AsFd for Os {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registry.as_fd()
    }
}

impl System for Os {
    type Socket = OwnedFd;

    fn now(&self) -> u64 {
        // Half the instructions of `Instant`, which normalises what we count in nanoseconds anyway.
        // (rustix's own reading of the vDSO crashes under valgrind.)
        let now = ClockId::CLOCK_MONOTONIC.now();
        now.map_or(0, |t| {
            t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64
        })
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> Result<(), Errno> {
        self.poll.poll(&mut self.events, timeout).map_err(errno)?;
        ready.extend(self.events.iter().map(|event| {
            let plain = Readiness::default()
                .and(Readiness::READABLE, event.is_readable())
                .and(Readiness::WRITABLE, event.is_writable());
            let special = event.is_error() | event.is_read_closed() | event.is_priority();
            let readiness = if special {
                special_readiness(event)
            } else {
                plain
            };
            Ready {
                token: event.token().0 as u64,
                readiness,
            }
        }));
        Ok(())
    }

    fn waker(&self) -> Waker {
        let waker = Arc::clone(&self.waker);
        Arc::new(move || waker.wake())
    }

    fn set_alarm(&mut self, at: Option<u64>) -> Result<(), Errno> {
        self.alarm.set(at)
    }

    fn watch_signal(&mut self, number: i32) -> Result<(), Errno> {
        if !Signals::is_allowed(number) {
            return Err(Errno::INVAL);
        }
        let signals = match &mut self.signals {
            Some(signals) => signals,
            none => {
                let signals = Signals::new(&self.registry).map_err(errno)?;
                self.watching.taken(signals.number());
                none.insert(signals)
            }
        };
        signals.watch(number).map_err(errno)
    }

    fn unwatch_signal(&mut self, number: i32) {
        if let Some(signals) = &mut self.signals {
            signals.unwatch(number);
        }
    }

    fn take_signals(&mut self, into: &mut Vec<i32>) {
        if let Some(signals) = &mut self.signals {
            signals.take(into);
        }
    }

    fn forked(&mut self) -> bool {
        self.process.forked()
    }

    fn after_fork(&mut self) -> Result<(), Errno> {
        self.start_anew()
    }

    fn register(&mut self, socket: &OwnedFd, token: u64) -> Result<(), Errno> {
        self.registry
            .register(
                &mut SourceFd(&socket.as_raw_fd()),
                Token(token as usize),
                interests(),
            )
            .map_err(errno)?;
        self.watching.taken(socket.as_raw_fd());
        Ok(())
    }

    fn reregister(&mut self, socket: &OwnedFd, token: u64) -> Result<(), Errno> {
        let (fd, token) = (socket.as_raw_fd(), Token(token as usize));
        let again = self
            .registry
            .reregister(&mut SourceFd(&fd), token, interests());
        again.map_err(errno)
    }

    fn listen(&mut self, addr: &Addr, options: &ListenOptions) -> Result<OwnedFd, Errno> {
        match addr {
            Addr::Ip(ip) => self.answer(tcp::listen(*ip, options)),
            Addr::Unix(unix) => {
                let (socket, file) = self.answer(unix::listen(unix, options))?;
                self.files
                    .extend(file.map(|file| (socket.as_raw_fd(), file)));
                Ok(socket)
            }
        }
    }

    fn accept(&mut self, listener: &OwnedFd) -> Result<(OwnedFd, Addr), Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (socket, addr) = rustix::net::acceptfrom_with(listener, flags)?;
        // A peer that reset before it was accepted may come without an address.
        let unknown = || SocketAddr::from(([0, 0, 0, 0], 0)).into();
        Ok((socket, addr.and_then(known_addr).unwrap_or_else(unknown)))
    }

    fn connect(&mut self, addr: &Addr, options: &ConnectOptions) -> Result<OwnedFd, Errno> {
        let connected = match addr {
            Addr::Ip(ip) => tcp::connect(*ip, options),
            Addr::Unix(unix) => unix::connect(unix, options),
        };
        self.answer(connected)
    }

    fn take_error(&mut self, socket: &OwnedFd) -> Option<Errno> {
        match sockopt::socket_error(socket) {
            Ok(Ok(())) => None,
            Ok(Err(e)) | Err(e) => Some(e),
        }
    }

    fn local_addr(&self, socket: &OwnedFd) -> Result<Addr, Errno> {
        let addr = rustix::net::getsockname(socket)?;
        known_addr(addr).ok_or(Errno::AFNOSUPPORT)
    }

    #[inline]
    fn recv(&mut self, socket: &OwnedFd, buf: &mut [u8]) -> Result<usize, Errno> {
        rustix::net::recv(socket, buf, RecvFlags::empty()).map(|(n, _)| n)
    }

    #[inline]
    fn send(&mut self, socket: &OwnedFd, bufs: &[IoSlice<'_>]) -> Result<usize, Errno> {
        if let [one] = bufs {
            return rustix::net::send(socket, one, SendFlags::NOSIGNAL);
        }
        rustix::net::sendmsg(
            socket,
            bufs,
            &mut SendAncillaryBuffer::default(),
            SendFlags::NOSIGNAL,
        )
    }

    fn shutdown_write(&mut self, socket: &OwnedFd) -> Result<(), Errno> {
        if self.forked() {
            return Ok(()); // It would be the parent's connection.
        }
        rustix::net::shutdown(socket, Shutdown::Write)
    }

    fn tune(&mut self, socket: &OwnedFd, options: &ConnOptions) -> Result<(), Errno> {
        let family = sockopt::socket_domain(socket)?;
        self.answer(options::tune(socket.as_fd(), family, options))
    }

    fn set(&mut self, socket: &OwnedFd, option: SocketOption) -> Result<(), Errno> {
        self.answer(options::set(socket.as_fd(), option))
    }

    fn refused_option(&mut self) -> Option<&'static str> {
        self.refused_option.take()
    }

    fn adopt_listener(&mut self, fd: OwnedFd, options: &ListenOptions) -> Result<OwnedFd, Errno> {
        self.answer(adopt::listener(fd, options))
    }

    fn unlisten(&mut self, listener: OwnedFd) {
        let fd = listener.as_raw_fd();
        let place = self.files.iter().position(|(of, _)| *of == fd);
        let file = place.map(|place| self.files.swap_remove(place).1);
        let shared = file.filter(SocketFile::is_shared); // Another is removed now, and not later.
        self.close(listener);
        if let Some(file) = shared {
            file.closed();
        }
    }

    fn share(&mut self, socket: &OwnedFd) -> Result<OwnedFd, Errno> {
        let shared = rustix::io::fcntl_dupfd_cloexec(socket, 0)?;
        let of_this = |entry: &&mut (RawFd, SocketFile)| entry.0 == socket.as_raw_fd();
        if let Some((_, file)) = self.files.iter_mut().find(of_this) {
            file.share();
        }
        Ok(shared)
    }

    fn peer_credentials(&self, socket: &OwnedFd) -> Result<Credentials, Errno> {
        unix::peer_credentials(socket.as_fd())
    }

    fn close(&mut self, socket: OwnedFd) {
        if self.forked() {
            return; // The selector is the parent's, where the socket is open still.
        }
        // A duplicate of the descriptor (a fork, say) would keep a closed one firing its token.
        let _ = self.registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
    }

    fn abort(&mut self, socket: OwnedFd) {
        if !self.forked() {
            let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
        }
        self.close(socket);
    }

    fn check_adopted(&mut self, fd: BorrowedFd<'_>, options: &ConnOptions) -> Result<Addr, Errno> {
        self.answer(adopt::check(fd, options))
    }

    fn adopt(&mut self, socket: OwnedFd, token: u64) -> Result<OwnedFd, (Errno, OwnedFd)> {
        match self.register(&socket, token) {
            Ok(()) => Ok(socket),
            Err(e) => Err((e, socket)),
        }
    }

    fn release(&mut self, socket: OwnedFd) -> Result<OwnedFd, OwnedFd> {
        Ok(adopt::release(&self.registry, socket))
    }

    fn watch(&mut self, fd: RawFd, token: u64, interest: crate::Interest) -> Result<(), Errno> {
        self.watching.watch(&self.registry, fd, token, interest)
    }

    fn rewatch(&mut self, fd: RawFd, token: u64, interest: crate::Interest) -> Result<(), Errno> {
        self.watching.rewatch(&self.registry, fd, token, interest)
    }

    fn unwatch(&mut self, fd: RawFd) {
        if !self.forked() {
            self.watching.unwatch(&self.registry, fd);
        }
    }

    fn probe(&mut self, fd: RawFd) -> Result<(), Errno> {
        self.watching.probe(&self.registry, fd)
    }

    fn look_again(&mut self, fd: RawFd) -> Option<Readiness> {
        self.watching.look_again(fd)
    }

    fn may_free_up(&mut self, to: &Addr, options: &ConnectOptions, e: Errno) -> bool {
        shortage::may_free_up(to, options, e)
    }

    fn use_resolver(&mut self, resolver: &Resolver) {
        self.resolver = Some(resolver.clone());
    }

    fn lookup(&mut self, token: u64, host: &Arc<str>) -> Result<(), Errno> {
        let (waker, resolver) = (self.waker(), &self.resolver);
        let threads = self
            .threads
            .get_or_insert_with(|| resolver::Threads::new(waker, resolver.clone()));
        threads.lookup(token, host)
    }

    fn cancel_lookup(&mut self, token: u64) {
        if let Some(threads) = &self.threads {
            threads.cancel(token);
        }
    }

    fn looked_up(&mut self) -> Option<(u64, Answer)> {
        self.threads.as_ref()?.answer()
    }

    fn udp_bind(
        &mut self,
        addr: &Addr,
        options: &UdpOptions,
    ) -> Result<(OwnedFd, UdpFeatures), Errno> {
        self.answer(udp::bind(addr, options))
    }

    fn udp_adopt(
        &mut self,
        fd: OwnedFd,
        options: &UdpOptions,
    ) -> Result<(OwnedFd, UdpFeatures), Errno> {
        self.answer(udp::adopt(fd, options))
    }

    fn udp_change(&mut self, socket: &OwnedFd, change: UdpChange) -> Result<(), Errno> {
        udp::change(socket, change)
    }

    fn udp_recv(
        &mut self,
        socket: &OwnedFd,
        places: &UdpPlaces,
        buf: &mut [u8],
        received: &mut Vec<UdpReceived>,
    ) -> Result<(), Errno> {
        datagrams::recv(socket, places, buf, received)
    }

    fn udp_send(
        &mut self,
        socket: &OwnedFd,
        bytes: &[u8],
        messages: &[UdpSend],
    ) -> Result<usize, Errno> {
        datagrams::send(socket, bytes, messages)
    }
}

/// What is more than bytes to read or room to write.
#[cold]
fn special_readiness(event: &mio::event::Event) -> Readiness {
    if kind_of(event.token().0 as u64) == Kind::Watch as u64 {
        return watch::exact_readiness(event);
    }
    let failed = event.is_error() || event.is_write_closed();
    Readiness::default()
        .and(Readiness::WRITABLE, event.is_writable())
        .and(Readiness::READ_CLOSED, true)
        .and(Readiness::ERROR, failed)
}

/// What a socket is registered for.
fn interests() -> Interest {
    let both = Interest::READABLE | Interest::WRITABLE;
    // recv(2) stops short at urgent data (tcp(7)): without this, what comes after it would wait
    // for the next arrival.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let both = both | Interest::PRIORITY;
    both
}

/// The address in our terms.
fn known_addr(addr: SocketAddrAny) -> Option<Addr> {
    if let Ok(ip) = SocketAddr::try_from(addr.clone()) {
        return Some(ip.into());
    }
    let unix = SocketAddrUnix::try_from(addr).ok()?;
    Some(match (unix.path_bytes(), unix.abstract_name()) {
        (Some(path), _) => {
            // rustix leaves the longest path its end mark.
            let path = path.strip_suffix(&[0]).unwrap_or(path);
            UnixAddr::path(OsStr::from_bytes(path)).into()
        }
        // An unnamed socket, which rustix reports as one with an empty name.
        (_, Some([])) => UnixAddr::default().into(),
        (_, Some(name)) => UnixAddr::abstract_name(name).into(),
        _ => UnixAddr::default().into(),
    })
}

fn errno(e: io::Error) -> Errno {
    Errno::from_io_error(&e).unwrap_or(Errno::IO)
}
