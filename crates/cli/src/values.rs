//! How the values of options are written: seconds, rates, sizes, modes of files.
//!
//! The rule: what is not understood is answered with an example of what would be. Clap names the
//! option and ends with code 2.

use std::time::Duration;

/// A time in seconds, above 0: `30`, `0.5`.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = seconds_or_zero(text).ok().filter(|s| !s.is_zero());
    seconds.ok_or_else(|| "write a number of seconds above 0, such as 30 or 0.5".to_owned())
}

/// A time in seconds, which may be 0.
pub(crate) fn seconds_or_zero(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok();
    seconds
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .ok_or_else(|| "write a number of seconds, such as 30 or 0.5".to_owned())
}

/// So many a second, and at most so many at once after a quiet time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rate<N> {
    pub(crate) per_second: N,
    pub(crate) burst: N,
}

/// A rate of things: `100` or `100:500`. Without a burst it is that of one second.
pub(crate) fn rate(text: &str) -> Result<Rate<u32>, String> {
    let parse = |text: &str| text.parse::<u32>().ok().filter(|n| *n > 0);
    parse_rate(text, parse).ok_or_else(|| {
        "write N or N:BURST, numbers above 0, such as 100 a second or 100:500".to_owned()
    })
}

/// A rate of bytes: `64k`, `1M`, `1M:8M`. Without a burst it is that of one second.
pub(crate) fn byte_rate(text: &str) -> Result<Rate<u64>, String> {
    parse_rate(text, bytes).ok_or_else(|| {
        "write BYTES or BYTES:BURST above 0, such as 64k or 1M a second, or 1M:8M".to_owned()
    })
}

/// A size of at most a gigabyte, in the same units.
pub(crate) fn size(text: &str) -> Result<u32, String> {
    let size = bytes(text).and_then(|bytes| u32::try_from(bytes).ok());
    size.filter(|size| *size <= 1 << 30)
        .ok_or_else(|| "write bytes from 1 to 1G, such as 4096, 64k or 1M".to_owned())
}

/// A number of bytes, above 0: `65536`, `64k`, `1M`, `2G`, in units of 1,024.
fn bytes(text: &str) -> Option<u64> {
    let units = [('k', 10), ('K', 10), ('M', 20), ('G', 30)];
    let unit = units.iter().find(|(unit, _)| text.ends_with(*unit));
    let (number, shift) = unit.map_or((text, 0), |(_, shift)| (&text[..text.len() - 1], *shift));
    let bytes = number.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    (bytes > 0).then_some(bytes)
}

/// A mode of a file in octal digits: `660`, `0660`.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = u32::from_str_radix(digits, 8).ok();
    mode.filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "write octal digits up to 777, such as 660".to_owned())
}

fn parse_rate<N: Copy>(text: &str, parse: impl Fn(&str) -> Option<N>) -> Option<Rate<N>> {
    let (per_second, burst) = text.split_once(':').unwrap_or((text, text));
    Some(Rate {
        per_second: parse(per_second)?,
        burst: parse(burst)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_above_zero_unless_zero_means_something() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds_or_zero("0"), Ok(Duration::ZERO));
        for bad in ["0", "-1", "nan", "inf", "1e99", "soon", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rate_has_a_burst_of_one_second_unless_it_says_another() {
        let both = |per_second, burst| Ok(Rate { per_second, burst });
        assert_eq!(rate("100"), both(100, 100));
        assert_eq!(rate("100:500"), both(100, 500));
        for bad in ["0", "5:0", ":", "5:", "-1", "x", "5:5:5"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_have_units_of_1024() {
        let both = |per_second, burst| Ok(Rate { per_second, burst });
        assert_eq!(byte_rate("1000"), both(1000, 1000));
        assert_eq!(byte_rate("64k:2M"), both(64 << 10, 2 << 20));
        assert_eq!(byte_rate("1G"), both(1 << 30, 1 << 30));
        for bad in ["0", "k", "", "1T", "1.5M", "99999999999G", "1M:", "-1", "µ"] {
            assert!(byte_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_size_is_at_most_a_gigabyte() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("64k"), Ok(64 << 10));
        assert_eq!(size("1G"), Ok(1 << 30));
        for bad in ["0", "2G", "1073741825", "4294967296", "x", ""] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mode_is_octal() {
        assert_eq!(mode("660"), Ok(0o660));
        assert_eq!(mode("0o600"), Ok(0o600));
        for bad in ["", "888", "7777", "rw"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }
}
