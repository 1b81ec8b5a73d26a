//! What a running server prints: by a thread of its own, so that no loop waits for a reader.
//!
//! The rule: a standard output or standard error that is closed, full, or that nobody reads is no
//! concern of the clients. A line that finds no room here is dropped, and the next one tells of it;
//! nor does the end of the program wait long for a reader.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// Texts that may wait to be printed.
const ROOM: usize = 64;
/// How long the last of them is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Prints to standard error; see `stderr`.
macro_rules! complain {
    ($($text:tt)*) => {
        $crate::stderr::complain(format_args!($($text)*))
    };
}

pub(crate) use complain;

/// Where loops leave what is to be printed.
#[derive(Clone)]
pub(crate) struct Console {
    texts: SyncSender<Text>,
    dropped: Arc<AtomicU64>,
}

/// The thread that prints it.
pub(crate) struct Printer {
    last_words: Sender<String>,
    /// Closed when they are printed.
    printed: Receiver<()>,
}

enum Text {
    /// Whole lines for standard output.
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
        let (last_words, last) = channel();
        let (done, printed) = channel();
        let work = move || {
            print(&received, &count);
            if let Ok(words) = last.recv() {
                let _ = writeln!(io::stdout(), "{words}");
            }
            drop::<Sender<()>>(done);
        };
        let thread = thread::Builder::new().name("printer".to_owned());
        thread.spawn(work)?;
        let printer = Printer {
            last_words,
            printed,
        };
        Ok((Self { texts, dropped }, printer))
    }

    /// One or more lines for standard output.
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
    /// Waits until all is printed, this last; every [`Console`] must be gone by then.
    pub(crate) fn finish(self, last_words: String) {
        let _ = self.last_words.send(last_words);
        let _ = self.printed.recv_timeout(PATIENCE);
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
        let _ = writeln!(io::stdout());
    }
}
