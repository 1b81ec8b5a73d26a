//! Texts of addresses: what parses is told in a text that parses to the same, and what does not
//! parse says why.

use echoloop_core::{Addr, Error, ErrorKind, Target, UnixAddr};

/// Parses `bytes`, if they are a text, by every way there is.
pub(crate) fn run(bytes: &[u8]) {
    // Names and paths that are no text are still told, and never as another one.
    for addr in [UnixAddr::abstract_name(bytes), UnixAddr::default()] {
        assert!(addr.to_string().starts_with("unix:"));
        assert!(!addr.to_string().contains(char::is_control));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match text.parse::<Addr>() {
        Ok(addr) => {
            assert_eq!(addr.to_string().parse().as_ref(), Ok(&addr), "{text:?}");
            assert_eq!(text.parse(), Ok(Target::from(addr.clone())), "{text:?}");
            if addr.unix().is_some() {
                assert_eq!(addr.to_string(), text);
            }
        }
        Err(e) => says_why(&e),
    }
    match text.parse::<Target>() {
        Ok(target) => {
            let told = target.to_string();
            assert_eq!(told.parse().as_ref(), Ok(&target), "{text:?}");
            if let Target::Name { host, port } = &target {
                let digits = text.rsplit(':').next().unwrap_or_default();
                assert!(digits.bytes().all(|b| b.is_ascii_digit()), "{text:?}");
                assert!(text.starts_with(&**host), "{text:?}");
                assert_eq!(Target::try_from((&**host, *port)), Ok(target), "{text:?}");
            }
        }
        Err(e) => says_why(&e),
    }
    // A host by itself comes to the same as with its port in the text.
    if let Ok(target) = Target::try_from((text, 80)) {
        assert_eq!(target.to_string().parse(), Ok(target), "{text:?}");
    }
}

fn says_why(e: &Error) {
    assert!(matches!(e.kind(), ErrorKind::InvalidInput(why) if !why.is_empty()));
    assert_eq!(e.operation(), "parse address");
}
