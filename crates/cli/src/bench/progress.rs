//! The bar on standard error while a run goes on; nothing at all where that is no terminal.

use std::time::Duration;

use echoloop_load::{Progress, Until};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::units::grouped;

/// One run's bar.
pub(super) struct Bar {
    bar: ProgressBar,
    until: Until,
}

impl Bar {
    pub(super) fn new(what: &str, until: Until) -> Bar {
        let length = match until {
            Until::Elapsed(time) => millis(time),
            Until::Messages(messages) => messages,
        };
        // indicatif draws on terminals only.
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix}[{bar:40}] {percent:>3}%  {msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what.to_owned());
        Bar { bar, until }
    }

    pub(super) fn show(&self, progress: Progress) {
        let rate = progress.messages as f64 / progress.elapsed.as_secs_f64().max(1e-9);
        self.bar
            .set_message(format!("{} messages/s", grouped(rate)));
        self.bar.set_position(match self.until {
            Until::Elapsed(_) => millis(progress.elapsed),
            Until::Messages(_) => progress.messages,
        });
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
