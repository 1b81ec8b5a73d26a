//! How datagrams are batched, and what happens when the kernel takes none: on a system that counts
//! the calls of the real one, and refuses some.

mod util;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use echoloop_core::sys::{
    Os, Ready, System, UdpChange, UdpFeatures, UdpPlaces, UdpReceived, UdpSend, Waker,
};
use echoloop_core::{
    Addr, ConnectOptions, ErrorKind, Event, EventLoop, ListenOptions, LoopOptions, Readiness,
    UdpOptions,
};
use rustix::io::Errno;
use util::datagrams::{Udps, peer};
use util::real::PATIENCE;

/// The real system, with a plan.
struct Planned {
    os: Os,
    plan: Rc<RefCell<Plan>>,
}

#[derive(Default)]
struct Plan {
    recvs: usize,
    sends: usize,
    /// Messages of several datagrams, tried to send and received.
    segmented: usize,
    coalesced: usize,
    /// How many messages the next sends take, all together; `None` for all.
    room: Option<usize>,
    /// What messages of several datagrams are answered.
    no_segments: Option<Errno>,
    /// What the next sends are answered, whatever they are.
    failures: VecDeque<Errno>,
    /// A send found no room, and no report has come since.
    blocked: bool,
    tokens: Vec<u64>,
}

impl System for Planned {
    type Socket = OwnedFd;

    fn now(&self) -> u64 {
        self.os.now()
    }
    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> Result<(), Errno> {
        let mut plan = self.plan.borrow_mut();
        if plan.blocked && plan.room != Some(0) {
            plan.blocked = false;
            let writable = |token: &u64| Ready {
                token: *token,
                readiness: Readiness::WRITABLE,
            };
            ready.extend(plan.tokens.iter().map(writable));
            return self.os.wait(Some(Duration::ZERO), ready);
        }
        self.os.wait(timeout, ready)?;
        if plan.blocked {
            ready.retain(|r| !r.readiness.is_writable() || r.readiness.is_readable());
        }
        Ok(())
    }
    fn waker(&self) -> Waker {
        self.os.waker()
    }
    fn register(&mut self, socket: &OwnedFd, token: u64) -> Result<(), Errno> {
        self.plan.borrow_mut().tokens.push(token);
        self.os.register(socket, token)
    }
    fn listen(&mut self, addr: &Addr, options: &ListenOptions) -> Result<OwnedFd, Errno> {
        self.os.listen(addr, options)
    }
    fn accept(&mut self, listener: &OwnedFd) -> Result<(OwnedFd, Addr), Errno> {
        self.os.accept(listener)
    }
    fn connect(&mut self, addr: &Addr, options: &ConnectOptions) -> Result<OwnedFd, Errno> {
        self.os.connect(addr, options)
    }
    fn take_error(&mut self, socket: &OwnedFd) -> Option<Errno> {
        self.os.take_error(socket)
    }
    fn local_addr(&self, socket: &OwnedFd) -> Result<Addr, Errno> {
        self.os.local_addr(socket)
    }
    fn recv(&mut self, socket: &OwnedFd, buf: &mut [u8]) -> Result<usize, Errno> {
        self.os.recv(socket, buf)
    }
    fn send(&mut self, socket: &OwnedFd, bufs: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.os.send(socket, bufs)
    }
    fn shutdown_write(&mut self, socket: &OwnedFd) -> Result<(), Errno> {
        self.os.shutdown_write(socket)
    }
    fn close(&mut self, socket: OwnedFd) {
        self.os.close(socket);
    }
    fn abort(&mut self, socket: OwnedFd) {
        self.os.abort(socket);
    }
    fn udp_bind(
        &mut self,
        addr: &Addr,
        options: &UdpOptions,
    ) -> Result<(OwnedFd, UdpFeatures), Errno> {
        self.os.udp_bind(addr, options)
    }
    fn udp_change(&mut self, socket: &OwnedFd, change: UdpChange) -> Result<(), Errno> {
        self.os.udp_change(socket, change)
    }
    fn udp_recv(
        &mut self,
        socket: &OwnedFd,
        places: &UdpPlaces,
        buf: &mut [u8],
        received: &mut Vec<UdpReceived>,
    ) -> Result<(), Errno> {
        let mut plan = self.plan.borrow_mut();
        plan.recvs += 1;
        self.os.udp_recv(socket, places, buf, received)?;
        plan.coalesced += received.iter().filter(|m| m.segment < m.len).count();
        Ok(())
    }
    fn udp_send(
        &mut self,
        socket: &OwnedFd,
        bytes: &[u8],
        messages: &[UdpSend],
    ) -> Result<usize, Errno> {
        let mut plan = self.plan.borrow_mut();
        plan.sends += 1;
        if let Some(e) = plan.failures.pop_front() {
            return Err(e);
        }
        let segmented = messages[0].segment != 0;
        plan.segmented += usize::from(segmented);
        match plan.no_segments {
            Some(e) if segmented => return Err(e),
            _ => {}
        }
        let room = plan.room.unwrap_or(usize::MAX).min(messages.len());
        if room == 0 {
            plan.blocked = true;
            return Err(Errno::AGAIN);
        }
        let sent = self.os.udp_send(socket, bytes, &messages[..room])?;
        plan.room = plan.room.map(|r| r - sent);
        Ok(sent)
    }
}

