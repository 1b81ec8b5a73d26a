//! What is going on, on standard error: one line that changes on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};

/// The line of progress.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        Progress {
            terminal: io::stderr().is_terminal(),
        }
    }

    /// Something that is worth a line of its own everywhere.
    pub(crate) fn show(&mut self, text: &str) {
        if self.terminal {
            self.detail(text);
        } else {
            eprintln!("{text}");
        }
    }

    /// Something that passes quickly: only for a terminal.
    pub(crate) fn detail(&mut self, text: &str) {
        if self.terminal {
            eprint!("\r\x1b[K{text}");
            // A terminal that is gone is no reason to stop measuring.
            let _ = io::stderr().flush();
        }
    }

    /// Something that stays on the screen.
    pub(crate) fn note(&mut self, text: &str) {
        self.clear();
        eprintln!("{text}");
    }

    pub(crate) fn clear(&mut self) {
        self.detail("");
    }
}
