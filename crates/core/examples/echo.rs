//! The smallest echo server on the core alone: `cargo run -p echoloop-core --example echo`.

use echoloop_core::{Error, Event, EventLoop, ListenOptions, LoopOptions};

fn main() -> Result<(), Error> {
    let mut el = EventLoop::new(LoopOptions::default())?;
    let addr = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7007".to_owned());
    let listener = el.listen(addr.as_str(), &ListenOptions::default())?;
    println!("listening on {}", el.listener_addr(listener)?);
    loop {
        el.poll(None)?;
        while let Some(event) = el.next_event() {
            if let Event::Data { conn } = event {
                el.conn(conn)?.send_received(usize::MAX)?;
            }
        }
    }
}