fn planned() -> (Udps<Planned>, Rc<RefCell<Plan>>) {
    let plan = Rc::<RefCell<Plan>>::default();
    let system = Planned {
        os: Os::new(64).unwrap(),
        plan: Rc::clone(&plan),
    };
    let el = EventLoop::with_system(system, LoopOptions::default()).unwrap();
    (Udps::with_loop(el), plan)
}

/// What the socket on the other side got, as numbers. The kernel keeps some 270 small datagrams for
/// a socket, so no test sends more to one without reading.
fn numbers(all: &mut Udps<Planned>, count: usize) -> Vec<usize> {
    let number = |bytes: &[u8]| usize::from_le_bytes(bytes[..8].try_into().unwrap());
    all.take(count).iter().map(|g| number(&g.bytes)).collect()
}

#[test]
fn hundreds_of_datagrams_take_few_calls() {
    let (mut all, plan) = planned();
    let (from, _) = all.plain();
    let to = [all.plain().1, all.plain().1];
    for i in 0..400_usize {
        let to = to[i % 2]; // Never two to one address, so no segments.
        all.el
            .udp(from)
            .unwrap()
            .send_to(to, &i.to_le_bytes())
            .unwrap();
    }
    let mut got = numbers(&mut all, 400);
    got.sort_unstable();
    assert!(got.into_iter().eq(0..400));
    let plan = plan.borrow();
    assert_eq!((plan.segmented, plan.coalesced), (0, 0));
    assert!(plan.sends <= 400 / 32 + 1, "{} sends", plan.sends);
    // Each socket asks for 1, 4, 16, then 32 of its 200.
    assert!(
        plan.recvs <= 2 * (3 + 200 / 32 + 2),
        "{} receives",
        plan.recvs
    );
}

#[test]
fn runs_of_one_size_leave_and_arrive_in_one_piece() {
    let (mut all, plan) = planned();
    let (from, _) = all.plain();
    let (_, to) = all.plain();
    let bytes: Vec<u8> = (0..500_usize).flat_map(usize::to_le_bytes).collect();
    let mut view = all.el.udp(from).unwrap();
    view.send_segments(to, &bytes, 8).unwrap();
    view.send_to(to, &[7; 9]).unwrap();
    let got = numbers(&mut all, 501);
    assert!(got[..500].iter().copied().eq(0..500), "cut and in order");
    let plan = plan.borrow();
    assert!(
        plan.segmented >= 500 / 64,
        "{} with segments",
        plan.segmented
    );
    assert!(plan.coalesced >= 500 / 64, "{} runs", plan.coalesced);
    assert!(plan.sends <= 500 / 64 + 4, "{} sends", plan.sends);
    assert!(plan.recvs <= 10, "{} receives", plan.recvs);
}

#[test]
fn what_the_kernel_will_not_cut_leaves_one_by_one() {
    for (e, tries) in [(Errno::IO, 1), (Errno::INVAL, 2)] {
        let (mut all, plan) = planned();
        let (from, _) = all.plain();
        let (_, to) = all.plain();
        plan.borrow_mut().no_segments = Some(e);
        let bytes: Vec<u8> = (0..60_usize).flat_map(usize::to_le_bytes).collect();
        let wide: Vec<u8> = bytes.chunks(8).flat_map(|n| [n, n].concat()).collect();
        let mut view = all.el.udp(from).unwrap();
        view.send_segments(to, &wide, 16).unwrap();
        view.send_segments(to, &bytes, 8).unwrap();
        view.send_segments(to, &wide, 16).unwrap();
        let got = numbers(&mut all, 180);
        assert!(got.into_iter().eq((0..60).chain(0..60).chain(0..60)));
        // EIO is about the way out, so it is not tried again; EINVAL about the size.
        assert_eq!(plan.borrow().segmented, tries, "{e}");
        assert!(all.told.is_empty(), "{:?}", all.told);
    }
}

