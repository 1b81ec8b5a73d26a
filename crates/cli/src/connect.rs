//! `echoloop connect`: standard input to a peer, what the peer says to standard output.
//!
//! The rule: neither side is read further than the other has taken, so gigabytes pass in bounded
//! memory; and the end of each direction is its own: standard input that ends is a half-close, and
//! the peer's end leaves what is still to be sent alone. How descriptors that are shared with a
//! shell are read and written without a change to them is in `stdio`.

mod stdio;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args as ClapArgs;
use echoloop_server::{
    CloseReason, ConnId, ConnOptions, ConnectOptions, Deadline, Error, ErrorKind, Event, EventLoop,
    LoopOptions, Target, errno_name, errno_text,
};
use rustix::io::Errno;

use crate::console::complain;
use crate::exit::{self, Failure};
use crate::values::seconds;

use stdio::{Input, Output, Read};

const EXAMPLES: &str = "\
Examples:
  echoloop connect localhost:7007
  printf hello | echoloop connect 127.0.0.1:7007
  echoloop connect unix:/run/echo.sock < request > answer

How it ends:
It ends when both have finished: standard input and the peer. Where standard input ends first the
peer is told (a half-close, as nc -N does) and may still answer.";

const A_YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Connects standard input and output to a server.
#[derive(ClapArgs)]
#[command(after_help = exit::help(EXAMPLES))]
pub(crate) struct Args {
    /// Whom to connect to: HOST:PORT, unix:PATH or unix:@NAME.
    #[arg(value_name = "TARGET")]
    target: Target,
    /// How long to connect may take, resolving the name and all addresses together.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    connect_timeout: Duration,
    /// End when nothing moved in either direction for so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle_timeout: Option<Duration>,
    /// Say on standard error which addresses were tried, and how it ended.
    #[arg(short, long)]
    verbose: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let options = ConnectOptions {
        timeout: Some(args.connect_timeout),
        conn: ConnOptions {
            half_open: true,
            // Else a peer that sends before it reads, such as an echo, would stand still with us.
            auto_pause: false,
            idle_timeout: args.idle_timeout,
            // The peer is owed what standard input said, however slowly it reads.
            close_timeout: args.idle_timeout.unwrap_or(A_YEAR),
            ..ConnOptions::default()
        },
        ..ConnectOptions::default()
    };
    let start = || {
        let mut el = EventLoop::new(LoopOptions::default())?;
        let conn = el.connect(args.target.clone(), &options)?;
        Ok((el, conn))
    };
    let (el, conn) = start().map_err(|e: Error| Failure::failed(e.to_string()))?;
    let client = Client {
        el,
        conn,
        input: Input::new(),
        output: Output::new(),
        peer_finished: false,
        verbose: args.verbose,
        target: args.target.clone(),
    };
    client.run()
}

struct Client {
    el: EventLoop,
    conn: ConnId,
    input: Input,
    output: Output,
    peer_finished: bool,
    verbose: bool,
    target: Target,
}

impl Client {
    fn run(mut self) -> Result<(), Failure> {
        loop {
            self.el.poll(None).map_err(failed)?;
            while let Some(event) = self.el.next_event() {
                match event {
                    Event::Connected { .. } => self.connected()?,
                    Event::Data { .. } => self.deliver()?,
                    Event::Congested { .. } => self.input.hold(&mut self.el).map_err(failed)?,
                    Event::Drained { .. } => self.input.go_on(&mut self.el).map_err(failed)?,
                    Event::Watch { watch, .. } if self.input.is(watch) => self.send()?,
                    Event::Watch { watch, .. } if self.output.is(watch) => self.deliver()?,
                    Event::EndOfStream { .. } => {
                        self.peer_finished = true;
                        self.tell_end();
                    }
                    Event::Closed { reason, unsent, .. } => return self.closed(reason, unsent),
                    _ => {}
                }
                self.finish();
            }
        }
    }

    fn connected(&mut self) -> Result<(), Failure> {
        if self.verbose
            && let Ok(view) = self.el.conn(self.conn)
        {
            tried(&view);
            complain!("connected to {}", view.peer_addr());
        }
        self.input.start(&mut self.el).map_err(failed)
    }

