//! Sockets that change hands through the C functions: adopt, give away, hand over, share, inherit.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call is one that C could make"
)]

mod util;

use std::ffi::{CStr, c_int, c_void};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::ptr;
use std::thread;

use ::echoloop::*;
use util::faces::{
    BOTH, By, Face, PATIENCE, addr_of, conn_options, connect_options, last_error, listen_options,
    send,
};

const EBADF: c_int = 9; // Linux, errno(3)
const EEXIST: c_int = 17;
const ENOTSOCK: c_int = 88;
const ENOTCONN: c_int = 107;

/// Adopts a descriptor with the defaults.
fn adopt(face: &Face, fd: c_int) -> Result<*mut echoloop_conn, c_int> {
    let mut conn = ptr::null_mut();
    match unsafe { echoloop_adopt(face.el, fd, ptr::null(), &mut conn) } {
        0 => Ok(conn),
        status => Err(status),
    }
}

/// A pair of which one end is a connection, its first event told.
fn half_adopted(face: &Face) -> (UnixStream, *mut echoloop_conn) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let conn = adopt(face, ours.into_raw_fd()).unwrap();
    face.sees(ECHOLOOP_EVENT_ADOPTED, conn);
    (theirs, conn)
}

fn given() -> echoloop_given {
    echoloop_given {
        size: size_of::<echoloop_given>(),
        fd: -1,
        ..Default::default()
    }
}

/// The bytes that C finds behind a pointer and a length.
fn bytes(data: *const u8, len: usize) -> Vec<u8> {
    match data.is_null() {
        true => Vec::new(),
        false => unsafe { std::slice::from_raw_parts(data, len) }.to_vec(),
    }
}