#[test]
fn what_finds_no_room_waits_in_order_and_the_newest_are_dropped() {
    let (mut all, plan) = planned();
    let options = UdpOptions {
        send_queue: 10 * (8 + 64),
        offload: false,
        ..UdpOptions::default()
    };
    let (from, _) = all.bind("127.0.0.1:0", &options);
    let (_, to) = all.plain();
    plan.borrow_mut().room = Some(0);
    for i in 0..15_usize {
        let sent = all.el.udp(from).unwrap().send_to(to, &i.to_le_bytes());
        match sent {
            Ok(()) => assert!(i < 10, "{i} finds room"),
            Err(e) => assert!(i >= 10 && e.kind() == ErrorKind::QueueFull, "{i}: {e}"),
        }
    }
    let view = all.el.udp(from).unwrap();
    assert_eq!((view.queued(), view.dropped()), (10, 5));
    assert_eq!(all.el.buffered(), 10 * (8 + 64));
    all.turn(Duration::ZERO);
    assert!(all.told.is_empty(), "not drained yet");

    plan.borrow_mut().room = Some(3);
    assert_eq!(numbers(&mut all, 3), [0, 1, 2]);
    assert_eq!(all.el.udp(from).unwrap().queued(), 7);
    // What comes now goes behind what waits.
    all.el
        .udp(from)
        .unwrap()
        .send_to(to, &10_usize.to_le_bytes())
        .unwrap();
    plan.borrow_mut().room = None;
    assert!(numbers(&mut all, 8).into_iter().eq(3..=10));
    all.run_until(|all| !all.told.is_empty());
    assert_eq!(all.told, [Event::UdpDrained { udp: from }], "once");
    assert_eq!(
        (all.el.buffered(), all.el.counters().datagrams_dropped),
        (0, 5)
    );
    all.turn(Duration::ZERO);
    assert_eq!(all.told.len(), 1);
}

#[test]
fn a_closed_socket_counts_what_it_could_not_send() {
    let (mut all, plan) = planned();
    let (from, to) = all.plain();
    plan.borrow_mut().room = Some(0);
    for _ in 0..3 {
        all.el.udp(from).unwrap().send_to(to, b"x").unwrap();
    }
    all.el.close_udp(from).unwrap();
    assert_eq!(
        (all.el.buffered(), all.el.counters().datagrams_dropped),
        (0, 3)
    );
}

#[test]
fn an_error_of_an_earlier_send_costs_no_datagram() {
    let (mut all, plan) = planned();
    let (from, _) = all.plain();
    let (_, to) = all.plain();
    plan.borrow_mut().failures = [Errno::CONNREFUSED, Errno::INTR].into();
    for i in 0..4_usize {
        all.el
            .udp(from)
            .unwrap()
            .send_to(to, &i.to_le_bytes())
            .unwrap();
    }
    assert_eq!(numbers(&mut all, 4), [0, 1, 2, 3]);
    assert_eq!(all.errors(from), [Errno::CONNREFUSED.raw_os_error()]);

    // One that comes again is about this datagram: it is dropped, and those after it are sent.
    all.told.clear();
    plan.borrow_mut().failures = [Errno::HOSTUNREACH; 2].into();
    for i in [4, 500_usize] {
        let bytes = [&i.to_le_bytes()[..], &vec![0; i]].concat();
        all.el.udp(from).unwrap().send_to(to, &bytes).unwrap();
    }
    assert_eq!(numbers(&mut all, 1), [500]);
    assert_eq!(all.errors(from), [Errno::HOSTUNREACH.raw_os_error()]);
    assert_eq!(all.el.udp(from).unwrap().dropped(), 1);
}

#[test]
fn one_busy_socket_can_not_starve_the_rest() {
    let (mut all, plan) = planned();
    let (busy, to_busy) = all.plain();
    let (_, to_quiet) = all.plain();
    let (peer, _) = peer();
    for _ in 0..100 {
        peer.send_to(b"flood", to_busy).unwrap();
    }
    peer.send_to(b"a word", to_quiet).unwrap();
    while all.got.len() < 101 {
        let (before, recvs) = (all.batches, plan.borrow().recvs);
        all.turn(PATIENCE);
        assert!(all.batches - before <= 2, "one batch for each socket");
        assert!(plan.borrow().recvs - recvs <= 2, "and one read");
        let quiet = all.got.iter().filter(|g| g.at != busy).count();
        assert_eq!(quiet, 1, "in the first turn");
    }
}

/// What the kernel had refused was dropped without another look.
#[test]
fn what_waits_is_offered_once_more_when_the_socket_or_the_loop_ends() {
    for drop_loop in [false, true] {
        let (peer, to) = util::datagrams::peer();
        let (mut all, plan) = planned();
        let (udp, _) = all.plain();
        plan.borrow_mut().room = Some(0);
        all.el.udp(udp).unwrap().send_to(to, b"waits").unwrap();
        all.turn(Duration::ZERO);
        assert_eq!(all.el.udp(udp).unwrap().queued(), 1);
        plan.borrow_mut().room = None;
        if drop_loop {
            drop(all);
        } else {
            all.el.close_udp(udp).unwrap();
            assert_eq!(all.el.counters().datagrams_dropped, 0);
        }
        let mut buf = [0; 64];
        assert_eq!(peer.recv(&mut buf).unwrap(), 5);
    }
}
