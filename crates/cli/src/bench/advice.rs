//! What failed, in one line: how many connections and why, what was done until then, what to do.

use echoloop_load::{Cause, Error, Mode, Plan, Report};
use rustix::io::Errno;

use crate::exit::Failure;
use crate::units::grouped;

/// The failure of a run, if it is one.
pub(super) fn failure(plan: &Plan, report: &Report, error: Option<&Error>) -> Option<Failure> {
    let until_then = format!("{} messages came back", grouped(report.messages as f64));
    match error {
        Some(error) if error.is_wrong_bytes() => {
            let message = format!("{}: {error}; {until_then}", plan.target);
            return Some(Failure::wrong_bytes(message));
        }
        None if report.failures.is_empty() && report.lost == 0 => return None,
        _ => {}
    }
    let mut what = Vec::new();
    let mut advice = "";
    if report.failed() > 0 {
        let all = match plan.mode {
            Mode::Steady => format!(" of {}", plan.connections),
            Mode::Churn => String::new(),
        };
        what.push(format!(
            "{}{all} connections failed ({})",
            report.failed(),
            causes(report)
        ));
        let worst = report.failures.iter().max_by_key(|(_, count)| **count);
        advice = worst.map_or("", |(cause, _)| about(cause));
    } else if let Some(error) = error {
        what.push(error.to_string());
        advice = match error {
            Error::Connection { cause, .. } => about(cause),
            Error::System { source, .. } => about_system(source.raw_os_error()),
            _ => "",
        };
    }
    if report.lost > 0 {
        let lost = grouped(report.lost as f64);
        what.push(format!("{lost} datagrams were lost"));
        if advice.is_empty() {
            advice = "; fewer at a time (--depth, --connections) overflow no buffer";
        }
    }
    let what = what.join(", ");
    let message = format!("{}: {what}; {until_then}{advice}", plan.target);
    Some(if report.lost > 0 && report.messages > 0 {
        Failure::wrong_bytes(message)
    } else {
        Failure::failed(message)
    })
}

/// `37 x recv: ECONNRESET (Connection reset by peer), 2 x closed by the server`.
pub(super) fn causes(report: &Report) -> String {
    let each = report
        .failures
        .iter()
        .map(|(cause, count)| format!("{count} x {cause}"));
    each.collect::<Vec<_>>().join(", ")
}

fn about(cause: &Cause) -> &'static str {
    match cause {
        Cause::Closed => "; the server may say why",
        Cause::Silent => "; is it an echo server? --patience waits longer",
        Cause::System { errno, .. } => about_system(Some(*errno)),
    }
}

fn about_system(errno: Option<i32>) -> &'static str {
    match errno.map(Errno::from_raw_os_error) {
        Some(Errno::CONNREFUSED | Errno::NOENT) => "; is a server running there?",
        Some(Errno::ADDRNOTAVAIL) => {
            "; the ports of one address are used up, more addresses help: --sources"
        }
        Some(Errno::MFILE | Errno::NFILE) => {
            "; use fewer --connections, or raise the limit of descriptors (ulimit -n)"
        }
        Some(Errno::CONNRESET | Errno::PIPE) => "; the server may say why",
        _ => "",
    }
}
