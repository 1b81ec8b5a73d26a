//! Unix sockets: addresses, files, credentials, and that they carry bytes as TCP does.

mod util;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use echoloop_core::{
    Addr, CloseReason, ConnId, ConnectOptions, Error, Event, EventLoop, ListenOptions, ListenerId,
    LoopOptions, Target, UnixAddr,
};
use rustix::io::Errno;
use util::real::PATIENCE;

/// A folder of a test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("echoloop-unix-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("s.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn new_loop() -> EventLoop {
    EventLoop::new(LoopOptions::default()).unwrap()
}

fn listen(el: &mut EventLoop, path: &Path) -> Result<ListenerId, Error> {
    el.listen(UnixAddr::path(path), &ListenOptions::default())
}

fn assert_errno<T: std::fmt::Debug>(result: Result<T, Error>, errno: Errno) {
    assert_eq!(result.unwrap_err().errno(), Some(errno.raw_os_error()));
}

fn next<T>(el: &mut EventLoop, mut look: impl FnMut(Event) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "waited in vain");
        while let Some(event) = el.next_event() {
            if let Some(found) = look(event) {
                return found;
            }
        }
        el.poll(Some(Duration::from_millis(50))).unwrap();
    }
}

fn accepted(el: &mut EventLoop) -> ConnId {
    next(el, |event| match event {
        Event::Accepted { conn, .. } => Some(conn),
        _ => None,
    })
}

fn closed(el: &mut EventLoop, id: ConnId) -> CloseReason {
    next(el, |event| match event {
        Event::Closed { conn, reason, .. } if conn == id => Some(reason),
        _ => None,
    })
}

/// A client that blocks, with a deadline, and the connection it has become.
fn pair(el: &mut EventLoop, path: &Path) -> (UnixStream, ConnId) {
    let client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    let conn = accepted(el);
    (client, conn)
}

#[test]
fn addresses_are_those_of_both_ends_and_an_unnamed_one_is_empty() {
    let folder = Folder::new();
    let name = UnixAddr::abstract_name(format!("echoloop-{}", std::process::id()));
    for addr in [UnixAddr::path(folder.path()), name] {
        let addr = Addr::from(addr);
        let mut el = new_loop();
        let listener = el.listen(&addr, &ListenOptions::default()).unwrap();
        assert_eq!(el.listener_addr(listener).unwrap(), addr);
        let client = el.connect(&addr, &ConnectOptions::default()).unwrap();
        let server = accepted(&mut el);
        let view = el.conn(server).unwrap();
        assert_eq!(view.peer_addr().to_string(), "unix:");
        assert_eq!(view.local_addr().unwrap(), addr);
        let view = el.conn(client).unwrap();
        assert_eq!(view.peer_addr(), &addr);
        assert_eq!(view.local_addr().unwrap().to_string(), "unix:");
    }
}

#[test]
fn a_client_with_a_name_of_its_own_is_known_by_it() {
    let folder = Folder::new();
    let mut el = new_loop();
    listen(&mut el, &folder.path()).unwrap();
    let client = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let name = folder.0.join("client");
    client
        .bind(&socket2::SockAddr::unix(&name).unwrap())
        .unwrap();
    let server = socket2::SockAddr::unix(folder.path()).unwrap();
    client.connect(&server).unwrap();
    let conn = accepted(&mut el);
    let peer = el.conn(conn).unwrap().peer_addr().unix().cloned().unwrap();
    assert_eq!(peer.as_path(), Some(name.as_path()));
}

#[test]
fn the_file_goes_with_the_listener_and_with_the_loop() {
    let folder = Folder::new();
    let path = folder.path();
    let mut el = new_loop();
    let listener = listen(&mut el, &path).unwrap();
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    el.close_listener(listener).unwrap();
    assert!(!path.exists());
    listen(&mut el, &path).unwrap();
    el.shut_down(Duration::ZERO);
    assert!(!path.exists());
    listen(&mut el, &path).unwrap();
    drop(el);
    assert!(!path.exists());
}

