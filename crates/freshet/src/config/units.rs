//! Sizes and times as people write them: `10GiB`, `1h`.

/// Bytes: a whole number and `B`, `KiB`, `MiB`, `GiB`, `TiB`, `kB`, `MB`, `GB` or `TB`; a bare number is bytes.
pub fn size_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Milliseconds: a whole number and `ms`, `s`, `m`, `h` or `d`. A bare number has no unit and is refused, but 0.
pub fn time_ms(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit {
        "" if number == 0 => 1,
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

/// Bytes for people: three digits and a binary unit.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if value < 10.0 => format!("{value:.2} {}", UNITS[unit]),
        _ if value < 100.0 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// A time for people: `0 ms`, `850 ms`, `12.3 s`, `4 min 10 s`, `2 h 05 min`, `3 d 4 h`.
pub fn show_ms(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms} ms"),
        1..=59 => format!("{}.{} s", s, ms % 1000 / 100),
        60..=3599 => format!("{} min {:02} s", s / 60, s % 60),
        3600..=86_399 => format!("{} h {:02} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
}

/// A time that is only a guess, in whole seconds.
pub fn show_about(ms: u64) -> String {
    match ms.div_ceil(1000) {
        s @ 0..=59 => format!("about {s} s"),
        s => format!("about {}", show_ms(s * 1000)),
    }
}

/// A count with commas between groups of three: `1,234,567`.
pub fn show_count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expect) in [
            ("10GiB", Some(10 << 30)),
            ("512 MiB", Some(512 << 20)),
            ("1GB", Some(1_000_000_000)),
            ("4096", Some(4096)),
            ("1.5GiB", None),
            ("10G", None),
            ("10 gib", None),
            ("-1", None),
            ("", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(size_bytes(text), expect, "{text}");
        }
    }

    #[test]
    fn times() {
        for (text, expect) in [
            ("1h", Some(3_600_000)),
            ("90 s", Some(90_000)),
            ("250ms", Some(250)),
            ("0", Some(0)),
            ("15", None),
            ("2w", None),
        ] {
            assert_eq!(time_ms(text), expect, "{text}");
        }
    }

    #[test]
    fn shown_for_people() {
        assert_eq!(
            [show_bytes(0), show_bytes(1023), show_bytes(1 << 20), show_bytes(20 << 30)],
            ["0 B", "1023 B", "1.00 MiB", "20.0 GiB"]
        );
        assert_eq!(
            [show_ms(7), show_ms(12_340), show_ms(250_000), show_ms(7_500_000), show_ms(273_600_000)],
            ["7 ms", "12.3 s", "4 min 10 s", "2 h 05 min", "3 d 4 h"]
        );
        assert_eq!(
            [show_about(1), show_about(59_000), show_about(61_500)],
            ["about 1 s", "about 59 s", "about 1 min 02 s"]
        );
        assert_eq!([show_count(0), show_count(999), show_count(1_234_567)], ["0", "999", "1,234,567"]);
    }
}
