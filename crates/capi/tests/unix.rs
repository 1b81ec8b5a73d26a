//! Unix sockets through the C functions: paths, abstract names, credentials, the longest addresses.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call is one that C could make"
)]

mod util;

use std::ffi::CString;
use std::fs;
use std::os::fd::IntoRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::ptr;

use ::echoloop::*;
use util::faces::{
    BOTH, By, Face, Happened, addr_of, connect_options, last_error, listen_options, send,
};

/// A folder with a short path, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let name = format!("echoloop-unix-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn addr(&self, file: &[u8]) -> Vec<u8> {
        [b"unix:", self.0.as_os_str().as_bytes(), b"/", file].concat()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Listens, connects, and carries bytes both ways; the address as each side has it.
fn talk(face: &Face, addr: &[u8]) {
    let listener = face.listen(addr, &listen_options());
    assert_eq!(addr_of(echoloop_listener_addr, listener), addr);
    let client = face.connect(addr, &connect_options());
    let mut echoed: Vec<u8> = Vec::new();
    assert_eq!(send(client, b"hello"), 0);
    face.until(|e| match e.what {
        ECHOLOOP_EVENT_OPENED => {
            assert_eq!(e.listener, listener);
            assert_eq!(addr_of(echoloop_conn_local_addr, e.conn), addr);
            assert_eq!(addr_of(echoloop_conn_peer_addr, e.conn), b"unix:");
            let mut peer = echoloop_credentials {
                size: size_of::<echoloop_credentials>(),
                ..Default::default()
            };
            let status = unsafe { echoloop_conn_peer_credentials(e.conn, &mut peer) };
            assert_eq!((status, peer.pid), (0, std::process::id().into()));
            let me = fs::metadata("/proc/self").unwrap();
            use std::os::unix::fs::MetadataExt;
            assert_eq!((peer.uid, peer.gid), (me.uid(), me.gid()));
            false
        }
        ECHOLOOP_EVENT_DATA if e.conn == client => {
            echoed.extend(&e.data);
            echoed == b"hello"
        }
        ECHOLOOP_EVENT_DATA => send(e.conn, &e.data) != 0,
        _ => false,
    });
    assert_eq!(addr_of(echoloop_conn_peer_addr, client), addr);
    assert_eq!(addr_of(echoloop_conn_target, client), addr);
    assert_eq!(echoloop_listener_close(listener), 0);
}

#[test]
fn a_socket_with_a_path_is_served_and_its_file_is_removed() {
    for by in BOTH {
        let (face, folder) = (Face::new(by), Folder::new("path"));
        talk(&face, &folder.addr(b"echo.sock"));
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
        // A path is bytes, in any encoding.
        talk(&face, &folder.addr(b"\xff\xfe \n"));
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
    }
}

#[test]
fn an_abstract_name_is_served() {
    for by in BOTH {
        let name = format!("unix:@echoloop-{}-{by:?}", std::process::id());
        talk(&Face::new(by), name.as_bytes());
        talk(&Face::new(by), &[name.as_bytes(), b"\xff"].concat());
    }
}

#[test]
fn the_mode_of_the_file_is_an_option() {
    let (face, folder) = (Face::new(By::Batches), Folder::new("mode"));
    let options = echoloop_listen_options {
        unix_mode: 0o640,
        ..listen_options()
    };
    face.listen(&folder.addr(b"s"), &options);
    let mode = fs::metadata(folder.0.join("s"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_socket_that_is_not_there_is_the_reason_of_closed() {
    for by in BOTH {
        let (face, folder) = (Face::new(by), Folder::new("none"));
        let conn = face.connect(&folder.addr(b"nobody"), &connect_options());
        let closed: Happened = face.sees(ECHOLOOP_EVENT_CLOSED, conn);
        const ENOENT: i32 = 2; // Linux, errno(3)
        assert_eq!(closed.status, -ENOENT);
    }
}

#[test]
fn what_can_not_be_listened_on_is_an_error_with_its_address() {
    let (face, folder) = (Face::new(By::Batches), Folder::new("wrong"));
    let listen = |addr: &[u8]| {
        let (addr, mut out) = (CString::new(addr).unwrap(), ptr::null_mut());
        unsafe { echoloop_listen(face.el, addr.as_ptr(), ptr::null(), &mut out) }
    };
    assert_eq!(listen(&folder.addr(b"no/folder")), -2); // ENOENT
    let text = last_error();
    assert!(
        text.contains("no/folder") && text.contains("ENOENT"),
        "{text}"
    );
    assert_eq!(listen(&folder.addr(&[b'x'; 108])), -36); // ENAMETOOLONG
    assert!(last_error().contains("ENAMETOOLONG"));
    assert_eq!(listen(b"unix:"), ECHOLOOP_EINVAL);
    assert_eq!(listen(b"localhost:80"), ECHOLOOP_EINVAL);
    assert!(last_error().contains("\"localhost:80\""));
    face.listen(&folder.addr(b"taken"), &listen_options());
    assert_eq!(listen(&folder.addr(b"taken")), -98); // EADDRINUSE
    assert!(last_error().contains("taken"));
}

#[test]
fn addr_max_suffices_for_the_longest_names_there_are() {
    let face = Face::new(By::Batches);
    let adopt = |listener: UnixListener| {
        let (fd, mut out) = (listener.into_raw_fd(), ptr::null_mut());
        let status = unsafe { echoloop_adopt_listener(face.el, fd, ptr::null(), &mut out) };
        assert_eq!(status, 0, "{}", last_error());
        addr_of(echoloop_listener_addr, out)
    };
    // Unique by the process; all other bytes are escaped.
    let mut name = [1; 107];
    name[..4].copy_from_slice(&std::process::id().to_be_bytes());
    let longest = SocketAddr::from_abstract_name(name).unwrap();
    let text = adopt(UnixListener::bind_addr(&longest).unwrap());
    let escaped = name.escape_ascii().to_string();
    assert_eq!(text, [b"unix:@", escaped.as_bytes()].concat());
    assert!(text.len() >= 6 + 4 * 103);
    let folder = Folder::new("longest");
    let file = [0xff].repeat(107 - 1 - folder.0.as_os_str().len());
    let path = folder.addr(&file);
    let std_path = std::ffi::OsStr::from_bytes(&path[b"unix:".len()..]);
    assert_eq!(adopt(UnixListener::bind(std_path).unwrap()), path);
    let mut small = [0_u8; 112];
    let listener = face.listen(
        &folder.addr(&[b"x", &file[1..]].concat()),
        &listen_options(),
    );
    let status =
        unsafe { echoloop_listener_addr(listener, small.as_mut_ptr().cast(), small.len()) };
    assert_eq!(status, ECHOLOOP_EINVAL, "one byte too few for the end mark");
    assert_eq!(small, [0; 112]);
}
