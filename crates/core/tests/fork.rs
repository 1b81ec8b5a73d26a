//! Loops and fork(2), with real forks: a program of one thread, so no test harness around it.

mod util;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use echoloop_core::{
    CloseReason, ConnId, ConnOptions, ConnectOptions, Error, ErrorKind, Event, EventLoop, Interest,
    ListenOptions, LoopOptions, Selector, TimerSpec, UdpOptions, WatchMode,
};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use rustix::event::{PollFd, PollFlags, Timespec};
use util::real::{PATIENCE, Real, read_some};

macro_rules! tests {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), $name as fn())),*] };
}

fn main() {
    // `cargo test name` and the flags of the harness go here too.
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let tests = tests![
        in_the_child_a_loop_answers_with_an_error_of_its_own,
        a_loop_dropped_in_the_child_does_not_disturb_the_parent,
        after_fork_the_child_serves_its_own_loop,
        closing_in_the_child_does_not_disturb_the_parent,
        signals_timers_watches_and_posts_work_in_the_child,
        what_is_handled_at_the_fork_is_over_in_the_child,
        a_handler_of_the_parent_is_not_timed_in_the_child,
        what_was_sent_before_the_fork_leaves_once,
        a_watch_that_is_told_dead_at_the_fork_is_gone_in_the_child,
        a_watch_and_a_selector_in_the_child_do_not_disturb_the_parent,
        a_nested_loop_in_the_child_leaves_the_alarm_of_the_parent_alone,
        all_descriptors_are_close_on_exec,
    ];
    for (name, test) in tests {
        if wanted.as_ref().is_none_or(|w| name.contains(w.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
}

/// Runs `child` in a fork, and sees that it does not fail.
fn in_a_child(child: impl FnOnce()) {
    // SAFETY: this program has one thread, so the child may do whatever its parent may.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let failed = catch_unwind(AssertUnwindSafe(child)).is_err();
            std::process::exit(i32::from(failed));
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
        }
    }
}

fn pair() -> (Real, TcpStream, ConnId) {
    let mut real = Real::new(ConnOptions::default());
    let (client, conn) = newcomer(&mut real);
    while !turn(&mut real.el).is_empty() {}
    (real, client, conn)
}

fn newcomer(real: &mut Real) -> (TcpStream, ConnId) {
    let (client, conn) = real.pair();
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    (client, conn)
}

fn turn(el: &mut EventLoop) -> Vec<Event> {
    el.poll(Some(Duration::from_millis(20))).unwrap();
    std::iter::from_fn(|| el.next_event()).collect()
}

fn until(el: &mut EventLoop, mut wanted: impl FnMut(Event) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !turn(el).into_iter().any(&mut wanted) {
        assert!(Instant::now() < deadline, "waited in vain");
    }
}

/// The connection works, in both directions.
fn echoes(real: &mut Real, client: &mut TcpStream, conn: ConnId) {
    client.write_all(b"hello").unwrap();
    real.until(|el, e| {
        (e == Event::Data { conn }).then(|| el.conn(conn).unwrap().send_received(5).unwrap())
    });
    turn(&mut real.el);
    let mut got = [0; 5];
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
}

fn in_the_child_a_loop_answers_with_an_error_of_its_own() {
    let (mut real, mut client, conn) = pair();
    let null = std::fs::File::open("/dev/null").unwrap();
    in_a_child(|| {
        let el = &mut real.el;
        let forked = |e: Option<Error>| assert_eq!(e.unwrap().kind(), ErrorKind::Forked);
        forked(el.poll(Some(Duration::ZERO)).err());
        assert_eq!(el.next_event(), None);
        let any = "127.0.0.1:0";
        forked(el.listen(any, &ListenOptions::default()).err());
        forked(el.connect(real.addr, &ConnectOptions::default()).err());
        forked(el.bind_udp(any, &UdpOptions::default()).err());
        forked(el.resolve("localhost", None).err());
        forked(el.watch_signal(Signal::SIGUSR1 as i32).err());
        let watched = el.watch(&null, Interest::READABLE, WatchMode::Level);
        forked(watched.err());
        forked(el.give_away(conn).err());
        forked(el.poll(None).err());
    });
    echoes(&mut real, &mut client, conn);
    assert!(real.el.after_fork().is_ok(), "nothing to do in the parent");
    echoes(&mut real, &mut client, conn);
}

fn a_loop_dropped_in_the_child_does_not_disturb_the_parent() {
    let (mut real, mut client, conn) = pair();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let watch = real
        .el
        .watch(&reader, Interest::READABLE, WatchMode::Level)
        .unwrap();
    real.el.conn(conn).unwrap().send(b"once").unwrap(); // Not flushed yet.
    let mut real = Some(real);
    in_a_child(|| drop(real.take())); // Flushes nothing: the parent does.
    in_a_child(|| {
        let mut real = real.take().unwrap();
        real.el.unwatch(watch).unwrap();
        real.el.conn(conn).unwrap().abort();
        drop(real);
    });
    let mut real = real.unwrap();
    turn(&mut real.el);
    let mut got = [0; 4];
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"once");
    echoes(&mut real, &mut client, conn);
    writer.write_all(b"x").unwrap();
    until(&mut real.el, |e| matches!(e, Event::Watch { .. }));
    real.el.unwatch(watch).unwrap();
    let (mut new, accepted) = newcomer(&mut real);
    echoes(&mut real, &mut new, accepted);
    let given = real.el.give_away(conn).unwrap();
    let linger = socket2::SockRef::from(&given.socket).linger().unwrap();
    assert_eq!(linger, None, "a close of it would be a reset");
}

