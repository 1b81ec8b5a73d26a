//! What was measured: a few lines and a histogram for a person, one JSON object for a program.
//!
//! Both have the same figures. Standard output has nothing else, and no control characters.

use std::time::Duration;

use echoloop_load::{Mode, Report};
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::units::{bytes, grouped, time};

use super::{Measured, advice, histogram};

/// For a person.
pub(super) fn text(measured: &Measured<'_>) -> String {
    let (report, plan) = (&measured.report, measured.plan);
    let mut told = String::new();
    let mut say = |line: String| told += &(line + "\n");

    let sockets = if measured.args.udp {
        "sockets"
    } else {
        "connections"
    };
    let how = match plan.mode {
        Mode::Steady => format!("{} in flight on each", plan.depth),
        Mode::Churn => "each message on a connection of its own".into(),
    };
    let mut more = String::new();
    for (named, text) in [
        (plan.verify, ", verified"),
        (measured.early, ", ended early"),
    ] {
        more.push_str(if named { text } else { "" });
    }
    say(format!(
        "{}: {} {sockets}, messages of {} bytes, {how}{more}",
        plan.target, plan.connections, plan.size
    ));
    say(format!(
        "  messages  {} in {:.2} s, {}/s, {}/s each way",
        grouped(report.messages as f64),
        report.elapsed.as_secs_f64(),
        grouped(rate(report)),
        bytes(rate(report) * plan.size as f64)
    ));
    if let Some(own) = each(report, measured.own_cpu) {
        let server = measured.server_cpu.and_then(|cpu| each(report, cpu));
        let server = server.map(|ns| format!(", the server's {}", time(ns)));
        say(format!(
            "  CPU       {} a message{}",
            time(own),
            server.unwrap_or_default()
        ));
    }
    if report.messages > 0 {
        let [p50, p90, p99, p999, max] = quantiles(report).map(|ns| time(ns as f64));
        say(format!(
            "  latency   p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max}"
        ));
    }
    if report.failed() > 0 {
        say(format!("  failed    {}", advice::causes(report)));
    }
    if report.lost > 0 {
        say(format!("  lost      {}", grouped(report.lost as f64)));
    }
    if report.messages > 0 {
        say(format!(
            "\n{}",
            histogram::draw(&histogram::rows(report)).trim_end()
        ));
    }
    told
}

/// For a program.
pub(super) fn json(measured: &Measured<'_>, failure: Option<&Failure>) -> String {
    let (report, plan) = (&measured.report, measured.plan);
    let [p50, p90, p99, p999, max] = quantiles(report);
    let rows = histogram::rows(report);
    let rows = rows
        .iter()
        .map(|row| json!({"from_ns": row.from, "to_ns": row.to, "count": row.count}));
    let failures = report.failures.iter().map(
        |(cause, count)| json!({"name": cause.name(), "text": cause.to_string(), "count": count}),
    );
    let object = json!({
        "target": plan.target.to_string(),
        "udp": measured.args.udp,
        "churn": plan.mode == Mode::Churn,
        "connections": plan.connections,
        "size": plan.size,
        "depth": plan.depth,
        "verified": plan.verify,
        "ended_early": measured.early,
        "messages": report.messages,
        "seconds": report.elapsed.as_secs_f64(),
        "messages_per_second": rate(report),
        "bytes_per_second": rate(report) * plan.size as f64,
        "own_cpu_ns_per_message": each(report, measured.own_cpu),
        "server_cpu_ns_per_message": measured.server_cpu.and_then(|cpu| each(report, cpu)),
        "latency_ns": {"p50": p50, "p90": p90, "p99": p99, "p99.9": p999, "max": max},
        "histogram": rows.collect::<Vec<Value>>(),
        "failed_connections": report.failed(),
        "failures": failures.collect::<Vec<Value>>(),
        "unanswered": report.unanswered,
        "lost": report.lost,
        "error": failure.map(ToString::to_string),
    });
    format!("{object}\n")
}

fn rate(report: &Report) -> f64 {
    report.messages as f64 / report.elapsed.as_secs_f64().max(1e-9)
}

/// Nanoseconds of this time for each message.
fn each(report: &Report, time: Duration) -> Option<f64> {
    (report.messages > 0).then(|| time.as_nanos() as f64 / report.messages as f64)
}

fn quantiles(report: &Report) -> [u64; 5] {
    let latency = &report.latency;
    let [p50, p90, p99, p999] =
        [0.5, 0.9, 0.99, 0.999].map(|q| latency.value_at_quantile(q).min(latency.max()));
    [p50, p90, p99, p999, latency.max()]
}