#[test]
fn a_file_that_another_has_put_in_place_stays() {
    let folder = Folder::new();
    let path = folder.path();
    let mut el = new_loop();
    let listener = listen(&mut el, &path).unwrap();
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    el.close_listener(listener).unwrap();
    UnixStream::connect(&path).unwrap();

    fs::remove_file(&path).unwrap();
    let listener = listen(&mut el, &path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    el.close_listener(listener).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_forked_child_leaves_the_file_alone() {
    let folder = Folder::new();
    let path = folder.path();
    let mut el = new_loop();
    listen(&mut el, &path).unwrap();
    // SAFETY: the child drops the loop, which takes no lock of another thread, and ends.
    match unsafe { libc::fork() } {
        0 => {
            drop(el);
            // SAFETY: ends the child at once, without the test harness's endings.
            unsafe { libc::_exit(0) }
        }
        child => {
            let mut status = -1;
            // SAFETY: waits for the child just made.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0);
        }
    }
    pair(&mut el, &path);
}

#[test]
fn a_stale_file_is_replaced() {
    let folder = Folder::new();
    let path = folder.path();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let mut el = new_loop();
    listen(&mut el, &path).unwrap();
    pair(&mut el, &path);
    // Nothing else is left in the folder.
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
}

#[test]
fn a_living_server_keeps_its_path_and_is_not_bothered() {
    let folder = Folder::new();
    let path = folder.path();
    let server = UnixListener::bind(&path).unwrap();
    server.set_nonblocking(true).unwrap();
    let mut el = new_loop();
    let e = listen(&mut el, &path).unwrap_err();
    assert_eq!(e.errno(), Some(Errno::ADDRINUSE.raw_os_error()));
    assert_eq!(e.target(), Some(&Target::from(UnixAddr::path(&path))));
    let nobody = server.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
    UnixStream::connect(&path).unwrap();

    // Bound and not listening yet: about to live.
    let path = folder.0.join("young");
    let young = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    young
        .bind(&socket2::SockAddr::unix(&path).unwrap())
        .unwrap();
    assert_errno(listen(&mut el, &path), Errno::ADDRINUSE);
    // Of another type.
    let path = folder.0.join("datagrams");
    let _datagrams = UnixDatagram::bind(&path).unwrap();
    assert_errno(listen(&mut el, &path), Errno::ADDRINUSE);
    assert!(path.exists());
    // This very loop.
    let path = folder.0.join("ours");
    listen(&mut el, &path).unwrap();
    assert_errno(listen(&mut el, &path), Errno::ADDRINUSE);
    pair(&mut el, &path);
}

#[test]
fn what_is_no_socket_is_never_touched() {
    let folder = Folder::new();
    let mut el = new_loop();
    let path = folder.path();
    fs::write(&path, "precious").unwrap();
    assert_errno(listen(&mut el, &path), Errno::NOTSOCK);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert_errno(listen(&mut el, &folder.0), Errno::NOTSOCK);
    // Not even what a link points to.
    let (stale, link) = (folder.0.join("stale"), folder.0.join("link"));
    drop(UnixListener::bind(&stale).unwrap());
    symlink(&stale, &link).unwrap();
    assert_errno(listen(&mut el, &link), Errno::NOTSOCK);
    assert!(stale.exists() && link.is_symlink());
    assert_errno(listen(&mut el, &folder.0.join("no/such")), Errno::NOENT);
}

#[test]
fn a_path_over_107_bytes_is_too_long() {
    let folder = Folder::new();
    let mut el = new_loop();
    let base = folder.0.as_os_str().len() + 1;
    let fits = folder.0.join("x".repeat(107 - base));
    listen(&mut el, &fits).unwrap();
    pair(&mut el, &fits);
    // A stale file is replaced there too.
    let stale = folder.0.join("y".repeat(107 - base));
    drop(UnixListener::bind(&stale).unwrap());
    listen(&mut el, &stale).unwrap();
    let long = folder.0.join("x".repeat(108 - base));
    assert_errno(listen(&mut el, &long), Errno::NAMETOOLONG);
    let long = UnixAddr::path(long);
    let connect = el.connect(long, &ConnectOptions::default());
    assert_errno(connect, Errno::NAMETOOLONG);
    let long = UnixAddr::abstract_name("x".repeat(108));
    let listening = el.listen(long, &ListenOptions::default());
    assert_errno(listening, Errno::NAMETOOLONG);
}

#[test]
fn the_mode_is_what_was_asked_for_whatever_the_umask() {
    let folder = Folder::new();
    let mut el = new_loop();
    for mode in [0o600, 0o660, 0o666, 0o777, 0o000] {
        let options = ListenOptions {
            unix_mode: Some(mode),
            ..ListenOptions::default()
        };
        let path = folder.0.join(format!("{mode:o}"));
        el.listen(UnixAddr::path(&path), &options).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
    }
}

#[test]
fn of_two_that_start_at_once_one_gets_the_path() {
    let folder = Folder::new();
    for round in 0..200 {
        let path = folder.0.join(format!("{round}"));
        if round % 2 == 0 {
            drop(UnixListener::bind(&path).unwrap());
        }
        let barrier = Barrier::new(2);
        let start = || {
            let mut el = new_loop();
            barrier.wait();
            let listening = listen(&mut el, &path);
            barrier.wait();
            match listening {
                Ok(_) => {
                    pair(&mut el, &path);
                    1
                }
                Err(e) => {
                    assert_eq!(e.errno(), Some(Errno::ADDRINUSE.raw_os_error()), "{e}");
                    0
                }
            }
        };
        let winners = std::thread::scope(|s| {
            let other = s.spawn(start);
            start() + other.join().unwrap()
        });
        assert_eq!(winners, 1, "round {round}");
    }
}

#[test]
fn the_peer_has_credentials_on_unix_sockets_alone() {
    let folder = Folder::new();
    let mut el = new_loop();
    listen(&mut el, &folder.path()).unwrap();
    let addr = UnixAddr::path(folder.path());
    let client = el.connect(addr, &ConnectOptions::default()).unwrap();
    let server = accepted(&mut el);
    let us = fs::metadata(&folder.0).unwrap();
    for id in [client, server] {
        let peer = el.conn(id).unwrap().peer_credentials().unwrap();
        assert_eq!(peer.pid, Some(std::process::id() as i32));
        assert_eq!(peer.uid, us.uid());
        assert_eq!(peer.gid, us.gid());
    }
    el.conn(client).unwrap().abort();
    let dead = el.conn(client).unwrap().peer_credentials();
    assert_errno(dead, Errno::BADF);

    let tcp = el.listen("127.0.0.1:0", &ListenOptions::default()).unwrap();
    let addr = el.listener_addr(tcp).unwrap();
    let _client = std::net::TcpStream::connect(addr.ip().unwrap()).unwrap();
    let conn = accepted(&mut el);
    let nobody = el.conn(conn).unwrap().peer_credentials();
    assert_errno(nobody, Errno::OPNOTSUPP);
}

#[test]
fn a_refused_connect_is_one_closed() {
    let folder = Folder::new();
    let mut el = new_loop();
    let stale = folder.path();
    drop(UnixListener::bind(&stale).unwrap());
    for (path, errno) in [
        (stale, Errno::CONNREFUSED),
        (folder.0.join("none"), Errno::NOENT),
    ] {
        let addr = UnixAddr::path(path);
        let id = el.connect(addr, &ConnectOptions::default()).unwrap();
        let reason = closed(&mut el, id);
        assert_eq!(reason, CloseReason::ConnectFailed(errno.raw_os_error()));
    }
    let strange = ConnectOptions {
        local: Some("127.0.0.1:0".parse().unwrap()),
        ..ConnectOptions::default()
    };
    let connect = el.connect(UnixAddr::path(folder.path()), &strange);
    assert_errno(connect, Errno::AFNOSUPPORT);
}
