//! What once broke in a turn, on real sockets: kinds of events that kept all others waiting. Each
//! test says what broke.

mod util;

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use echoloop_core::{
    ConnId, ConnOptions, ConnectOptions, Event, EventLoop, Interest, TimerSpec, WatchMode,
};
use util::real::Real;

/// More events than may come before a connection that has something to read.
const MANY: usize = 20_000;

struct Busy {
    real: Real,
    client: TcpStream,
    conn: ConnId,
}

impl Busy {
    fn new() -> Self {
        let mut real = Real::new(ConnOptions::default());
        let (client, conn) = real.pair();
        Self { real, client, conn }
    }

    /// Lets something arrive while the first of many events is handled, and runs until it was told.
    /// `again` handles the others.
    fn run_beside(mut self, mut again: impl FnMut(&mut EventLoop, Event)) {
        let mut count = 0;
        let (mut client, conn) = (self.client, self.conn);
        self.real.until(|el, event| {
            if event == (Event::Data { conn }) {
                return Some(());
            }
            count += 1;
            assert!(count < MANY, "starved by {event:?}");
            if count == 1 {
                client.write_all(b"hello").unwrap();
            }
            again(el, event);
            None
        });
        assert!(count > 0, "nothing else was told");
    }
}

/// A connect that is refused at once ended in the same turn, so one that tried again for ever never
/// came to the end of its turn.
#[test]
fn connects_that_are_refused_at_once_and_tried_again_starve_nobody() {
    let mut busy = Busy::new();
    let connect = |el: &mut EventLoop| {
        let nobody = "unix:@echoloop-nobody-listens-here";
        el.connect(nobody, &ConnectOptions::default()).unwrap();
    };
    connect(&mut busy.real.el);
    busy.run_beside(|el, event| {
        if matches!(event, Event::Closed { .. }) {
            connect(el);
        }
    });
}

/// The same with an address that is its own answer.
#[test]
fn lookups_that_are_answered_at_once_starve_nobody() {
    let mut busy = Busy::new();
    busy.real.el.resolve("127.0.0.1", None).unwrap();
    busy.run_beside(|el, _| {
        el.resolve("127.0.0.1", None).unwrap();
    });
}

/// The same with a file, which is always ready.
#[test]
fn a_watch_of_a_file_that_its_handler_arms_again_starves_nobody() {
    let mut busy = Busy::new();
    let file = File::open("/dev/null").unwrap();
    let el = &mut busy.real.el;
    el.watch(&file, Interest::READABLE, WatchMode::OneShot)
        .unwrap();
    busy.run_beside(|el, event| {
        if let Event::Watch { watch, .. } = event {
            el.modify_watch(watch, Interest::READABLE).unwrap();
        }
    });
}

/// The same with a watch that is made anew for each event.
#[test]
fn a_watch_of_a_file_that_is_made_anew_each_time_starves_nobody() {
    let mut busy = Busy::new();
    let file = File::open("/dev/null").unwrap();
    let watch = |el: &mut EventLoop| {
        el.watch(&file, Interest::READABLE, WatchMode::Level)
            .unwrap();
    };
    watch(&mut busy.real.el);
    busy.run_beside(|el, event| {
        if let Event::Watch { watch: old, .. } = event {
            el.unwatch(old).unwrap();
            watch(el);
        }
    });
}

/// All that was posted was handed out in one turn.
#[test]
fn many_posts_starve_nobody() {
    let busy = Busy::new();
    let remote = busy.real.el.remote();
    for word in 0..2 * MANY as u64 {
        remote.post(word).unwrap();
    }
    busy.run_beside(|_, _| {});
}

/// Likewise all timers that were due.
#[test]
fn many_timers_that_are_due_starve_nobody() {
    let mut busy = Busy::new();
    for _ in 0..2 * MANY {
        let spec = TimerSpec::after(Duration::ZERO);
        busy.real.el.add_timer(spec).unwrap();
    }
    busy.run_beside(|_, _| {});
}
