//! A start of workers with too few descriptors. It lowers a limit of the process, so it is the only
//! test of this file.

mod util;

use std::fs;
use std::net::{TcpListener, TcpStream};

use echoloop_server::{Echo, Server, Spread};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const EMFILE: i32 = 24;

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn whichever_descriptor_is_lacking_a_failed_start_leaves_nothing() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    for spread in [Spread::Fewest, Spread::ReusePort] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = port.local_addr().unwrap();
        drop(port);
        let (before, running) = (descriptors(), threads());
        let mut failed = 0;
        // One more descriptor each time, until there are enough.
        let workers = loop {
            // One of those counted was that of the count.
            let limit = (before - 1 + failed) as u64;
            setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
            let builder = Server::builder().listen(addr).bind_udp(addr);
            let started = builder.start_workers(3, spread, |_| Echo);
            setrlimit(Resource::RLIMIT_NOFILE, hard.min(1 << 16), hard).unwrap();
            let error = match started {
                Ok(workers) => break workers,
                Err(error) => error,
            };
            assert_eq!(error.errno(), Some(EMFILE), "{error}");
            assert_eq!((descriptors(), threads()), (before, running), "{error}");
            assert!(TcpStream::connect(addr).is_err());
            failed += 1;
            assert!(failed < 100);
        };
        println!("{spread:?}: failed {failed} times, then started");
        assert!(failed > 10);
        util::echoes(&mut TcpStream::connect(addr).unwrap(), b"hello");
        drop(workers);
        assert_eq!((descriptors(), threads()), (before, running));
    }
}
