//! The calls of the contract on the simulated network.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;

use super::net::Plan;
use super::roads::Meets;
use super::{Sim, SimSocket};
use crate::sys::{
    ALARM, Answer, Readiness, Ready, SIGNALS, System, UdpChange, UdpFeatures, UdpPlaces,
    UdpReceived, UdpSend, WAKER, Waker,
};
use crate::{Addr, ConnOptions, ConnectOptions, ListenOptions, UdpOptions};

impl System for Sim {
    type Socket = SimSocket;

    fn now(&self) -> u64 {
        self.net.borrow().clock
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> Result<(), Errno> {
        let net = &mut *self.net.borrow_mut();
        net.close_lost();
        if net.interrupts() {
            return Err(Errno::INTR);
        }
        if self.woken.swap(false, Ordering::Relaxed) | net.answers_came(self.host) {
            ready.push(Ready {
                token: WAKER,
                readiness: Readiness::READABLE,
            });
        }
        if std::mem::take(&mut net.hosts[self.host].signalled) {
            ready.push(Ready {
                token: SIGNALS,
                readiness: Readiness::READABLE,
            });
        }
        for index in 0..net.sockets.len() {
            ready.extend(net.readiness(self.host, index));
        }
        for place in (1..ready.len()).rev() {
            let other = net.random.below(place as u64 + 1) as usize;
            ready.swap(place, other);
        }
        if ready.is_empty() {
            let step = timeout.map_or(1_000_000, |t| t.as_nanos() as u64);
            let plan = net.next_plan().map_or(u64::MAX, |at| at - net.clock);
            let alarm = net.hosts[self.host].alarm;
            let alarm = alarm.map_or(u64::MAX, |at| at.saturating_sub(net.clock));
            net.clock += step.min(plan).min(alarm);
        }
        let host = &mut net.hosts[self.host];
        if host.alarm.is_some_and(|at| at <= net.clock) {
            host.alarm = None;
            ready.push(Ready {
                token: ALARM,
                readiness: Readiness::READABLE,
            });
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        let woken = Arc::clone(&self.woken);
        Arc::new(move || woken.store(true, Ordering::Relaxed))
    }

    fn watch_signal(&mut self, number: i32) -> Result<(), Errno> {
        let net = &mut *self.net.borrow_mut();
        net.hosts[self.host].signals.push((number, false));
        Ok(())
    }

    fn unwatch_signal(&mut self, number: i32) {
        let net = &mut *self.net.borrow_mut();
        net.hosts[self.host].signals.retain(|s| s.0 != number);
    }

    fn take_signals(&mut self, into: &mut Vec<i32>) {
        let net = &mut *self.net.borrow_mut();
        let came = net.hosts[self.host].signals.iter_mut();
        into.extend(came.filter_map(|s| std::mem::take(&mut s.1).then_some(s.0)));
    }

    fn set_alarm(&mut self, at: Option<u64>) -> Result<(), Errno> {
        self.net.borrow_mut().hosts[self.host].alarm = at;
        Ok(())
    }

    fn register(&mut self, socket: &SimSocket, token: u64) -> Result<(), Errno> {
        self.net.borrow_mut().sockets[socket.index].token = Some(token);
        Ok(())
    }

    fn listen(&mut self, addr: &Addr, _: &ListenOptions) -> Result<SimSocket, Errno> {
        let net = &mut *self.net.borrow_mut();
        if net
            .sockets
            .iter()
            .any(|s| s.open && s.listener.as_ref() == Some(addr))
        {
            return Err(Errno::ADDRINUSE);
        }
        let index = net.listen(addr);
        net.sockets[index].owner = self.host;
        Ok(self.socket(index))
    }

    fn accept(&mut self, listener: &SimSocket) -> Result<(SimSocket, Addr), Errno> {
        let net = &mut *self.net.borrow_mut();
        if let Some(e) = net.accept_errors.pop_front() {
            return Err(e);
        }
        let again = net.refuses_now();
        let socket = &mut net.sockets[listener.index];
        let backlog = socket.backlog.as_ref().filter(|_| !again);
        let Some(index) = backlog.and_then(|b| b.borrow_mut().pop_front()) else {
            socket.read_armed = true;
            return Err(Errno::AGAIN);
        };
        net.sockets[index].owner = self.host;
        let peer = net.peer_addr(index);
        Ok((self.socket(index), peer))
    }

    fn connect(&mut self, addr: &Addr, _: &ConnectOptions) -> Result<SimSocket, Errno> {
        let net = &mut *self.net.borrow_mut();
        let road = net.set_out(addr)?;
        let index = net.open();
        let socket = &mut net.sockets[index];
        socket.owner = self.host;
        socket.peer = Some(addr.clone());
        socket.answers_at = road.map_or(0, |(_, at)| at);
        let plan = match road {
            None => net.plans.pop_front(),
            Some((Meets::Refuses, _)) => Some(Plan::Refused),
            Some((Meets::Ignores, _)) => Some(Plan::Silent),
            Some(_) => None,
        };
        match plan {
            Some(Plan::Refused) => socket.refused = true,
            Some(Plan::Silent) => socket.silent = true,
            None => net.connected.push_back(index),
        }
        Ok(self.socket(index))
    }

    fn take_error(&mut self, socket: &SimSocket) -> Option<Errno> {
        let net = &mut *self.net.borrow_mut();
        let index = socket.index;
        let socket = &mut net.sockets[index];
        if let Some(inbox) = &mut socket.inbox {
            return inbox.refusal.take();
        }
        if socket.refused {
            return Some(Errno::CONNREFUSED);
        }
        if socket.reset {
            return Some(Errno::CONNRESET);
        }
        net.hang_up(index)
    }

    fn local_addr(&self, socket: &SimSocket) -> Result<Addr, Errno> {
        if let Some(inbox) = &self.net.borrow().sockets[socket.index].inbox {
            return Ok(inbox.local.into());
        }
        let listener = self.net.borrow().sockets[socket.index].listener.clone();
        Ok(listener.unwrap_or_else(|| SocketAddr::from(([10, 0, 0, 2], 7)).into()))
    }

    fn recv(&mut self, socket: &SimSocket, buf: &mut [u8]) -> Result<usize, Errno> {
        let net = &mut *self.net.borrow_mut();
        net.mishap(socket.index)?;
        let again = net.refuses_now() && !net.sockets[socket.index].hung_up;
        let arrived = net.sockets[socket.index].to_loop.len();
        if arrived == 0 && net.sockets[socket.index].hung_up {
            return net.hang_up(socket.index).map_or(Ok(0), Err);
        }
        let n = net.piece(buf.len().min(arrived));
        let socket = &mut net.sockets[socket.index];
        if socket.to_loop.is_empty() && socket.peer_finished {
            return Ok(0);
        }
        if socket.to_loop.is_empty() || again {
            socket.read_armed = true;
            return Err(Errno::AGAIN);
        }
        socket.read_armed |= n < buf.len();
        for (place, byte) in buf.iter_mut().zip(socket.to_loop.drain(..n)) {
            *place = byte;
        }
        Ok(n)
    }

    fn send(&mut self, socket: &SimSocket, bufs: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let net = &mut *self.net.borrow_mut();
        net.mishap(socket.index)?;
        if net.sockets[socket.index].hung_up {
            return Err(net.hang_up(socket.index).unwrap_or(Errno::PIPE));
        }
        let again = net.refuses_now();
        let offered: usize = bufs.iter().map(|b| b.len()).sum();
        let room = net
            .options
            .buffer
            .saturating_sub(net.sockets[socket.index].to_peer.len());
        let n = net.piece(offered.min(room));
        let socket = &mut net.sockets[socket.index];
        if socket.loop_finished {
            return Err(Errno::PIPE);
        }
        if n == 0 || again {
            socket.write_armed = true;
            return Err(Errno::AGAIN);
        }
        socket.write_armed |= n < offered;
        socket
            .to_peer
            .extend(bufs.iter().flat_map(|b| b.iter()).take(n));
        Ok(n)
    }

    fn shutdown_write(&mut self, socket: &SimSocket) -> Result<(), Errno> {
        let socket = &mut self.net.borrow_mut().sockets[socket.index];
        if socket.hung_up {
            return Err(Errno::NOTCONN);
        }
        socket.loop_finished = true;
        Ok(())
    }

    fn close(&mut self, socket: SimSocket) {
        self.net.borrow_mut().close(socket.index);
    }

    fn abort(&mut self, socket: SimSocket) {
        self.net.borrow_mut().sockets[socket.index].reset = true;
        self.close(socket);
    }

    fn check_adopted(&mut self, fd: BorrowedFd<'_>, _: &ConnOptions) -> Result<Addr, Errno> {
        let index = self.in_hand(fd)?;
        if self.net.borrow().sockets[index].listener.is_some() {
            return Err(Errno::INVAL);
        }
        Ok(self.net.borrow().peer_addr(index))
    }

    fn adopt(&mut self, socket: OwnedFd, token: u64) -> Result<SimSocket, (Errno, OwnedFd)> {
        let socket = match self.in_hand(socket.as_fd()) {
            Ok(index) => self.take_over(index),
            Err(e) => return Err((e, socket)),
        };
        let _ = self.register(&socket, token); // Never fails here.
        Ok(socket)
    }

    fn adopt_listener(&mut self, fd: OwnedFd, _: &ListenOptions) -> Result<SimSocket, Errno> {
        let index = self.in_hand(fd.as_fd())?;
        if self.net.borrow().sockets[index].listener.is_none() {
            return Err(Errno::INVAL);
        }
        Ok(self.take_over(index))
    }

    fn share(&mut self, socket: &SimSocket) -> Result<OwnedFd, Errno> {
        self.share_listener(socket.index)
    }

    fn release(&mut self, mut socket: SimSocket) -> Result<OwnedFd, SimSocket> {
        let Ok(fd) = self.give_out(socket.index) else {
            return Err(socket);
        };
        socket.net = Weak::new(); // It is not this one's to close any more.
        Ok(fd)
    }

    fn reregister(&mut self, socket: &SimSocket, token: u64) -> Result<(), Errno> {
        let socket = &mut self.net.borrow_mut().sockets[socket.index];
        socket.token = Some(token);
        socket.read_armed = true;
        socket.write_armed = true;
        socket.told_end = false;
        Ok(())
    }

    fn may_free_up(&mut self, _: &Addr, options: &ConnectOptions, e: Errno) -> bool {
        // Here it always means the ports, never the address.
        let ports = e == Errno::ADDRNOTAVAIL && options.local.is_none();
        ports
            || matches!(
                e,
                Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN
            )
    }

    fn lookup(&mut self, token: u64, host: &Arc<str>) -> Result<(), Errno> {
        self.net.borrow_mut().lookup(self.host, token, host)
    }

    fn cancel_lookup(&mut self, token: u64) {
        self.net.borrow_mut().cancel_lookup(self.host, token);
    }

    fn looked_up(&mut self) -> Option<(u64, Answer)> {
        self.net.borrow_mut().looked_up(self.host)
    }

    fn udp_bind(
        &mut self,
        addr: &Addr,
        options: &UdpOptions,
    ) -> Result<(SimSocket, UdpFeatures), Errno> {
        let net = &mut *self.net.borrow_mut();
        let (index, features) = net.udp_bind(addr, options)?;
        net.sockets[index].owner = self.host;
        Ok((self.socket(index), features))
    }

    fn udp_change(&mut self, socket: &SimSocket, change: UdpChange) -> Result<(), Errno> {
        self.net.borrow_mut().udp_change(socket.index, change)
    }

    fn udp_recv(
        &mut self,
        socket: &SimSocket,
        places: &UdpPlaces,
        buf: &mut [u8],
        received: &mut Vec<UdpReceived>,
    ) -> Result<(), Errno> {
        let mut net = self.net.borrow_mut();
        net.udp_recv(socket.index, places, buf, received)
    }

    fn udp_send(
        &mut self,
        socket: &SimSocket,
        bytes: &[u8],
        messages: &[UdpSend],
    ) -> Result<usize, Errno> {
        self.net
            .borrow_mut()
            .udp_send(socket.index, bytes, messages)
    }
}

impl Sim {
    pub(super) fn socket(&self, index: usize) -> SimSocket {
        let net = Rc::downgrade(&self.net);
        SimSocket { index, net }
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if let Some(net) = self.net.upgrade() {
            net.borrow_mut().close(self.index);
        }
    }
}
