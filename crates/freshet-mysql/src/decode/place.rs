//! Where in the server's files the stream is: file names that only go up, positions of 64 bits.
//!
//! Not the position that is reported: that rests on commits. Headers have 32 bits of a position (P14), so the upper
//! half is counted here; the server starts every file with a ROTATE of its own making that has all 64.

use freshet_core::position::FilePos;

use super::header::Header;

/// The place behind the event that was read last.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) file: FilePos,
}

impl Place {
    /// Moves behind an event of the file. `Err` if positions run backwards.
    pub(super) fn pass(&mut self, header: &Header) -> Result<(), String> {
        if header.is_artificial() {
            return Ok(());
        }
        self.file.pos = self.widen(header.next_pos)?;
        Ok(())
    }

    /// The 64 bits of a position that is at or after this place.
    pub(super) fn widen(&self, low: u32) -> Result<u64, String> {
        const HALF: u64 = 1 << 31;
        let same = self.file.pos & !u64::from(u32::MAX) | u64::from(low);
        if same >= self.file.pos {
            return Ok(same);
        }
        let wrapped = same + (1 << 32);
        if wrapped - self.file.pos > HALF {
            return Err(format!("position {low} follows position {}", self.file.pos));
        }
        Ok(wrapped)
    }

    /// Goes on at `pos` of `file`. `Err` if that is neither a later file nor this place or one behind it (P16).
    pub(super) fn rotate(&mut self, file: &str, pos: u64) -> Result<(), String> {
        let next = FilePos { file: file.to_owned(), pos };
        let is_first = self.file.file.is_empty();
        let is_same = self.file.file == file;
        let is_later = self.file.split().zip(next.split()).is_some_and(|(a, b)| a.0 == b.0 && a.1 < b.1);
        if !is_first && !is_same && !is_later {
            return Err(format!("file {file} follows file {}", self.file.file));
        }
        if is_same && pos < self.file.pos {
            return Err(format!("position {pos} of file {file} follows position {}", self.file.pos));
        }
        self.file = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: &str, pos: u64) -> Place {
        Place { file: FilePos { file: file.into(), pos } }
    }

    #[test]
    fn p14_positions_beyond_4_gib() {
        let mut place = at("b.000001", u64::from(u32::MAX) - 10);
        let header = |next_pos| Header { next_pos, ..Header::default() };
        place.pass(&header(90)).expect("wraps");
        assert_eq!(place.file.pos, (1 << 32) + 90);
        place.pass(&header(0)).expect("artificial");
        place
            .pass(&Header { next_pos: 5, flags: super::super::header::FLAG_ARTIFICIAL, ..Header::default() })
            .expect("flag");
        assert_eq!(place.file.pos, (1 << 32) + 90);
        assert!(at("b.000001", 1000).pass(&header(500)).is_err());
    }

    #[test]
    fn p16_files_only_go_up() {
        let mut place = at("b.999999", 100);
        place.rotate("b.1000000", 4).expect("numbers, not text");
        assert!(place.rotate("b.999999", 4).is_err() && place.rotate("c.1000001", 4).is_err());
        place.rotate("b.1000000", 4).expect("the server's own ROTATE repeats the place");
        place.rotate("b.1000000", 500).expect("further on");
        assert!(place.rotate("b.1000000", 499).is_err(), "back in the same file");
        at("", 0).rotate("x.000007", 4).expect("the first");
    }
}
