//! What a connection that says nothing costs: resident memory of the server's process.
//!
//! Each connection echoes one message first, which proves that the server has it and shows whether a
//! buffer stays behind; then it is silent. A first round of a few connections, opened and closed, is
//! not counted: it pages in the code. The kernel's own memory for a socket is not in the figure.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use echoloop_load::Plan;

use crate::child::Child;
use crate::drive::Driver;
use crate::process::{self, Cores};
use crate::progress::Progress;
use crate::servers::{Program, Row};
use crate::workload::Workload;

const WARM_UP: usize = 50;

/// What one server's idle connections cost.
#[derive(Debug, Clone)]
pub(crate) struct Idle {
    pub(crate) row: Row,
    pub(crate) connections: usize,
    /// Bytes per connection with all of them open, in each round; or why it failed.
    pub(crate) rounds: Result<Vec<f64>, String>,
}

impl Idle {
    /// Bytes per connection when opened for the first time.
    pub(crate) fn bytes(&self) -> Option<f64> {
        self.rounds.as_ref().ok()?.first().copied()
    }

    /// Bytes per connection that the last round took more than the first.
    pub(crate) fn growth(&self) -> Option<f64> {
        match self.rounds.as_deref() {
            Ok([first, .., last]) => Some(last - first),
            _ => None,
        }
    }
}

/// Opens `connections` to every server, `rounds` times.
pub(crate) fn measure(
    servers: &[Program],
    cores: Cores,
    connections: usize,
    rounds: usize,
    progress: &mut Progress,
) -> Vec<Idle> {
    let one = |program: &Program| {
        let row = program.row;
        progress.show(&format!(
            "idle: {connections} connections to {}",
            row.name()
        ));
        let outcome = measure_one(program, cores, connections, rounds);
        Idle {
            row,
            connections,
            rounds: outcome.map_err(|error| format!("{error:#}")),
        }
    };
    servers.iter().map(one).collect()
}

fn measure_one(
    program: &Program,
    cores: Cores,
    connections: usize,
    rounds: usize,
) -> Result<Vec<f64>> {
    let (server, address) = Child::serve(program, cores.server, &[])?;
    let pid = server.pid();
    let plan = Workload::Idle.plan(address);
    let waves = connections.div_ceil(plan.connections);
    let opened = (waves * plan.connections) as f64;
    let at_rest = process::descriptors(pid)?;

    let few = Plan {
        connections: WARM_UP,
        ..plan.clone()
    };
    drop(Driver::start(&few, 2, cores.load)?);
    wait_until_closed(pid, at_rest)?;
    let before = process::resident(pid)?;
    let mut bytes = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let driver = Driver::start(&plan, waves, cores.load)?;
        bytes.push((process::resident(pid)? as f64 - before as f64) / opened);
        drop(driver);
        wait_until_closed(pid, at_rest)?;
    }
    Ok(bytes)
}

/// Waits until the server has noticed that its clients are gone.
fn wait_until_closed(pid: u32, at_rest: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while process::descriptors(pid)? > at_rest {
        ensure!(Instant::now() < deadline, "closed connections stay open");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