fn after_fork_the_child_serves_its_own_loop() {
    let (mut real, mut client, conn) = pair();
    in_a_child(|| {
        real.el.after_fork().unwrap();
        echoes(&mut real, &mut client, conn);
        let (mut new, accepted) = newcomer(&mut real);
        echoes(&mut real, &mut new, accepted);
        in_a_child(|| {
            assert_eq!(real.el.poll(None).unwrap_err().kind(), ErrorKind::Forked);
            real.el.after_fork().unwrap();
            echoes(&mut real, &mut client, conn);
        });
        echoes(&mut real, &mut new, accepted);
    });
    echoes(&mut real, &mut client, conn);
}

fn closing_in_the_child_does_not_disturb_the_parent() {
    for abort in [false, true] {
        let (mut real, mut client, conn) = pair();
        let mut both = Some(real);
        in_a_child(|| {
            let mut real = both.take().unwrap();
            real.el.after_fork().unwrap();
            let mut view = real.el.conn(conn).unwrap();
            let reason = if abort {
                view.abort();
                CloseReason::AbortedHere
            } else {
                view.send(b"from the child").unwrap();
                view.close();
                CloseReason::ClosedHere
            };
            until(
                &mut real.el,
                |e| matches!(e, Event::Closed { reason: r, .. } if r == reason),
            );
            real.el.shut_down(Duration::ZERO);
        });
        real = both.unwrap();
        if !abort {
            let mut got = [0; 14];
            client.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"from the child");
        }
        echoes(&mut real, &mut client, conn);
        let (mut new, accepted) = newcomer(&mut real);
        echoes(&mut real, &mut new, accepted);
    }
}

fn signals_timers_watches_and_posts_work_in_the_child() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    el.watch_signal(Signal::SIGUSR1 as i32).unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    el.watch(&reader, Interest::READABLE, WatchMode::OneShot)
        .unwrap();
    let soon = TimerSpec::after(Duration::from_millis(50));
    let timer = el.add_timer(soon).unwrap();
    let remote = el.remote();
    remote.post(1).unwrap();
    el.descriptor();
    in_a_child(|| {
        el.after_fork().unwrap();
        until(&mut el, |e| e == Event::Posted { word: 1 });
        remote.post(2).unwrap();
        until(&mut el, |e| e == Event::Posted { word: 2 });
        raise(Signal::SIGUSR1).unwrap();
        until(&mut el, |e| matches!(e, Event::Signal { .. }));
        until(&mut el, |e| e == Event::Timer { timer });
        writer.write_all(b"x").unwrap();
        until(&mut el, |e| matches!(e, Event::Watch { .. }));
    });
    // The parent is told of nothing that was the child's, save of the pipe, which is both's.
    let mut told = Vec::new();
    until(&mut el, |e| {
        told.push(e);
        e == Event::Timer { timer }
    });
    let shared = |e: &Event| matches!(e, Event::Timer { .. } | Event::Watch { .. });
    told.retain(|e| !shared(e));
    assert_eq!(told, [Event::Posted { word: 1 }]);
}

/// A one-shot timer stayed for ever, and a `Closed` was told once more.
fn what_is_handled_at_the_fork_is_over_in_the_child() {
    let (mut real, client, _) = pair();
    let soon = TimerSpec::after(Duration::from_millis(1));
    real.el.add_timer(soon).unwrap();
    drop(client);
    for _ in 0..2 {
        real.until(|el, e| {
            if !matches!(e, Event::Timer { .. } | Event::Closed { .. }) {
                return None;
            }
            let others = el.live_handles() - 1;
            in_a_child(|| {
                el.after_fork().unwrap();
                assert_eq!(el.live_handles(), others, "after {e:?}");
                assert!(!turn(el).contains(&e), "told once more");
            });
            Some(())
        });
    }
}

/// The first thing that the child sent brought a report of the handler that had forked.
fn a_handler_of_the_parent_is_not_timed_in_the_child() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let (tell, told) = channel();
    el.on_slow_handler(Duration::ZERO, move |slow| tell.send(slow.event).unwrap());
    let udp = el.bind_udp("127.0.0.1:0", &UdpOptions::default()).unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = peer.local_addr().unwrap();
    el.remote().post(1).unwrap();
    el.poll(Some(PATIENCE)).unwrap();
    assert_eq!(el.next_event(), Some(Event::Posted { word: 1 }));
    in_a_child(|| {
        el.after_fork().unwrap();
        el.udp(udp).unwrap().send_to(to, b"from the child").unwrap();
        assert!(turn(&mut el).is_empty());
        assert!(told.try_recv().is_err());
    });
    assert!(turn(&mut el).is_empty());
    assert_eq!(told.try_recv(), Ok(Event::Posted { word: 1 }));
}

