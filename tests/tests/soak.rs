//! Mixed churn for ten seconds: every byte comes back right, and nothing is left behind. The long form,
//! with figures, is `cargo run --release -p echoloop-bench -- soak`.

use std::net::SocketAddr;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::time::{Duration, Instant};

use echoloop_load::Target;
use echoloop_load::crowd::{Crowd, Kind, Party};
use echoloop_tests::patience::PATIENCE;
use echoloop_tests::visitors::{AtRest, drive, party};
use echoloop_tests::{Face, Process, artifacts};
use nix::sys::signal::Signal;

const TIME: Duration = Duration::from_secs(10);
/// Tables that grew, and what is kept for the next buffers.
const KEPT: u64 = 8 << 20;

#[test]
fn mixed_churn_leaves_nothing_behind_and_no_byte_is_wrong() {
    let path = artifacts::scratch().join(format!("soak-{}.sock", std::process::id()));
    let mut serve = Face::Rust.program();
    serve.args(["serve", "--tcp=127.0.0.1:0", "--udp=127.0.0.1:0", "--unix"]);
    serve.arg(&path);
    serve.args([
        "--first-byte-timeout=1",
        "--idle-timeout=2",
        "--write-stall-timeout=1",
    ]);
    serve.args([
        "--lifetime=20",
        "--send-buffer=65536",
        "--receive-buffer=65536",
    ]);
    let mut server = Process::spawn(serve);
    let address = |begins: &str| -> SocketAddr {
        let line = server.says(&format!("listening on {begins}"), PATIENCE);
        let address = line.rsplit(' ').next().unwrap_or_default();
        address.parse().expect("an address")
    };
    let (tcp, udp) = (address("127."), address("udp "));
    let tcp: Target = tcp.into();
    let unix: Target = UnixAddr::from_pathname(&path).expect("a short path").into();
    let udp = Target::Udp(udp);
    let at_rest = AtRest::of(server.pid());

    // How many come in a second, and whether the server is to let them come to their end.
    let parties: [(Kind, &Target, u64, bool); 13] = [
        (Kind::Echo, &tcp, 150, true),
        (Kind::Echo, &udp, 40, true),
        (Kind::Echo, &unix, 40, true),
        (Kind::HalfClose, &tcp, 20, true),
        (Kind::HalfClose, &unix, 10, true),
        (Kind::Slow, &tcp, 20, true),
        (Kind::Abandon, &tcp, 30, true),
        (Kind::Reset, &tcp, 40, true),
        (Kind::Knock, &tcp, 40, true),
        (Kind::VanishIdle, &tcp, 5, true),
        (Kind::VanishSilent, &tcp, 5, true),
        (Kind::Silent, &tcp, 10, false),
        (Kind::Greedy, &tcp, 2, false),
    ];
    let mut crowd = Crowd::new().expect("an epoll instance");
    for (kind, target, per_second, _) in parties {
        let total = per_second * TIME.as_secs();
        crowd.invite(Party {
            at_once: 1_000,
            ..party(kind, target.clone(), total, TIME)
        });
    }
    let start = Instant::now();
    drive(
        &mut crowd,
        "all have come and gone",
        TIME + PATIENCE,
        |crowd| start.elapsed() > TIME && crowd.open() == 0 && at_rest.descriptors_are_back(),
    );
    for (i, (kind, _, per_second, served)) in parties.into_iter().enumerate() {
        let tally = crowd.tally(i);
        let (name, total) = (kind.name(), per_second * TIME.as_secs());
        let ended = if served { tally.done } else { tally.all_cut() };
        assert_eq!(
            (tally.opened, ended),
            (total, total),
            "{name}: {:?}",
            tally.cut
        );
    }
    at_rest.expect_again(KEPT);
    server.signal(Signal::SIGTERM);
    assert!(server.wait(PATIENCE).success(), "{:?}", server.stderr());
    assert!(!path.exists(), "the file of the socket is removed");
}
