//! Good clients beside bad ones: nobody good is harmed, the bad ones are gone on schedule, and nothing of
//! them is left. The long form, with figures, is `cargo run --release -p echoloop-bench -- bad-clients`.

use std::time::Duration;

use echoloop_load::Cause;
use echoloop_load::crowd::{Crowd, Kind, Tally};
use echoloop_tests::patience::PATIENCE;
use echoloop_tests::visitors::{AtRest, drive, party};
use echoloop_tests::{Face, Rig};

const FIRST_BYTE: u64 = 1_500;
const IDLE: u64 = 2_000;
const STALL: u64 = 1_500;
const LIFETIME: u64 = 4_000;
/// Milliseconds: deadlines count from the turn in which the connection was accepted.
const TURN: u64 = 200;
/// Tables that grew, and what is kept for the next buffers.
const KEPT: u64 = 8 << 20;

/// Who comes, how many, and when the server is to end each, at the earliest.
const BAD: [(Kind, u64, Option<u64>); 9] = [
    (Kind::Silent, 400, Some(FIRST_BYTE)),
    (Kind::Idle, 250, Some(IDLE)),
    // A byte a second: not silent, not idle.
    (Kind::Trickle, 350, Some(LIFETIME)),
    (Kind::Greedy, 100, Some(STALL)),
    (Kind::Sip, 100, Some(STALL)),
    (Kind::VanishSilent, 150, None),
    (Kind::VanishIdle, 150, None),
    (Kind::Knock, 400, None),
    (Kind::Reset, 400, None),
];

#[test]
fn bad_clients_are_gone_on_schedule_and_harm_nobody() {
    let mut builder = Rig::new(Face::Rust).server();
    for (name, ms) in [
        ("first-byte-timeout", FIRST_BYTE),
        ("idle-timeout", IDLE),
        ("write-stall-timeout", STALL),
        ("lifetime", LIFETIME),
    ] {
        builder = builder.arg(format!(
            "--{name}={}",
            Duration::from_millis(ms).as_secs_f64()
        ));
    }
    let mut server = builder
        .arg("--send-buffer=65536")
        .arg("--receive-buffer=65536")
        .start();
    let at_rest = AtRest::of(server.process().pid());
    let target = server.address();

    let mut crowd = Crowd::new().expect("an epoll instance");
    let mut good = party(Kind::Good, target, u64::MAX, Duration::MAX);
    // A second each, which is less than a lifetime.
    good.manners.send = 20 * 64;
    (good.at_once, good.per_second) = (100, 200.0);
    crowd.invite(good);
    let second = Duration::from_secs(1);
    drive(&mut crowd, "the good have been served", PATIENCE, |crowd| {
        crowd.tally(0).latency.len() >= 2_000
    });
    let alone = crowd.take_tally(0);

    let ramp = second * 3 / 2;
    let bands = BAD.map(|(kind, total, _)| crowd.invite(party(kind, target, total, ramp)));
    drive(
        &mut crowd,
        "the bad have all come and gone",
        PATIENCE,
        |crowd| {
            let gone = |(band, (_, total, _)): (&usize, &(_, u64, _))| {
                let tally = crowd.tally(*band);
                tally.opened == *total && tally.open == 0
            };
            bands.iter().zip(&BAD).all(gone)
        },
    );
    let beside = crowd.take_tally(0);
    crowd.dismiss();
    let what = "the server is rid of all, those that vanished too";
    drive(&mut crowd, what, PATIENCE, |crowd| {
        crowd.open() == 0 && at_rest.descriptors_are_back()
    });

    for tally in [&alone, &beside, crowd.tally(0)] {
        assert_eq!(
            tally.all_cut(),
            0,
            "good clients were cut off: {:?}",
            tally.cut
        );
    }
    for (band, (kind, total, due)) in bands.into_iter().zip(BAD) {
        expect_ended(kind, crowd.tally(band), total, due);
    }
    at_rest.expect_again(KEPT);
    server.stop();
    let p99 = |tally: &Tally| tally.latency.value_at_quantile(0.99) as f64 / 1e6;
    println!(
        "p99 of the good: {:.2} ms alone, {:.2} ms beside the bad",
        p99(&alone),
        p99(&beside)
    );
}

fn expect_ended(kind: Kind, tally: &Tally, total: u64, due: Option<u64>) {
    let name = kind.name();
    let Some(due) = due else {
        assert_eq!(tally.done, total, "{name}: {:?}", tally.cut);
        return;
    };
    assert_eq!(tally.all_cut(), total, "{name}: {:?}", tally.cut);
    // Who would not read is reset; the others see an end of stream, or a reset of what they said then.
    let closed = tally.cut.get(&Cause::Closed).copied().unwrap_or_default();
    if matches!(kind, Kind::Greedy | Kind::Sip) {
        assert_eq!(closed, 0, "{name}: {:?}", tally.cut);
    } else {
        assert!(closed > 0, "{name}: {:?}", tally.cut);
    }
    let first = tally.ages.min();
    assert!(
        first + TURN >= due,
        "{name}: ended after {first} ms, due at {due}"
    );
}