fn what_was_sent_before_the_fork_leaves_once() {
    let (mut real, mut client, conn) = pair();
    real.el.conn(conn).unwrap().send(b"small").unwrap();
    in_a_child(|| {
        real.el.after_fork().unwrap();
        turn(&mut real.el);
    });
    let sent = vec![7; 3 << 20];
    real.el.conn(conn).unwrap().send(&sent).unwrap();
    real.el.conn(conn).unwrap().send(&sent).unwrap(); // More than the kernel takes.
    assert!(real.el.conn(conn).unwrap().queued() > 0);
    in_a_child(|| {
        real.el.after_fork().unwrap();
        assert_eq!(real.el.conn(conn).unwrap().queued(), 0);
        turn(&mut real.el);
    });
    let all = 5 + 2 * sent.len();
    let deadline = Instant::now() + PATIENCE;
    client.set_nonblocking(true).unwrap();
    let mut got = Vec::new();
    while got.len() < all {
        assert!(Instant::now() < deadline, "waited in vain");
        read_some(&mut client, &mut got);
        turn(&mut real.el);
    }
    read_some(&mut client, &mut got);
    assert!(got.len() == all && got.starts_with(b"small"));
    assert!(got[5..].iter().all(|b| *b == 7));
}

/// It stayed in the child's table for ever.
fn a_watch_that_is_told_dead_at_the_fork_is_gone_in_the_child() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let (interest, mode) = (Interest::READABLE, WatchMode::Level);
    let watch = el.watch(&reader, interest, mode).unwrap();
    drop(reader);
    el.poll(Some(PATIENCE)).unwrap();
    let told = el.next_event();
    assert!(matches!(told, Some(Event::WatchDead { watch: w, .. }) if w == watch));
    in_a_child(|| {
        el.after_fork().unwrap();
        assert_eq!(el.live_handles(), 0);
        assert!(turn(&mut el).is_empty());
    });
    assert!(turn(&mut el).is_empty());
    assert_eq!(el.live_handles(), 0);
}

fn a_watch_and_a_selector_in_the_child_do_not_disturb_the_parent() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let watch = el
        .watch(&reader, Interest::READABLE, WatchMode::Level)
        .unwrap();
    let mut selector = Selector::new().unwrap();
    selector.register(&reader, Interest::READABLE, 7).unwrap();
    let (fd, null) = (
        reader.as_raw_fd(),
        std::fs::File::open("/dev/null").unwrap(),
    );
    in_a_child(|| {
        let forked = |e: Option<Error>| assert_eq!(e.unwrap().kind(), ErrorKind::Forked);
        forked(el.modify_watch(watch, Interest::NONE).err());
        el.unwatch(watch).unwrap();
        forked(selector.modify(fd, Interest::NONE).err());
        forked(selector.register(&null, Interest::READABLE, 8).err());
        forked(selector.wait(None, &mut Vec::new()).err());
        selector.unregister(fd).unwrap();
        assert!(selector.is_empty());
    });
    writer.write_all(b"x").unwrap();
    until(&mut el, |e| matches!(e, Event::Watch { .. }));
    let mut selected = Vec::new();
    selector.wait(Some(PATIENCE), &mut selected).unwrap();
    assert_eq!((selected[0].key, selected[0].fd), (7, fd));
}

fn a_nested_loop_in_the_child_leaves_the_alarm_of_the_parent_alone() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let fd = el.descriptor().try_clone_to_owned().unwrap();
    let timer = el
        .add_timer(TimerSpec::after(Duration::from_millis(50)))
        .unwrap();
    in_a_child(|| {
        el.cancel_timer(timer).unwrap();
        el.descriptor();
    });
    let patience = Timespec::try_from(PATIENCE).unwrap();
    let mut entry = [PollFd::new(&fd, PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut entry, Some(&patience)), Ok(1));
    until(&mut el, |e| e == Event::Timer { timer });
}

fn all_descriptors_are_close_on_exec() {
    let handed_on = || {
        let listed = Command::new("ls").arg("/proc/self/fd").output().unwrap();
        String::from_utf8(listed.stdout).unwrap()
    };
    let before = handed_on();
    let (mut real, _client, _) = pair();
    let el = &mut real.el;
    el.watch_signal(Signal::SIGUSR1 as i32).unwrap();
    el.descriptor();
    el.bind_udp("127.0.0.1:0", &UdpOptions::default()).unwrap();
    el.connect(real.addr, &ConnectOptions::default()).unwrap();
    assert_eq!(handed_on(), before);
    turn(&mut real.el);
    in_a_child(|| {
        real.el.after_fork().unwrap();
        assert_eq!(handed_on(), before);
    });
}
