//! Listeners that a service manager opened, in a real child process, and others that are adopted.

mod util;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use echoloop_core::{
    ConnOptions, ErrorKind, Event, EventLoop, ListenOptions, LoopOptions, inherited_listeners,
};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{Errno, FdFlags, fcntl_getfd};
use util::real::PATIENCE;

/// Tells the test program that it is the child, and what to do.
const ROLE: &str = "ECHOLOOP_TEST_ROLE";

/// Runs this program again as `the_child`, started by a shell that puts the two descriptors at 3
/// and 4, sets the variables by `script` and becomes the program: what a service manager does.
fn start(role: &str, script: &str, third: impl Into<OwnedFd>, fourth: impl Into<OwnedFd>) -> Child {
    let script = format!("exec 3<&0 4<&2 0</dev/null 2>&1; {script}; exec \"$@\"");
    Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdin(third.into())
        .stdout(Stdio::piped())
        .stderr(fourth.into())
        .spawn()
        .unwrap()
}

/// What the child printed; it must have ended well.
fn output(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

/// Two sockets for those who need some.
fn two() -> (UnixListener, TcpListener, std::path::PathBuf) {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("echoloop-inherited-{}-{count}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let unix = UnixListener::bind(&path).unwrap();
    (unix, TcpListener::bind("127.0.0.1:0").unwrap(), path)
}

/// Not a test by itself: what a child process does, in which the variables are set.
#[test]
fn the_child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let inherited = inherited_listeners();
    if role == "print" {
        match inherited {
            Ok(list) => println!("inherited {}", list.len()),
            Err(e) => {
                println!("{e}");
                let again = inherited_listeners().unwrap_err();
                assert_eq!(again.kind(), e.kind(), "nothing was taken");
            }
        }
        return;
    }
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    for inherited in inherited.unwrap() {
        let flags = fcntl_getfd(&inherited.fd).unwrap();
        assert!(flags.contains(FdFlags::CLOEXEC));
        let flags = fcntl_getfl(&inherited.fd).unwrap();
        assert!(flags.contains(OFlags::NONBLOCK));
        let options = ListenOptions::default();
        let listener = el.adopt_listener(inherited.fd, &options).unwrap();
        let addr = el.listener_addr(listener).unwrap();
        println!("{} on {addr}", inherited.name);
    }
    assert!(inherited_listeners().unwrap().is_empty());
    let (mut closed, deadline) = (0, Instant::now() + PATIENCE);
    while closed < 2 {
        assert!(Instant::now() < deadline, "waited in vain");
        el.poll(Some(Duration::from_millis(100))).unwrap();
        while let Some(event) = el.next_event() {
            match event {
                Event::Data { conn } => {
                    el.conn(conn).unwrap().send_received(usize::MAX).unwrap();
                }
                Event::Closed { .. } => closed += 1,
                _ => {}
            }
        }
    }
    drop(el);
    println!("served");
}

#[test]
fn a_child_serves_on_what_it_inherits_under_its_names() {
    let (unix, tcp, path) = two();
    let addr = tcp.local_addr().unwrap();
    // They knock before the server runs, and wait in the backlog.
    let mut a = UnixStream::connect(&path).unwrap();
    let mut b = TcpStream::connect(addr).unwrap();
    a.set_read_timeout(Some(PATIENCE)).unwrap();
    b.set_read_timeout(Some(PATIENCE)).unwrap();
    a.write_all(b"over unix").unwrap();
    b.write_all(b"over tcp").unwrap();
    let script = "export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=local:web";
    let child = start("serve", script, unix, tcp);
    let mut buf = [0; 9];
    a.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"over unix");
    b.read_exact(&mut buf[..8]).unwrap();
    assert_eq!(&buf[..8], b"over tcp");
    drop((a, b));
    let text = output(child);
    assert!(
        text.contains(&format!("local on unix:{}\n", path.display())),
        "{text}"
    );
    assert!(text.contains(&format!("web on {addr}\n")), "{text}");
    assert!(text.contains("served\n"), "{text}");
    assert!(path.exists(), "the file is not the child's to remove");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_is_for_another_process_or_wrong_is_not_taken() {
    for (script, says) in [
        ("export LISTEN_FDS=2", "inherited 0"),
        ("export LISTEN_PID=$$", "inherited 0"),
        ("export LISTEN_PID=1 LISTEN_FDS=2", "inherited 0"),
        ("export LISTEN_PID=1 LISTEN_FDS=two", "inherited 0"),
        ("export LISTEN_FDS=4294967295", "inherited 0"),
        ("export LISTEN_PID=$$ LISTEN_FDS=0", "inherited 0"),
        ("export LISTEN_PID=$$ LISTEN_FDS=1", "inherited 1"),
        ("export LISTEN_PID=$$ LISTEN_FDS=two", "no number"),
        ("export LISTEN_PID=me LISTEN_FDS=2", "no number"),
        ("export LISTEN_PID=$$ LISTEN_FDS=4294967295", "too large"),
        (
            "export LISTEN_PID=$$ LISTEN_FDS=2; exec 4<&-",
            "descriptor 4 is not open",
        ),
    ] {
        let (unix, tcp, path) = two();
        let text = output(start("print", script, unix, tcp));
        assert!(text.contains(says), "{script}: {text}");
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn nothing_is_changed_where_one_is_not_open() {
    let (unix, tcp, path) = two();
    let same = unix.try_clone().unwrap();
    let script = "export LISTEN_PID=$$ LISTEN_FDS=2; exec 4<&-";
    let text = output(start("print", script, unix, tcp));
    assert!(text.contains("descriptor 4 is not open"), "{text}");
    assert!(!fcntl_getfl(&same).unwrap().contains(OFlags::NONBLOCK));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn nothing_is_inherited_where_nothing_was_passed() {
    assert!(inherited_listeners().unwrap().is_empty());
}

#[test]
fn an_adopted_listener_accepts_who_waits_and_then_others() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let first = TcpStream::connect(addr).unwrap();
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let options = ListenOptions {
        conn: ConnOptions {
            idle_timeout: Some(Duration::ZERO),
            ..ConnOptions::default()
        },
        ..ListenOptions::default()
    };
    let id = el.adopt_listener(listener.into(), &options).unwrap();
    assert_eq!(el.listener_addr(id).unwrap().ip(), Some(addr));
    let second = TcpStream::connect(addr).unwrap();
    let expected = [&first, &second].map(|c| c.local_addr().unwrap());
    let (mut peers, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    let mut timed_out = 0;
    while timed_out < 2 {
        assert!(Instant::now() < deadline, "waited in vain");
        el.poll(Some(Duration::from_millis(100))).unwrap();
        while let Some(event) = el.next_event() {
            match event {
                Event::Accepted { conn, listener } => {
                    assert_eq!(listener, id);
                    peers.push(el.conn(conn).unwrap().peer_addr().ip().unwrap());
                }
                // The options of the connections count.
                Event::Closed { .. } => timed_out += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(peers, expected);
    el.close_listener(id).unwrap();
}

#[test]
fn what_is_no_stream_listener_is_not_adopted() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let mut adopt = |fd: OwnedFd| {
        el.adopt_listener(fd, &ListenOptions::default())
            .unwrap_err()
    };
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let e = adopt(udp.into());
    let why = "socket is neither a TCP nor a Unix stream socket";
    assert_eq!(e.kind(), ErrorKind::InvalidInput(why));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let e = adopt(client.into());
    assert_eq!(e.kind(), ErrorKind::InvalidInput("socket does not listen"));
    let file = std::fs::File::open("/dev/null").unwrap();
    let e = adopt(file.into());
    assert_eq!(e.errno(), Some(Errno::NOTSOCK.raw_os_error()));
    assert_eq!(el.live_handles(), 0);
}

#[test]
fn an_adopted_socket_file_stays_and_its_listener_is_made_fit() {
    let (unix, _, path) = two();
    rustix::io::fcntl_setfd(&unix, FdFlags::empty()).unwrap();
    let other = unix.try_clone().unwrap();
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let id = el
        .adopt_listener(unix.into(), &ListenOptions::default())
        .unwrap();
    let flags = fcntl_getfl(other.as_fd()).unwrap();
    assert!(flags.contains(OFlags::NONBLOCK));
    el.close_listener(id).unwrap();
    drop(el);
    UnixStream::connect(&path).unwrap();
    std::fs::remove_file(path).unwrap();
}
