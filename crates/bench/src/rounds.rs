//! The paired rounds: short bursts of the floor and of every other server in turn.
//!
//! All servers of a workload run at the same time, each with a load generator that is connected and
//! silent, so a burst starts at once and disturbs nobody. A round is floor, A, floor, B, ..., floor;
//! the CPU time a message of A is divided by the mean of the floor's just before and just after it.
//! The order rotates from round to round, and the result is the median of the ratios: a machine that
//! is slower for a while is slower for both.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use echoloop_load::{Plan, Until, cpu_time};

use crate::RunOptions;
use crate::child::Child;
use crate::drive::{Burst, Driver};
use crate::process::Cores;
use crate::progress::Progress;
use crate::servers::{Program, Row};
use crate::workload::Workload;

/// What was measured of one server under one workload.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) row: Row,
    pub(crate) times: Option<Times>,
    pub(crate) failed: Option<String>,
    pub(crate) instructions: Option<f64>,
    /// Calls per message by name, most frequent first.
    pub(crate) syscalls: Option<Vec<(String, f64)>>,
}

/// Medians over all bursts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) messages_per_second: f64,
    pub(crate) cpu_ns: f64,
    /// To the floor, and half the distance of its quartiles.
    pub(crate) ratio: f64,
    pub(crate) spread: f64,
    /// p50, p99, p99.9 in nanoseconds.
    pub(crate) latency: [u64; 3],
}

/// A server with its load generator, connected and silent.
struct Station {
    row: Row,
    server: Child,
    driver: Driver,
    per_second: Vec<f64>,
    cpu_ns: Vec<f64>,
    ratios: Vec<f64>,
    latency: [u64; 3],
}

/// Measures all servers; one that fails is a line that says so.
pub(crate) fn measure(
    servers: &[Program],
    cores: Cores,
    workload: Workload,
    options: &RunOptions,
    progress: &mut Progress,
) -> Result<Vec<Line>> {
    let mut failures = Vec::new();
    let mut stations = Vec::new();
    if options.rounds > 0 {
        progress.show(&format!(
            "{}: checking every server's bytes",
            workload.name()
        ));
        for program in servers {
            match Station::start(program, cores, workload) {
                Ok(station) => stations.push(Some(station)),
                Err(error) => failures.push((program.row, format!("{error:#}"))),
            }
        }
    }
    let time = Duration::from_secs_f64(options.seconds);
    let first_is_floor = |s: &[Option<Station>]| matches!(s.first(), Some(Some(station)) if station.row == Row::Floor);
    for round in 0..options.rounds {
        ensure!(
            first_is_floor(&stations),
            "the floor has failed: {failures:?}"
        );
        let place = format!(
            "{}: round {} of {}",
            workload.name(),
            round + 1,
            options.rounds
        );
        progress.show(&place);
        let (floor, others) = stations.split_at_mut(1);
        let floor = floor[0].as_mut().context("the floor is there")?;
        let mut before = floor.burst(time)?;
        let count = others.len();
        for i in 0..count {
            let other = &mut others[(i + round) % count];
            let Some(station) = other else { continue };
            progress.detail(&format!("{place}, {}", station.row.name()));
            let outcome = station.burst(time);
            let after = floor.burst(time)?;
            floor.ratios.push(after / before);
            match outcome {
                Ok(cpu_ns) => station.ratios.push(cpu_ns / ((before + after) / 2.0)),
                Err(error) => {
                    failures.push((station.row, format!("{error:#}")));
                    *other = None;
                }
            }
            before = after;
        }
    }

    let line = |program: &Program| {
        let row = program.row;
        let mut stations = stations.iter().flatten();
        let mut failures = failures.iter();
        Line {
            row,
            times: stations.find(|s| s.row == row).map(Station::times),
            failed: failures.find(|f| f.0 == row).map(|f| f.1.clone()),
            instructions: None,
            syscalls: None,
        }
    };
    Ok(servers.iter().map(line).collect())
}

impl Station {
    fn start(program: &Program, cores: Cores, workload: Workload) -> Result<Station> {
        let (server, address) = Child::serve(program, cores.server, &[])?;
        check_bytes(workload, address, cores)?;
        let mut driver = Driver::start(&workload.plan(address), 1, cores.load)?;
        driver.run(Until::Elapsed(Duration::from_millis(200)))?;
        driver.reset()?;
        Ok(Station {
            row: program.row,
            server,
            driver,
            per_second: Vec::new(),
            cpu_ns: Vec::new(),
            ratios: Vec::new(),
            latency: [0; 3],
        })
    }

    /// One burst; the server's CPU nanoseconds per message.
    fn burst(&mut self, time: Duration) -> Result<f64> {
        let cpu_time = || cpu_time(self.server.pid()).context("the server has ended");
        let before = cpu_time()?;
        let Burst {
            messages,
            elapsed,
            latency,
        } = self.driver.run(Until::Elapsed(time))?;
        let used = cpu_time()? - before;
        ensure!(messages > 0, "no message came back");
        let cpu_ns = used.as_nanos() as f64 / messages as f64;
        self.per_second
            .push(messages as f64 / elapsed.as_secs_f64());
        self.cpu_ns.push(cpu_ns);
        self.latency = latency;
        Ok(cpu_ns)
    }

    fn times(&self) -> Times {
        Times {
            messages_per_second: quantile(&self.per_second, 0.5),
            cpu_ns: quantile(&self.cpu_ns, 0.5),
            ratio: quantile(&self.ratios, 0.5),
            spread: (quantile(&self.ratios, 0.75) - quantile(&self.ratios, 0.25)) / 2.0,
            latency: self.latency,
        }
    }
}

/// A few messages of the workload, every byte compared.
fn check_bytes(workload: Workload, address: SocketAddrV4, cores: Cores) -> Result<()> {
    let plan = Plan {
        verify: true,
        ..workload.plan(address)
    };
    let mut driver = Driver::start(&plan, 1, cores.load)?;
    driver.run(Until::Messages(workload.trial()))?;
    Ok(())
}

/// A quantile between the two nearest values; of no values it is not a number.
pub(crate) fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = q * last as f64;
    let (low, high) = (sorted[place as usize], sorted[(place.ceil()) as usize]);
    low + (high - low) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(quantile(&[4.0, 1.0, 2.0, 3.0], 0.5), 2.5);
        assert_eq!(quantile(&[5.0, 1.0, 3.0], 0.5), 3.0);
        assert_eq!(quantile(&[7.0], 0.25), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
