//! Places in the WAL as the server writes them: `16/B374D848`.

use freshet_core::position::Lsn;

/// As the server writes it.
pub(crate) fn text(lsn: Lsn) -> String {
    format!("{:X}/{:X}", lsn.0 >> 32, lsn.0 & 0xffff_ffff)
}

/// The place that the server writes so.
pub(crate) fn parse(text: &str) -> Option<Lsn> {
    let (high, low) = text.split_once('/')?;
    let half = |text| u32::from_str_radix(text, 16).ok();
    Some(Lsn(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_the_server_does() {
        for place in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(parse(place).map(text).as_deref(), Some(place));
        }
        assert!(parse("16").is_none() && parse("16/x").is_none());
    }
}