    /// Reads once from standard input and sends it.
    fn send(&mut self) -> Result<(), Failure> {
        let read = self.input.read();
        match read.map_err(|e| broken("standard input", e))? {
            Read::Nothing => Ok(()),
            Read::Bytes(n) => {
                let mut view = self.el.conn(self.conn).map_err(failed)?;
                alive(view.send(self.input.bytes(n)))
            }
            Read::End => {
                self.input.finish(&mut self.el);
                alive(self.el.conn(self.conn).map_err(failed)?.shutdown_write())
            }
        }
    }

    /// Writes what was received as far as standard output takes it, and receives no more until it
    /// has taken all.
    fn deliver(&mut self) -> Result<(), Failure> {
        let written = self.write_received();
        let left = written.map_err(|e| broken("standard output", e))?;
        if let Ok(mut view) = self.el.conn(self.conn) {
            match left {
                true => view.pause(),
                false => view.resume(),
            }
        }
        let waited = match left {
            true => self.output.wait(&mut self.el),
            false => self.output.go_on(&mut self.el),
        };
        waited.map_err(failed)
    }

    /// Whether something is left.
    fn write_received(&mut self) -> Result<bool, Errno> {
        let Ok(mut view) = self.el.conn(self.conn) else {
            return Ok(false);
        };
        let n = self.output.write_ready(view.received())?;
        view.consume(n);
        Ok(!view.received().is_empty())
    }

    /// Both directions have ended, and all is written.
    fn finish(&mut self) {
        if self.peer_finished
            && self.input.has_ended()
            && let Ok(mut view) = self.el.conn(self.conn)
        {
            view.close();
        }
    }

    fn tell_end(&self) {
        let waits = !self.input.has_ended() && std::io::stdin().is_terminal();
        if waits || self.verbose {
            let hint = if waits { "; Ctrl-D ends" } else { "" };
            complain!("the peer has finished sending{hint}");
        }
    }

    /// The connection is gone: what it still has goes to standard output.
    fn closed(mut self, reason: CloseReason, unsent: u64) -> Result<(), Failure> {
        let Ok(view) = self.el.conn(self.conn) else {
            return Ok(());
        };
        if self.verbose {
            tried(&view);
            complain!("closed: {reason}");
        }
        self.output
            .write_all(view.received())
            .map_err(|e| broken("standard output", e))?;
        let lost = match unsent {
            0 => String::new(),
            n => format!("; {n} bytes were not sent"),
        };
        match reason {
            CloseReason::ClosedHere | CloseReason::PeerFinished if unsent == 0 => Ok(()),
            reason => {
                let (target, advice) = (&self.target, advice(reason));
                Err(Failure::failed(format!("{target}: {reason}{lost}{advice}")))
            }
        }
    }
}

fn tried(view: &echoloop_server::Connection<'_>) {
    for attempt in view.attempts() {
        match attempt.errno {
            Some(errno) => complain!("tried {}: {}", attempt.addr, errno_text(errno)),
            None => complain!("tried {}", attempt.addr),
        }
    }
}

/// A connection that is dead takes nothing; its `Closed` is on the way and says why.
fn alive(sent: Result<(), Error>) -> Result<(), Failure> {
    match sent {
        Err(e) if e.kind() != ErrorKind::Closing => Err(failed(e)),
        _ => Ok(()),
    }
}

/// What to do about an end.
fn advice(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::ConnectFailed(errno)
            if matches!(
                Errno::from_raw_os_error(errno),
                Errno::CONNREFUSED | Errno::NOENT
            ) =>
        {
            "; is a server running there?"
        }
        CloseReason::ResolveFailed(_) => "; is the name written right?",
        CloseReason::TimedOut(Deadline::Connect) => "; give it longer with --connect-timeout",
        CloseReason::TimedOut(Deadline::Idle) => "; give it longer with --idle-timeout",
        _ => "",
    }
}

/// A standard stream that fails.
fn broken(stream: &str, e: Errno) -> Failure {
    let (errno, hint) = match e {
        Errno::PIPE => (e.raw_os_error(), "; nobody reads it any more"),
        e => (e.raw_os_error(), ""),
    };
    let (text, name) = (errno_text(errno), errno_name(errno));
    Failure::failed(format!("{stream}: {text} ({name}){hint}"))
}

fn failed(e: Error) -> Failure {
    Failure::failed(e.to_string())
}