#[test]
fn a_socketpair_goes_in_and_out_and_loses_no_byte() {
    for by in BOTH {
        let face = Face::new(by);
        // Else the queue would keep it from reading.
        let options = echoloop_conn_options {
            no_auto_pause: 1,
            ..conn_options()
        };
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (fd, mut conn) = (ours.into_raw_fd(), ptr::null_mut());
        let status = unsafe { echoloop_adopt(face.el, fd, &options, &mut conn) };
        assert_eq!(status, 0, "{}", last_error());
        let mut word = 7;
        let user: *mut c_void = ptr::from_mut(&mut word).cast();
        assert_eq!(echoloop_conn_set_user(conn, user), 0);
        // More than the kernel takes, so some of it waits here.
        let sent: Vec<u8> = (0..3_000_000).map(|i| (i * 7 / 3) as u8).collect();
        assert_eq!(send(conn, &sent), 0);
        theirs.write_all(b"hello").unwrap();
        let mut out = given();
        face.until(|e| {
            if e.what != ECHOLOOP_EVENT_DATA {
                return false;
            }
            assert_eq!(e.data, b"hello");
            // The program has used "he"; the rest goes along.
            let status = unsafe { echoloop_conn_unread(conn, e.at.add(2).cast(), 3) };
            assert_eq!(status, 0);
            assert_eq!(unsafe { echoloop_give_away(conn, &mut out) }, 0);
            assert_eq!(bytes(out.unread, out.unread_len), b"llo");
            assert!(out.unsent_len > 0 && out.unsent_len < sent.len());
            true
        });
        assert_eq!((out.finishing, out.user), (0, user));
        let unsent = bytes(out.unsent, out.unsent_len);
        let closed = face.sees(ECHOLOOP_EVENT_CLOSED, conn);
        assert_eq!(
            (closed.status, closed.unsent),
            (ECHOLOOP_CLOSE_GIVEN_AWAY, 0)
        );
        // The socket lives on, and the program goes on where the loop was.
        let mut ours = unsafe { UnixStream::from_raw_fd(out.fd) };
        assert_eq!(
            ours.read(&mut [0; 1]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        ours.set_nonblocking(false).unwrap();
        let reading = thread::spawn(move || {
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).unwrap();
            got
        });
        ours.write_all(&unsent).unwrap();
        drop(ours);
        assert!(reading.join().unwrap() == sent);
    }
}

#[test]
fn a_half_close_that_was_asked_for_is_told_to_who_gets_the_socket() {
    let face = Face::new(By::Callbacks);
    let (mut theirs, conn) = half_adopted(&face);
    assert_eq!(send(conn, &vec![0; 3_000_000]), 0);
    assert_eq!(echoloop_conn_shutdown_write(conn), 0);
    let mut out = given();
    assert_eq!(unsafe { echoloop_give_away(conn, &mut out) }, 0);
    assert_eq!((out.finishing, out.unread_len), (1, 0));
    assert!(out.unread.is_null() && out.unsent_len > 0);
    let unsent = bytes(out.unsent, out.unsent_len);
    let mut ours = unsafe { UnixStream::from_raw_fd(out.fd) };
    let reading = thread::spawn(move || theirs.read_to_end(&mut Vec::new()).unwrap());
    ours.set_nonblocking(false).unwrap();
    ours.write_all(&unsent).unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    assert_eq!(reading.join().unwrap(), 3_000_000);
}

#[test]
fn what_can_not_be_adopted_stays_open_and_the_callers() {
    let face = Face::new(By::Batches);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let bare = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    assert_eq!(adopt(&face, listener.as_raw_fd()), Err(ECHOLOOP_EINVAL));
    assert_eq!(adopt(&face, file.as_raw_fd()), Err(-ENOTSOCK));
    assert_eq!(adopt(&face, bare.as_raw_fd()), Err(-ENOTCONN));
    for closed in [-1, c_int::MIN, c_int::MAX, 100_000] {
        assert_eq!(adopt(&face, closed), Err(-EBADF));
    }
    assert!(last_error().contains("100000"), "{}", last_error());
    let adopt_listener = |fd| {
        let mut out = ptr::null_mut();
        unsafe { echoloop_adopt_listener(face.el, fd, ptr::null(), &mut out) }
    };
    assert_eq!(adopt_listener(bare.as_raw_fd()), ECHOLOOP_EINVAL);
    assert_eq!(adopt_listener(file.as_raw_fd()), -ENOTSOCK);
    assert_eq!(adopt_listener(-1), -EBADF);
    // All are what they were.
    TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.accept().unwrap();
    file.metadata().unwrap();
    bare.r#type().unwrap();
    assert_eq!(live_in(&face), 0);
}

/// Connections of a loop.
fn live_in(face: &Face) -> u64 {
    let mut counters = echoloop_counters {
        size: size_of::<echoloop_counters>(),
        ..Default::default()
    };
    assert_eq!(unsafe { echoloop_counters_get(face.el, &mut counters) }, 0);
    counters.connections
}

#[test]
fn a_socket_that_is_a_connection_already_is_refused_and_goes_on() {
    for by in BOTH {
        let face = Face::new(by);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let fd = ours.into_raw_fd();
        let conn = adopt(&face, fd).unwrap();
        assert_eq!(adopt(&face, fd), Err(-EEXIST));
        assert_eq!(adopt(&face, fd), Err(-EEXIST));
        theirs.write_all(b"still here").unwrap();
        assert_eq!(face.sees(ECHOLOOP_EVENT_DATA, conn).data, b"still here");
        assert_eq!(live_in(&face), 1);
    }
}

#[test]
fn a_struct_that_can_not_hold_the_descriptor_is_refused_and_nothing_is_lost() {
    let face = Face::new(By::Batches);
    let (mut theirs, conn) = half_adopted(&face);
    for size in [0, 8, 16, size_of::<echoloop_given>() - 8] {
        let mut small = echoloop_given { size, ..given() };
        let status = unsafe { echoloop_give_away(conn, &mut small) };
        assert_eq!((status, small.fd), (ECHOLOOP_EINVAL, -1));
    }
    assert_eq!(
        unsafe { echoloop_give_away(conn, ptr::null_mut()) },
        ECHOLOOP_ENULL
    );
    theirs.write_all(b"intact").unwrap();
    assert_eq!(face.sees(ECHOLOOP_EVENT_DATA, conn).data, b"intact");
}

#[test]
fn a_connection_handed_to_another_threads_loop_goes_on_there() {
    for by in BOTH {
        let (tell, told) = std::sync::mpsc::channel();
        let other = thread::spawn(move || {
            let face = Face::new(by);
            let mut remote = ptr::null_mut();
            assert_eq!(unsafe { echoloop_remote_new(face.el, &mut remote) }, 0);
            tell.send(remote.addr()).unwrap();
            let (mut got, mut order) = (Vec::new(), Vec::new());
            face.until(|e| {
                order.push(e.what);
                if e.what == ECHOLOOP_EVENT_ADOPTED {
                    let mut user = ptr::null_mut();
                    assert_eq!(unsafe { echoloop_conn_user(e.conn, &mut user) }, 0);
                    assert_eq!(user.addr(), 42);
                }
                got.extend(&e.data);
                if e.what == ECHOLOOP_EVENT_DATA && got.ends_with(b"\n") {
                    assert_eq!(send(e.conn, b"thanks"), 0);
                    assert_eq!(echoloop_conn_close(e.conn), 0);
                }
                e.what == ECHOLOOP_EVENT_CLOSED
            });
            // In order with the posts: one before it, one after.
            order.retain(|what| [ECHOLOOP_EVENT_POSTED, ECHOLOOP_EVENT_ADOPTED].contains(what));
            let post = ECHOLOOP_EVENT_POSTED;
            assert_eq!(order, [post, ECHOLOOP_EVENT_ADOPTED, post]);
            assert_eq!(echoloop_remote_free(remote), 0);
            String::from_utf8(got).unwrap()
        });
        let remote = ptr::without_provenance_mut(told.recv().unwrap());
        let face = Face::new(by);
        let listener = face.listen(b"127.0.0.1:0", &listen_options());
        let addr = String::from_utf8(addr_of(echoloop_listener_addr, listener)).unwrap();
        let mut client = TcpStream::connect(addr).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"half a ").unwrap();
        let mut conn = ptr::null_mut();
        face.until(|e| {
            if e.what != ECHOLOOP_EVENT_DATA {
                return false;
            }
            conn = e.conn;
            let word = ptr::without_provenance_mut(42);
            assert_eq!(echoloop_conn_set_user(conn, word), 0);
            let status = unsafe { echoloop_conn_unread(conn, e.at.cast(), e.data.len()) };
            assert_eq!(status, 0);
            assert_eq!(send(conn, b"many "), 0);
            assert_eq!(echoloop_remote_post(remote, ptr::null_mut()), 0);
            assert_eq!(echoloop_hand_over(conn, remote), 0, "{}", last_error());
            assert_eq!(echoloop_remote_post(remote, ptr::null_mut()), 0);
            assert_eq!(send(conn, b"x"), ECHOLOOP_ECLOSING);
            true
        });
        let closed = face.sees(ECHOLOOP_EVENT_CLOSED, conn);
        assert_eq!(
            (closed.status, closed.unsent),
            (ECHOLOOP_CLOSE_GIVEN_AWAY, 0)
        );
        client.write_all(b"line\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "many thanks");
        drop(client);
        assert_eq!(other.join().unwrap(), "half a line\n");
    }
}

#[test]
fn a_connection_whose_new_loop_is_gone_stays() {
    let face = Face::new(By::Batches);
    let (mut theirs, conn) = half_adopted(&face);
    let gone = Face::new(By::Batches);
    let mut remote = ptr::null_mut();
    assert_eq!(unsafe { echoloop_remote_new(gone.el, &mut remote) }, 0);
    drop(gone);
    assert_eq!(echoloop_hand_over(conn, remote), ECHOLOOP_ECLOSED);
    assert_eq!(echoloop_remote_free(remote), 0);
    assert_eq!(echoloop_hand_over(conn, remote), ECHOLOOP_EBADHANDLE);
    assert_eq!(
        echoloop_hand_over(conn, ptr::null_mut()),
        ECHOLOOP_EBADHANDLE
    );
    theirs.write_all(b"intact").unwrap();
    assert_eq!(face.sees(ECHOLOOP_EVENT_DATA, conn).data, b"intact");
}

#[test]
fn a_shared_listener_goes_on_in_another_loop_and_turns_nobody_away() {
    for by in BOTH {
        let (old, new) = (Face::new(by), Face::new(by));
        let first = old.listen(b"127.0.0.1:0", &listen_options());
        let addr = addr_of(echoloop_listener_addr, first);
        let fd = echoloop_listener_share(first);
        assert!(fd > 2);
        // Waits in the backlog while the listener changes hands.
        let conn = new.connect(&addr, &connect_options());
        let mut second = ptr::null_mut();
        let status = unsafe { echoloop_adopt_listener(new.el, fd, ptr::null(), &mut second) };
        assert_eq!(status, 0, "{}", last_error());
        assert_eq!(echoloop_listener_close(first), 0);
        assert_eq!(addr_of(echoloop_listener_addr, second), addr);
        assert_eq!(send(conn, b"anybody there?"), 0);
        let opened = new.sees_any(|e| e.what == ECHOLOOP_EVENT_OPENED);
        assert_eq!(opened.listener, second);
        assert_eq!(
            new.sees(ECHOLOOP_EVENT_DATA, opened.conn).data,
            b"anybody there?"
        );
        assert_eq!(echoloop_listener_share(first), ECHOLOOP_EBADHANDLE);
    }
}

/// Says that this is the child of the test below.
const ROLE: &str = "ECHOLOOP_CAPI_INHERITS";

/// Not a test by itself: what the child does, in which the variables of sd_listen_fds(3) are set.
#[test]
fn the_child_takes_what_it_inherited() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let mut fds = [echoloop_inherited_fd {
        fd: -1,
        name: [0; ECHOLOOP_FD_NAME_MAX],
    }; 2];
    assert_eq!(
        unsafe { echoloop_inherited(ptr::null_mut(), 1) },
        ECHOLOOP_ENULL
    );
    assert_eq!(unsafe { echoloop_inherited(ptr::null_mut(), 0) }, 0);
    let face = Face::new(By::Batches);
    for (fd, name) in [(3, "web"), (4, "admin")] {
        assert_eq!(unsafe { echoloop_inherited(fds.as_mut_ptr(), 1) }, 1);
        let told = unsafe { CStr::from_ptr(fds[0].name.as_ptr()) };
        assert_eq!((fds[0].fd, told.to_str()), (fd, Ok(name)));
        let mut listener = ptr::null_mut();
        let status = unsafe { echoloop_adopt_listener(face.el, fd, ptr::null(), &mut listener) };
        assert_eq!(status, 0, "{}", last_error());
    }
    assert_eq!(unsafe { echoloop_inherited(fds.as_mut_ptr(), 2) }, 0);
    let mut greeted = 0;
    face.until(|e| {
        if e.what == ECHOLOOP_EVENT_OPENED {
            assert_eq!(send(e.conn, b"hello"), 0);
            assert_eq!(echoloop_conn_close(e.conn), 0);
        }
        greeted += usize::from(e.what == ECHOLOOP_EVENT_CLOSED);
        greeted == 2
    });
}

#[test]
fn listeners_of_a_service_manager_are_handed_out_once_with_their_names() {
    let (web, admin) = (
        TcpListener::bind("127.0.0.1:0").unwrap(),
        TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    let addrs = [web.local_addr().unwrap(), admin.local_addr().unwrap()];
    // A shell puts the two at 3 and 4, sets the variables and becomes the program.
    let script = "exec 3<&0 4<&2 0</dev/null 2>&1; \
                  export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:admin; exec \"$@\"";
    let child = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "the_child_takes_what_it_inherited",
            "--nocapture",
        ])
        .env(ROLE, "1")
        .stdin(std::os::fd::OwnedFd::from(web))
        .stderr(std::os::fd::OwnedFd::from(admin))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for addr in addrs {
        let mut client = TcpStream::connect(addr).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut got = String::new();
        client.read_to_string(&mut got).unwrap();
        assert_eq!(got, "hello");
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}
