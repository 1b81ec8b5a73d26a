//! What is measured: the workloads, their names on the command line and their sizes.

use std::net::SocketAddrV4;

use echoloop_load::{Mode, Plan};

use crate::servers::Row;

/// One kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// 100 connections, 64 bytes, one in flight
    Small,
    /// 50 connections, 1 KiB, 16 in flight
    Pipelined,
    /// 4 connections, 1 MiB, one in flight
    Stream,
    /// connect, echo 64 bytes, close; 50 at a time
    Churn,
    /// 15,000 connections, 64 bytes, one in flight: without and with an idle timeout
    Many,
    /// memory of connections that say nothing
    Idle,
}

impl Workload {
    pub(crate) const ALL: [Workload; 6] = [
        Workload::Small,
        Workload::Pipelined,
        Workload::Stream,
        Workload::Churn,
        Workload::Many,
        Workload::Idle,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Small => "small",
            Workload::Pipelined => "pipelined",
            Workload::Stream => "stream",
            Workload::Churn => "churn",
            Workload::Many => "many",
            Workload::Idle => "idle",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Workload::Small => "100 connections x 64 B, one in flight",
            Workload::Pipelined => "50 connections x 1 KiB, 16 in flight",
            Workload::Stream => "4 streams of 1 MiB messages",
            Workload::Churn => "connect, echo 64 B, close; 50 at a time",
            Workload::Many => "15,000 connections x 64 B, one in flight",
            Workload::Idle => "idle connections",
        }
    }

    pub(crate) fn plan(self, target: SocketAddrV4) -> Plan {
        let plan = Plan::new(target);
        let (connections, size, depth) = match self {
            Workload::Small => (100, 64, 1),
            Workload::Pipelined => (50, 1024, 16),
            Workload::Stream => (4, 1 << 20, 1),
            Workload::Churn => {
                return Plan {
                    mode: Mode::Churn,
                    connections: 50,
                    // Ports of a closed connection rest for a minute: enough of them for all bursts.
                    sources: 250,
                    ..plan
                };
            }
            Workload::Many => {
                return Plan {
                    connections: 15_000,
                    sources: 16,
                    ..plan
                };
            }
            // Opened and echoed once in waves that fit every listener's backlog.
            Workload::Idle => {
                return Plan {
                    connections: 500,
                    sources: 16,
                    ..plan
                };
            }
        };
        Plan {
            connections,
            size,
            depth,
            ..plan
        }
    }

    /// Whether a server that was not asked for by name takes part.
    pub(crate) fn takes(self, row: Row) -> bool {
        match self {
            Workload::Many => matches!(row, Row::Floor | Row::Rust | Row::RustIdle),
            _ => row != Row::RustIdle,
        }
    }

    /// Messages that show, verified, that a server echoes this load right.
    pub(crate) fn trial(self) -> u64 {
        match self {
            Workload::Stream => 12,
            _ => 2_000,
        }
    }

    /// Messages of the shorter of two runs under a tool that counts and slows the server.
    pub(crate) fn counted(self) -> u64 {
        match self {
            Workload::Stream => 200,
            Workload::Churn => 1_000,
            _ => 20_000,
        }
    }
}
