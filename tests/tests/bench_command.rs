//! What `echoloop bench` does and says: every kind of server, and figures that add up.
//!
//! The server is the program under test's own `serve`, or one made of threads where it is of another kind. What goes
//! wrong is in `bench_failures.rs`.

use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use echoloop_tests::bench::{
    DONE, FAILED, WRONG_BYTES, adds_up, bench, command, echo, fails, json, object, object_of,
    serve, start, udp_server,
};
use echoloop_tests::patience::{PATIENCE, until};
use echoloop_tests::{Face, Process, Rig, artifacts};
use nix::pty::openpty;
use nix::sys::signal::Signal;

#[test]
fn sizes_and_depths_come_back_verified_and_counted_exactly() {
    let server = serve();
    let target = server.address().to_string();
    for (connections, size, depth, messages) in [
        ("1", "1", "1", 1),
        ("100", "64", "1", 5_000),
        ("7", "1000", "16", 3_000),
        ("2", "3000000", "2", 10),
    ] {
        let told = json(&[
            &target,
            "--verify",
            "--connections",
            connections,
            "--size",
            size,
            "--depth",
            depth,
            "--messages",
            &messages.to_string(),
        ]);
        assert_eq!(told["messages"], messages, "{told}");
        adds_up(&told);
    }
    server.stop();
}

#[test]
fn churn_makes_a_connection_for_each_message() {
    let server = serve();
    let target = server.address().to_string();
    let told = json(&[
        &target,
        "--churn",
        "--connections=10",
        "--sources=16",
        "--messages=300",
        "--verify",
    ]);
    assert_eq!(told["messages"], 300, "{told}");
    adds_up(&told);
    let said = server.stop().stdout().join("\n");
    assert!(said.contains("served 300 connections"), "{said}");
}

#[test]
fn names_and_ipv6_addresses_are_targets_too() {
    let server = Rig::new(Face::Rust)
        .server()
        .listen("127.0.0.1:0")
        .listen("[::1]:0")
        .start();
    let port = server.address().port();
    let six = server.addresses()[1].to_string();
    for target in [format!("localhost:{port}"), six] {
        let told = json(&[&target, "--messages=500", "--verify"]);
        assert_eq!(told["messages"], 500, "{told}");
        adds_up(&told);
    }
    server.stop();
}

#[test]
fn unix_sockets_are_targets_too() {
    let path = artifacts::scratch().join(format!("bench-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).expect("the scratch folder takes sockets");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || echo(stream, |_, _| {}));
        }
    });
    let target = format!("unix:{}", path.display());
    for more in ["--depth=4", "--churn"] {
        let told = json(&[
            &target,
            "--connections=5",
            "--messages=500",
            "--verify",
            more,
        ]);
        assert_eq!(
            (&told["messages"], &told["target"]),
            (&500.into(), &target.clone().into())
        );
        adds_up(&told);
    }
    std::fs::remove_file(path).expect("made above");
}

#[test]
fn datagrams_are_counted_when_they_come_back_and_when_they_are_lost() {
    let honest = udp_server(|_, _| true);
    for (size, depth) in [("64", "1"), ("3", "2"), ("1400", "8")] {
        let told = json(&[
            &honest.to_string(),
            "--udp",
            "--connections=4",
            "--messages=400",
            "--verify",
            "--size",
            size,
            "--depth",
            depth,
        ]);
        assert_eq!(
            (&told["messages"], &told["lost"]),
            (&400.into(), &0.into()),
            "{told}"
        );
        adds_up(&told);
    }

    let forgetful = udp_server(|_, number| number != 10).to_string();
    let arguments = [
        &forgetful,
        "--udp",
        "--connections=1",
        "--messages=50",
        "--json",
    ];
    let (code, told) = object(&arguments);
    assert_eq!(
        (code, &told["messages"], &told["lost"]),
        (WRONG_BYTES, &49.into(), &1.into())
    );
    adds_up(&told);
    let error = told["error"].as_str().expect("a text");
    assert!(
        error.contains("1 datagrams were lost") && error.contains("--depth"),
        "{error}"
    );

    let liar = udp_server(|bytes, number| {
        bytes[20] ^= u8::from(number == 30);
        true
    });
    let said = fails(
        &[&liar.to_string(), "--udp", "--verify", "--messages=100"],
        WRONG_BYTES,
    );
    assert!(said.contains("byte"), "{said}");
}

