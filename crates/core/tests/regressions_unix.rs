//! What once broke in Unix sockets, on the real system. A lowered limit is the whole process's, so
//! this program has one test.

use std::os::fd::AsRawFd;

use echoloop_core::{EventLoop, ListenOptions, LoopOptions, UnixAddr};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// With one descriptor left, the socket was bound and then given up, since looking at its file took
/// another; and the file stayed.
#[test]
fn the_last_descriptor_is_enough_to_listen_on_a_path() {
    let name = format!("echoloop-last-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let lowest = std::fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
    setrlimit(Resource::RLIMIT_NOFILE, lowest + 1, hard).unwrap();
    let listener = el.listen(UnixAddr::path(&path), &ListenOptions::default());
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    el.close_listener(listener.unwrap()).unwrap();
    assert!(!path.exists());
}
