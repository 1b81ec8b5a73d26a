//! What a running server prints: by a thread of its own, so that no loop waits for a reader.
//!
//! The rule: a standard output or standard error that is closed, full, or that nobody reads is no
//! concern of the clients. A line that finds no room here is dropped, and the next one tells of it.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// Texts that may wait to be printed.
const ROOM: usize = 64;

/// Prints to standard output; see the rule above.
macro_rules! say {
    ($($text:tt)*) => {{
        let line = format!($($text)*) + "\n";
        let _ = std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes());
    }};
}

/// Prints to standard error, likewise.
macro_rules! complain {
    ($($text:tt)*) => {{
        let line = format!($($text)*) + "\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
    }};
}

pub(crate) use {complain, say};

/// Where loops leave what is to be printed.
#[derive(Clone)]
pub(crate) struct Console {
    texts: SyncSender<Text>,
    dropped: Arc<AtomicU64>,
}

/// The thread that prints it.
pub(crate) struct Printer {
    thread: JoinHandle<()>,
}

enum Text {
    /// A line for standard output.
    Line(String),
    /// A line that is written over the one before it on a terminal.
    Live(String),
    /// Whole lines for standard error.
    Aside(String),
}

impl Console {
    pub(crate) fn start() -> io::Result<(Self, Printer)> {
        let (texts, received) = sync_channel(ROOM);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dropped);
        let thread = thread::Builder::new()
            .name("printer".to_owned())
            .spawn(move || print(&received, &count))?;
        Ok((Self { texts, dropped }, Printer { thread }))
    }

    /// A line for standard output.
    pub(crate) fn line(&self, text: String) {
        self.put(Text::Line(text));
    }

    /// A line of figures, kept up to date on a terminal.
    pub(crate) fn live(&self, text: String) {
        self.put(Text::Live(text));
    }

    /// Lines for standard error.
    pub(crate) fn aside(&self, text: String) {
        self.put(Text::Aside(text));
    }

    fn put(&self, text: Text) {
        if self.texts.try_send(text).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Printer {
    /// Waits until all is printed; every [`Console`] must be gone by then.
    pub(crate) fn finish(self) {
        let _ = self.thread.join();
    }
}

fn print(texts: &Receiver<Text>, dropped: &AtomicU64) {
    let terminal = io::stdout().is_terminal();
    let mut on_live_line = false;
    for text in texts {
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            complain!("echoloop: {lost} texts were not printed, nobody read those before them");
        }
        let mut out = io::stdout().lock();
        // Carriage return and "erase to end of line" (ECMA-48 EL) rewrite the line in place.
        let _ = match text {
            Text::Live(line) if terminal => {
                on_live_line = true;
                write!(out, "\r{line}\x1b[K")
            }
            Text::Live(line) | Text::Line(line) => writeln!(out, "{line}"),
            Text::Aside(lines) => write!(io::stderr(), "{lines}"),
        };
        let _ = out.flush();
    }
    if on_live_line {
        say!("");
    }
}
