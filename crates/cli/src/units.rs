//! Numbers for a person: bytes, times, counts.
//!
//! The rule: a script gets plain numbers by `--json`; what is rounded here is only to be read.

/// A number of bytes for a person: `1.5 MiB`.
pub(crate) fn bytes(n: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut n = n;
    for unit in units {
        if n < 1024.0 {
            return if unit == "B" {
                format!("{n:.0} B")
            } else {
                format!("{n:.1} {unit}")
            };
        }
        n /= 1024.0;
    }
    format!("{n:.1} PiB")
}

/// A time for a person, with three digits: `7.81 µs`.
pub(crate) fn time(ns: f64) -> String {
    let (mut value, mut unit) = (ns, "ns");
    for larger in ["µs", "ms", "s"] {
        if value >= 999.5 {
            (value, unit) = (value / 1000.0, larger);
        }
    }
    let digits = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text} {unit}")
}

/// A whole number with commas: `1,234,567`.
pub(crate) fn grouped(n: f64) -> String {
    let digits = format!("{n:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{bytes, grouped, time};

    #[test]
    fn times_have_three_digits() {
        let told = [0.0, 1.0, 999.4, 999.6, 7812.0, 20_000.0, 123_456_789.0, 2e9].map(time);
        let expected = [
            "0 ns", "1 ns", "999 ns", "1 µs", "7.81 µs", "20 µs", "123 ms", "2 s",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            [0.4, 999.0, 1234567.8].map(grouped),
            ["0", "999", "1,234,568"]
        );
    }

    #[test]
    fn bytes_are_told_in_units_of_1024() {
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(1023.0), "1023 B");
        assert_eq!(bytes(1536.0), "1.5 KiB");
        assert_eq!(bytes(70.0 * 1024.0 * 1024.0), "70.0 MiB");
    }
}