#[test]
fn a_time_and_a_warm_up_are_kept() {
    let server = serve();
    let begin = Instant::now();
    let told = json(&[
        &server.address().to_string(),
        "--warmup=0.3",
        "--duration=0.3",
    ]);
    assert!(begin.elapsed() >= Duration::from_millis(600), "{told}");
    let seconds = told["seconds"].as_f64().expect("a number");
    assert!((0.3..PATIENCE.as_secs_f64()).contains(&seconds), "{told}");
    adds_up(&told);
    server.stop();
}

#[test]
fn the_cpu_time_of_both_sides_is_told() {
    let mut server = serve();
    let (target, pid) = (server.address().to_string(), server.process().pid());
    let told = json(&[&target, "--messages=20000", "--pid", &pid.to_string()]);
    for side in ["own_cpu_ns_per_message", "server_cpu_ns_per_message"] {
        let ns = told[side].as_f64().expect("a number");
        assert!((100.0..1e6).contains(&ns), "{side}: {told}");
    }
    let said = fails(&[&target, "--pid=999999999"], FAILED);
    assert!(said.contains("--pid"), "{said}");
    server.stop();
}

#[test]
fn what_is_piped_is_plain_text_with_a_histogram() {
    let server = serve();
    let mut process = bench(&[
        &server.address().to_string(),
        "--messages=1000",
        "--warmup=0.2",
    ]);
    assert_eq!(process.wait(PATIENCE).code(), Some(DONE));
    assert_eq!(process.stderr(), [""; 0]);
    let said = process.stdout();
    let plain = |line: &String| !line.contains(char::is_control);
    assert!(said.iter().all(plain), "{said:?}");
    for word in ["1,000 in", "/s", "CPU", "p50", "p99.9", "max"] {
        assert!(
            said.iter().any(|line| line.contains(word)),
            "{word}: {said:?}"
        );
    }
    let bars = said.iter().map(|line| line.matches('#').count());
    assert_eq!(bars.max(), Some(40), "the longest bar");
    server.stop();
}

#[test]
fn ctrl_c_ends_early_and_prints_what_was_measured() {
    let mut server = serve();
    let pid = server.process().pid();
    let base = server.descriptors();
    let mut run = start(&[&server.address().to_string(), "--duration=600"]);
    until("all its connections are there", PATIENCE, || {
        (server.descriptors() >= base + 100).then_some(())
    });
    let used = || echoloop_load::cpu_time(pid).expect("the server is alive");
    let before = used();
    until("messages go round", PATIENCE, || {
        (used() > before + Duration::from_millis(20)).then_some(())
    });
    run.signal(Signal::SIGINT);
    assert_eq!(run.wait(PATIENCE).code(), Some(DONE));
    let said = run.stdout().join("\n");
    assert!(
        said.contains("ended early") && said.contains("latency"),
        "{said}"
    );
    server.stop();
}

/// The answers of the warm-up that were on their way counted once, with a latency of minutes.
#[test]
fn ctrl_c_in_the_warm_up_ends_with_nothing_measured() {
    let server = serve();
    let base = server.descriptors();
    let run = start(&[
        &server.address().to_string(),
        "--warmup=600",
        "--depth=4",
        "--json",
    ]);
    until("all its connections are there", PATIENCE, || {
        (server.descriptors() >= base + 100).then_some(())
    });
    run.signal(Signal::SIGINT);
    let (code, told) = object_of(run);
    assert_eq!((code, &told["ended_early"]), (DONE, &true.into()));
    assert_eq!(told["messages"], 0);
    server.stop();
}

#[test]
fn on_a_terminal_a_bar_shows_how_far_it_is() {
    let server = serve();
    let terminal = openpty(None, None).expect("a pseudo terminal");
    let mut command = command(&[&server.address().to_string(), "--duration=1"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(terminal.slave);
    let mut run = Process::spawn_as_is(command);
    let screen = thread::spawn(move || {
        let (mut terminal, mut screen) = (File::from(terminal.master), Vec::new());
        let mut chunk = [0; 1024];
        // The end of a terminal is the error EIO.
        while let Ok(n @ 1..) = terminal.read(&mut chunk) {
            screen.extend_from_slice(&chunk[..n]);
        }
        String::from_utf8_lossy(&screen).into_owned()
    });
    assert_eq!(run.wait(PATIENCE).code(), Some(DONE));
    let screen = screen.join().expect("it only reads");
    let updates = screen.matches("messages/s").count();
    assert!(updates >= 3 && screen.contains("=>"), "{screen:?}");
    let said = run.stdout().join("\n");
    assert!(
        !said.contains("messages/s") && !said.contains('\x1b'),
        "{said:?}"
    );
    server.stop();
}
