//! A TCP proxy: each client gets a connection of its own to the server, and the two are piped.
//!
//! `cargo run -p echoloop-core --example proxy -- 127.0.0.1:7008 127.0.0.1:7007`, with a server on
//! port 7007, and then `nc 127.0.0.1 7008`.

use std::time::Duration;

use echoloop_core::{
    ConnOptions, ConnectOptions, Error, Event, EventLoop, ListenOptions, LoopOptions,
};

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let mut next = |default: &str| args.next().unwrap_or_else(|| default.to_owned());
    let (from, to) = (next("127.0.0.1:7008"), next("127.0.0.1:7007"));

    // Nobody may sit on a connection for ever: these deadlines count while it is piped, too.
    let conn = ConnOptions {
        idle_timeout: Some(Duration::from_secs(600)),
        write_stall_timeout: Some(Duration::from_secs(60)),
        ..ConnOptions::default()
    };
    let listen = ListenOptions {
        conn: conn.clone(),
        ..ListenOptions::default()
    };
    let connect = ConnectOptions {
        timeout: Some(Duration::from_secs(5)),
        conn,
        ..ConnectOptions::default()
    };

    let mut el = EventLoop::new(LoopOptions::default())?;
    let listener = el.listen(from.as_str(), &listen)?;
    println!("{} goes to {to}", el.listener_addr(listener)?);
    loop {
        el.poll(None)?;
        while let Some(event) = el.next_event() {
            match event {
                Event::Accepted { conn: client, .. } => match el.connect(to.as_str(), &connect) {
                    // What the client sends meanwhile waits; if the connect fails, it is closed.
                    Ok(server) => el.pipe(client, server)?,
                    Err(e) => {
                        eprintln!("{e}");
                        el.conn(client)?.close();
                    }
                },
                Event::Closed { conn, reason, .. } => {
                    println!("{} is closed: {reason}", el.conn(conn)?.peer_addr());
                }
                _ => {}
            }
        }
    }
}
