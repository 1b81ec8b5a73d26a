//! What a message costs in the steady state: system calls and allocations, counted.

mod util;

use std::io::{IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

use echoloop_core::sys::{Os, Ready, System, Waker};
use echoloop_core::{
    Addr, ConnOptions, ConnectOptions, Event, EventLoop, ListenOptions, LoopOptions, TimerSpec,
};
use rustix::io::Errno;
use util::real::{PATIENCE, Real};

/// The real system, counting the calls that cost.
struct Counting {
    os: Os,
    calls: Calls,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Calls {
    register: usize,
    recv: usize,
    send: usize,
    set_alarm: usize,
}

thread_local! {
    static CALLS: std::cell::Cell<Calls> = const { std::cell::Cell::new(Calls { register: 0, recv: 0, send: 0, set_alarm: 0 }) };
}

impl Counting {
    fn count(&mut self, change: impl FnOnce(&mut Calls)) {
        change(&mut self.calls);
        CALLS.set(self.calls);
    }
}

impl System for Counting {
    type Socket = OwnedFd;

    fn now(&self) -> u64 {
        self.os.now()
    }
    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> Result<(), Errno> {
        self.os.wait(timeout, ready)
    }
    fn waker(&self) -> Waker {
        self.os.waker()
    }
    fn set_alarm(&mut self, at: Option<u64>) -> Result<(), Errno> {
        self.count(|c| c.set_alarm += 1);
        self.os.set_alarm(at)
    }
    fn register(&mut self, socket: &OwnedFd, token: u64) -> Result<(), Errno> {
        self.count(|c| c.register += 1);
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
        self.count(|c| c.recv += 1);
        self.os.recv(socket, buf)
    }
    fn send(&mut self, socket: &OwnedFd, bufs: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.count(|c| c.send += 1);
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
}

/// A loop with `n` clients that block, with deadlines.
fn with_clients(n: usize) -> (Real<Counting>, Vec<TcpStream>) {
    with_clients_that(n, ConnOptions::default())
}

fn with_clients_that(n: usize, options: ConnOptions) -> (Real<Counting>, Vec<TcpStream>) {
    let system = Counting {
        os: Os::new(1024).unwrap(),
        calls: Calls::default(),
    };
    let el = EventLoop::with_system(system, LoopOptions::default()).unwrap();
    let mut real = Real::with_loop(el, options);
    let clients = (0..n).map(|_| {
        let client = real.pair().0;
        client.set_nonblocking(false).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    });
    let clients = clients.collect();
    (real, clients)
}

/// One message from each client, echoed by `echo`, read back by each.
fn round(
    real: &mut Real<Counting>,
    clients: &mut [TcpStream],
    message: &mut [u8],
    echo: fn(&mut EventLoop<Counting>, Event),
) {
    for client in &mut *clients {
        client.write_all(message).unwrap();
    }
    let mut echoed = 0;
    while echoed < clients.len() * message.len() {
        real.el.poll(Some(PATIENCE)).unwrap();
        while let Some(event) = real.el.next_event() {
            if let Event::Data { conn } = event {
                echoed += real.el.conn(conn).unwrap().received().len();
            }
            echo(&mut real.el, event);
        }
    }
    for client in clients {
        client.read_exact(message).unwrap();
    }
}

fn echo_whole(el: &mut EventLoop<Counting>, event: Event) {
    if let Event::Data { conn } = event {
        el.conn(conn).unwrap().send_received(usize::MAX).unwrap();
    }
}

/// Answers in small sends of its own, as a protocol would.
fn echo_in_pieces(el: &mut EventLoop<Counting>, event: Event) {
    let Event::Data { conn } = event else { return };
    let mut view = el.conn(conn).unwrap();
    let mut copy = [0; 64];
    while !view.received().is_empty() {
        let n = view.received().len().min(7);
        copy[..n].copy_from_slice(&view.received()[..n]);
        view.consume(n);
        view.send(&copy[..n]).unwrap();
    }
}

#[test]
fn a_message_costs_one_recv_and_one_send_and_no_registration() {
    const ROUNDS: usize = 50;
    for echo in [echo_whole, echo_in_pieces] {
        let (mut real, mut clients) = with_clients(20);
        let before = CALLS.get();
        for _ in 0..ROUNDS {
            round(&mut real, &mut clients, &mut [5; 64], echo);
        }
        let after = CALLS.get();
        assert_eq!(after.register, before.register, "registered once, for life");
        assert_eq!(after.recv - before.recv, ROUNDS * clients.len());
        assert_eq!(after.send - before.send, ROUNDS * clients.len());
    }
}

#[test]
fn idle_deadlines_and_timers_that_move_do_not_set_the_alarm_anew() {
    const ROUNDS: usize = 50;
    let options = ConnOptions {
        idle_timeout: Some(PATIENCE * 2),
        ..ConnOptions::default()
    };
    let (mut real, mut clients) = with_clients_that(20, options);
    let far = TimerSpec::after(PATIENCE);
    let timer = real.el.add_timer(far).unwrap();
    for _ in 0..2 {
        round(&mut real, &mut clients, &mut [5; 64], echo_whole);
    }
    let before = CALLS.get();
    for _ in 0..ROUNDS {
        real.el.rearm_timer(timer, PATIENCE).unwrap();
        let brief = real.el.add_timer(far).unwrap();
        round(&mut real, &mut clients, &mut [5; 64], echo_whole);
        real.el.cancel_timer(brief).unwrap();
    }
    let after = CALLS.get();
    assert_eq!(after.set_alarm, before.set_alarm);
    assert_eq!(after.send - before.send, ROUNDS * clients.len());
}

#[test]
fn no_message_allocates_in_the_steady_state() {
    for (echo, size) in [
        (echo_whole as fn(&mut _, _), 64),
        (echo_in_pieces, 64),
        (echo_whole, 20_000),
    ] {
        let (mut real, mut clients) = with_clients(20);
        let mut message = vec![5; size];
        for _ in 0..3 {
            round(&mut real, &mut clients, &mut message, echo); // Fills the pool and the lists.
        }
        let counted = allocation_counter::measure(|| {
            for _ in 0..100 {
                round(&mut real, &mut clients, &mut message, echo);
            }
        });
        assert_eq!(counted.count_total, 0, "{size} bytes");
    }
}

#[test]
fn a_piped_message_costs_one_recv_and_one_send_and_no_allocation() {
    let (mut real, mut clients) = with_clients(2);
    let conns = real.el.connections();
    real.el.pipe(conns[0], conns[1]).unwrap();
    let mut message = [5; 20_000];
    let mut round_trips = |n: usize| {
        for _ in 0..n {
            for side in [0, 1] {
                clients[side].write_all(&message).unwrap();
                let sent = real.el.counters().bytes_sent;
                while real.el.counters().bytes_sent < sent + 20_000 {
                    real.el.poll(Some(PATIENCE)).unwrap();
                    assert_eq!(real.el.next_event(), None);
                }
                clients[1 - side].read_exact(&mut message).unwrap();
            }
        }
    };
    round_trips(3);
    let before = CALLS.get();
    let counted = allocation_counter::measure(|| round_trips(50));
    let after = CALLS.get();
    let calls = (after.recv - before.recv, after.send - before.send);
    assert_eq!((counted.count_total, calls), (0, (100, 100)));
}

#[test]
fn what_an_idle_connection_holds_is_its_slot() {
    let (mut real, mut clients) = with_clients(3);
    round(&mut real, &mut clients, &mut [5; 64], echo_whole); // Makes the one read buffer.
    let counted = allocation_counter::measure(|| {
        clients.clear(); // The list itself is the test's.
        real.run_until(|el| el.connection_count() == 0);
    });
    // Closing gives back nothing, since there was nothing but the slot and its place in the line.
    assert!((0..256).contains(&counted.bytes_current), "{counted:?}");
}
