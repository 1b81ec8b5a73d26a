//! `echoloop/adapters/libcurl.h` against libcurl itself and nginx.

use std::net::{SocketAddr, TcpListener};

use echoloop_tests::adapters::{Adapter, LIMIT, succeeds};
use echoloop_tests::real_servers::Nginx;
use echoloop_tests::{Pattern, Process};

static LIBCURL: Adapter = Adapter::new("libcurl", "libcurl");

#[test]
fn two_hundred_parallel_transfers_arrive_byte_for_byte() {
    let Some(nginx) = serving(200) else { return };
    let Some(lines) = LIBCURL.plays("parallel", &[&nginx.0.url(), "200"]) else {
        return;
    };
    let mut arrived: Vec<(usize, usize, String)> = lines.iter().map(|line| parse(line)).collect();
    arrived.sort_unstable();
    let sent = nginx.1.iter().enumerate();
    let sent: Vec<_> = sent
        .map(|(number, content)| (number, content.len(), checksum(content)))
        .collect();
    assert_eq!(arrived, sent);
}

#[test]
fn a_transfer_is_begun_again_where_the_last_is_told_to_have_ended() {
    let Some(nginx) = serving(1) else { return };
    let url = nginx.0.url() + "0";
    if let Some(lines) = LIBCURL.plays("again", &[&url]) {
        assert_eq!(lines.len(), 21, "{lines:?}");
    }
}

#[test]
fn transfers_taken_off_the_loop_by_one_that_ended_leave_nothing_behind() {
    let Some(nginx) = serving(50) else { return };
    LIBCURL.plays("detached", &[&nginx.0.url(), "50"]);
}

#[test]
fn a_server_that_says_nothing_is_given_up_by_a_timer() {
    let (_listener, address) = silent_server();
    LIBCURL.plays("silent", &[&format!("http://{address}/")]);
}

#[test]
fn nobody_listens_and_the_transfer_says_so() {
    let (listener, address) = silent_server();
    drop(listener);
    LIBCURL.plays("refused", &[&format!("http://{address}/")]);
}

#[test]
fn a_socket_closed_by_somebody_else_ends_its_transfer_and_no_more() {
    let (_listener, address) = silent_server();
    LIBCURL.plays("closed", &[&format!("http://{address}/")]);
}

#[test]
fn valgrind_has_nothing_to_report_on_any_scenario() {
    let Some(nginx) = serving(50) else { return };
    let (_listener, address) = silent_server();
    let silent = format!("http://{address}/");
    LIBCURL.plays_under_valgrind("parallel", &[&nginx.0.url(), "50"]);
    LIBCURL.plays_under_valgrind("detached", &[&nginx.0.url(), "50"]);
    LIBCURL.plays_under_valgrind("again", &[&(nginx.0.url() + "0")]);
    LIBCURL.plays_under_valgrind("silent", &[&silent]);
    LIBCURL.plays_under_valgrind("closed", &[&silent]);
}

#[test]
fn the_example_gets_all_urls_and_names_the_one_that_is_not_there() {
    let Some((nginx, contents)) = serving(20) else {
        return;
    };
    let urls: Vec<String> = (0..20).map(|i| format!("{}{i}", nginx.url())).collect();
    let mut urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let Some(all) = LIBCURL.example("libcurl_get", &urls) else {
        return;
    };
    let lines = succeeds(all);
    for (url, content) in urls.iter().zip(&contents) {
        let line = format!("{url}: No error, {} bytes", content.len());
        assert!(
            lines.iter().any(|l| l.starts_with(&line)),
            "{line}: {lines:?}"
        );
    }
    let missing = nginx.url() + "missing";
    urls.push(&missing);
    let Some(one_fails) = LIBCURL.example("libcurl_get", &urls) else {
        return;
    };
    let mut process = Process::run(one_fails, LIMIT);
    assert_eq!(
        process.wait(LIMIT).code(),
        Some(1),
        "{:?}",
        process.stderr()
    );
    assert_eq!(process.stdout().len(), 21);
}

/// nginx with files "0", "1", ... from a few bytes to 800 kB, and what is in them.
fn serving(count: usize) -> Option<(Nginx, Vec<Vec<u8>>)> {
    let contents: Vec<Vec<u8>> = (0..count)
        .map(|i| Pattern::new(i as u64).take(20 * i * i))
        .collect();
    let files = contents.iter().enumerate();
    let files: Vec<_> = files
        .map(|(i, content)| (i.to_string(), content.clone()))
        .collect();
    Some((Nginx::start(&files)?, contents))
}

/// Connections wait in its backlog for ever.
fn silent_server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    (listener, address)
}

/// What the program prints of a transfer: its number, length and checksum.
fn parse(line: &str) -> (usize, usize, String) {
    let mut fields = line.split(' ');
    let mut field = || fields.next().expect("three fields");
    let number = field().parse().expect("a number");
    let len = field().parse().expect("a length");
    (number, len, field().to_owned())
}

/// FNV-1a, as the program has it.
fn checksum(content: &[u8]) -> String {
    let sum = content.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{sum:x}")
}
