//! Every scenario on every face, at full size.
//!
//! The scenarios are in `tests/src/scenario`; run one on one face by its name, for example
//! `cargo test -p echoloop-tests --test conformance c_hooks::half_closed`.

mod conformance {
    use echoloop_tests::{Face, Rig};

    echoloop_tests::conformance_tests! {
        rust => Some(Rig::new(Face::Rust));
        c_hooks => Some(Rig::new(Face::CHooks));
        c_batch => Some(Rig::new(Face::CBatch));
        python => Some(Rig::new(Face::Python));
    }
}

/// Only these faces can listen on several addresses.
mod several_listeners {
    use echoloop_tests::{Client, Face, Rig};

    #[test]
    fn rust_serves_two_addresses_alike() {
        serves_two_addresses_alike(Rig::new(Face::Rust));
    }

    #[test]
    fn python_serves_two_addresses_alike() {
        serves_two_addresses_alike(Rig::new(Face::Python));
    }

    fn serves_two_addresses_alike(rig: Rig) {
        let server = rig
            .server()
            .listen("127.0.0.1:0")
            .listen("127.0.0.2:0")
            .start();
        let [one, two] = server.addresses() else {
            panic!("two addresses were asked for");
        };
        assert_eq!(
            (one.ip().to_string(), two.ip().to_string()),
            ("127.0.0.1".into(), "127.0.0.2".into())
        );
        let clients = [one, two, one, two].map(|address| Client::connect(*address));
        for client in &clients {
            client.echo(b"to any of them");
        }
        server.stop();
    }
}
