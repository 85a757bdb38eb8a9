//! Character sets: stored bytes into UTF-8, with exactly the servers' own mapping (M13).
//!
//! MySQL's `latin1` is nearly windows-1252, its `sjis` is not windows-31J, and bytes that are no text in their set do
//! exist: those are no error, [`Charset::salvage`] keeps them marked among what does decode. Sets of 8 bits come whole from the servers
//! (`single_byte.txt`); sets of several bytes are the ones of `encoding_rs`, corrected where the servers differ
//! (`multi_byte.txt`); which set a collation belongs to is in `collations.txt`. A test compares every code with
//! both servers.

mod multi;
mod single;

use std::sync::OnceLock;

use freshet_core::undecodable;
use multi::MultiByte;
use single::SingleByte;

/// A character set.
#[derive(Clone, Copy, Debug)]
pub struct Charset {
    kind: Kind,
    name: &'static str,
    bytes_min: u8,
    bytes_max: u8,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Binary,
    Utf8,
    Utf16 { is_little: bool },
    Ucs2,
    Utf32,
    Single(&'static SingleByte),
    Multi(&'static MultiByte),
}

/// What became of stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// Text; borrowed from the input or from the scratch.
    Text(&'a str),
    /// The bytes are no text of the set: [`Charset::salvage`] tells which.
    Undecodable,
}

impl Charset {
    /// Bytes that are no text.
    pub const BINARY: Charset = Charset { kind: Kind::Binary, name: "binary", bytes_min: 1, bytes_max: 1 };
    /// `utf8mb4`.
    pub const UTF8MB4: Charset = Charset { kind: Kind::Utf8, name: "utf8mb4", bytes_min: 1, bytes_max: 4 };

    /// The set of a collation of either server; `None` if no known server has the collation.
    pub fn of_collation(id: u64) -> Option<Charset> {
        let ranges = collations();
        let after = ranges.partition_point(|range| range.0 <= id);
        let (_, last, name) = ranges.get(after.checked_sub(1)?)?;
        if id <= *last { Charset::named(name) } else { None }
    }

    /// The set of this name.
    pub fn named(name: &str) -> Option<Charset> {
        let fixed = |kind, name, bytes_min, bytes_max| Some(Charset { kind, name, bytes_min, bytes_max });
        match name {
            "binary" => Some(Charset::BINARY),
            "utf8mb4" => Some(Charset::UTF8MB4),
            "utf8mb3" | "utf8" => fixed(Kind::Utf8, "utf8mb3", 1, 3),
            "ucs2" => fixed(Kind::Ucs2, "ucs2", 2, 2),
            "utf16" => fixed(Kind::Utf16 { is_little: false }, "utf16", 2, 4),
            "utf16le" => fixed(Kind::Utf16 { is_little: true }, "utf16le", 2, 4),
            "utf32" => fixed(Kind::Utf32, "utf32", 4, 4),
            _ => match (single::named(name), multi::named(name)) {
                (Some(set), _) => fixed(Kind::Single(set), set.name(), 1, 1),
                (None, Some(set)) => fixed(Kind::Multi(set), set.name(), 1, set.bytes_max()),
                (None, None) => None,
            },
        }
    }

    /// The server's name for it.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Whether it is the set of bytes that are no text.
    pub fn is_binary(self) -> bool {
        matches!(self.kind, Kind::Binary)
    }

    /// Whether it is stored as UTF-8.
    pub fn is_utf8(self) -> bool {
        matches!(self.kind, Kind::Utf8)
    }

    /// Bytes of its shortest character.
    pub fn bytes_min(self) -> u8 {
        self.bytes_min
    }

    /// Bytes of its longest character.
    pub fn bytes_max(self) -> u8 {
        self.bytes_max
    }

    /// Stored bytes as text. `scratch` is room that grows with the text, never with a length that was announced.
    #[inline]
    pub fn decode<'a>(self, bytes: &'a [u8], scratch: &'a mut String) -> Decoded<'a> {
        match self.kind {
            Kind::Utf8 | Kind::Binary => borrowed(bytes),
            Kind::Single(set) if set.is_ascii_superset() && bytes.is_ascii() => borrowed(bytes),
            Kind::Multi(_) if bytes.is_ascii() => borrowed(bytes),
            Kind::Single(_) | Kind::Multi(_) | Kind::Ucs2 | Kind::Utf16 { .. } | Kind::Utf32 => {
                self.convert(bytes, scratch)
            }
        }
    }

    fn convert<'a>(self, bytes: &[u8], scratch: &'a mut String) -> Decoded<'a> {
        scratch.clear();
        let done = match self.kind {
            Kind::Single(set) => set.convert(bytes, scratch),
            Kind::Multi(set) => set.convert(bytes, scratch),
            Kind::Ucs2 => ucs2(bytes, scratch),
            Kind::Utf16 { is_little } => utf16(bytes, is_little, scratch),
            Kind::Utf32 => utf32(bytes, scratch),
            Kind::Utf8 | Kind::Binary => None,
        };
        if done.is_some() { Decoded::Text(scratch) } else { Decoded::Undecodable }
    }

    /// Bytes that [`Charset::decode`] does not decode, in the form of [`undecodable`]: their characters in UTF-8, what
    /// is none marked. Bytes that do decode come as their text.
    #[cold]
    pub fn salvage(self, mut bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        while !bytes.is_empty() {
            let (found, len) = self.character(bytes);
            let (sequence, rest) = bytes.split_at(len.clamp(1, bytes.len()));
            match found {
                Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                None => undecodable::mark(sequence, &mut out),
            }
            bytes = rest;
        }
        out
    }

    /// The character at the beginning of `bytes`, if there is one, and how many bytes it or what is none takes.
    fn character(self, bytes: &[u8]) -> (Option<char>, usize) {
        let scalar = |code: Option<u32>, len| (code.and_then(char::from_u32), len);
        match self.kind {
            Kind::Utf8 | Kind::Binary => utf8_character(bytes),
            Kind::Single(set) => (bytes.first().and_then(|byte| set.character(*byte)), 1),
            Kind::Multi(set) => set.salvage(bytes),
            Kind::Ucs2 => scalar(bytes.first_chunk().map(|unit| u32::from(u16::from_be_bytes(*unit))), 2),
            Kind::Utf16 { is_little } => utf16_character(bytes, is_little),
            Kind::Utf32 => scalar(bytes.first_chunk().map(|unit| u32::from_be_bytes(*unit)), 4),
        }
    }

    /// Stored bytes as a string of their own, for names and labels.
    pub fn to_text(self, bytes: &[u8]) -> Option<String> {
        match self.decode(bytes, &mut String::new()) {
            Decoded::Text(text) => Some(text.to_owned()),
            Decoded::Undecodable => None,
        }
    }
}

#[inline]
fn borrowed(bytes: &[u8]) -> Decoded<'_> {
    std::str::from_utf8(bytes).map_or(Decoded::Undecodable, Decoded::Text)
}

fn ucs2(bytes: &[u8], out: &mut String) -> Option<()> {
    let (units, rest) = bytes.as_chunks::<2>();
    for unit in units {
        out.push(char::from_u32(u32::from(u16::from_be_bytes(*unit)))?);
    }
    rest.is_empty().then_some(())
}

fn utf16(bytes: &[u8], is_little: bool, out: &mut String) -> Option<()> {
    let (units, rest) = bytes.as_chunks::<2>();
    let units = units.iter().map(|u| if is_little { u16::from_le_bytes(*u) } else { u16::from_be_bytes(*u) });
    for c in char::decode_utf16(units) {
        out.push(c.ok()?);
    }
    rest.is_empty().then_some(())
}

fn utf8_character(bytes: &[u8]) -> (Option<char>, usize) {
    let head = bytes.get(..4).unwrap_or(bytes);
    match head.utf8_chunks().next() {
        Some(chunk) if !chunk.valid().is_empty() => {
            let found = chunk.valid().chars().next();
            (found, found.map_or(1, char::len_utf8))
        }
        Some(chunk) => (None, chunk.invalid().len()),
        None => (None, 0),
    }
}

fn utf16_character(bytes: &[u8], is_little: bool) -> (Option<char>, usize) {
    let (units, _) = bytes.as_chunks::<2>();
    let units = units.iter().take(2);
    let units = units.map(|u| if is_little { u16::from_le_bytes(*u) } else { u16::from_be_bytes(*u) });
    match char::decode_utf16(units).next() {
        Some(Ok(c)) => (Some(c), 2 * c.len_utf16()),
        Some(Err(_)) | None => (None, 2),
    }
}

fn utf32(bytes: &[u8], out: &mut String) -> Option<()> {
    let (units, rest) = bytes.as_chunks::<4>();
    for unit in units {
        out.push(char::from_u32(u32::from_be_bytes(*unit))?);
    }
    rest.is_empty().then_some(())
}

/// First and last id, and the set, in order.
fn collations() -> &'static [(u64, u64, &'static str)] {
    static RANGES: OnceLock<Vec<(u64, u64, &'static str)>> = OnceLock::new();
    RANGES.get_or_init(|| {
        let lines = include_str!("collations.txt").lines().filter(|line| !line.starts_with('#'));
        let range = |line: &'static str| {
            let mut words = line.split(' ');
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?))
        };
        lines.filter_map(range).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(charset: &str, bytes: &[u8], expect: Option<&str>) {
        let set = Charset::named(charset).expect("a character set");
        assert_eq!(set.to_text(bytes).as_deref(), expect, "{charset} {bytes:02x?}");
    }

    #[test]
    fn m13_mappings_are_the_servers() {
        check("latin1", b"\x80\xe4\x81", Some("€ä\u{81}"));
        check("ascii", b"a\x80", None);
        check("swe7", b"\x5b\x5d", Some("ÄÅ"));
        check("gbk", b"a\xc4\xe3", Some("a你"));
        check("gbk", b"\xc4", None);
        check("sjis", b"\xb1\x82\xa0", Some("ｱあ"));
        check("ujis", b"\xa4\xa2\x8e\xb1\x8f\xb0\xa1", Some("あｱ丂"));
        check("euckr", b"\xb0\xa1", Some("가"));
        check("big5", b"\xa4\x40", Some("一"));
        check("gb18030", b"\x94\x39\xda\x33\x81\x30\x81\x30", Some("💩\u{80}"));
        check("utf16", b"\xd8\x3d\xdc\xa9", Some("💩"));
        check("utf16", b"\xd8\x3d", None);
        check("utf16le", b"a\0", Some("a"));
        check("ucs2", b"\xd8\x3d", None);
        check("utf32", b"\0\x01\xf4\xa9", Some("💩"));
        check("utf8mb3", "ä".as_bytes(), Some("ä"));
        check("utf8mb4", b"\xff", None);
    }

    #[test]
    fn m13_what_does_not_decode_is_marked_among_what_does() {
        let check = |charset: &str, bytes: &[u8], expect: &str| {
            let set = Charset::named(charset).expect("a character set");
            assert_eq!(set.to_text(bytes), None, "{charset} {bytes:02x?}");
            let text = undecodable::replace(&set.salvage(bytes));
            assert_eq!(text.as_deref(), Some(expect), "{charset} {bytes:02x?}");
        };
        check("utf8mb4", b"a\xffb\xf0\x9f\x92\xa9\xf0\x9f\x92", "a\u{fffd}b💩\u{fffd}");
        check("utf8mb3", b"\xc3\xa4\xc3(\xed\xa0\x80", "ä\u{fffd}(\u{fffd}\u{fffd}\u{fffd}");
        check("ascii", b"a\xc3\xa4", "a\u{fffd}\u{fffd}"); // UTF-8, but not in this set
        check("cp1251", b"\xc4\x98", "Д\u{fffd}");
        check("gbk", b"\xc4\xe3\xc4", "你\u{fffd}");
        check("gbk", b"\xff\xc4\xe3<\xfe\xfeb\x81 c", "\u{fffd}你<\u{fffd}b\u{fffd} c");
        check("gb18030", b"\xc4\xe3\x84\x31\xa5\x30", "你\u{fffd}1\u{fffd}0");
        check("sjis", b"\x82\xa0\x85\x9f\xb1\x82", "あ\u{fffd}ｱ\u{fffd}");
        check("ujis", b"\xa4\xa2\x8f\xa1\xa1\xa4\xa2\x8f\xb0", "あ\u{fffd}あ\u{fffd}\u{fffd}");
        check("big5", b"\xa4\x40\xa4!\x80\xa4\x40", "一\u{fffd}!\u{fffd}一");
        check("euckr", b"\xb0\xa1\xb0", "가\u{fffd}");
        check("ucs2", b"\0a\xd8\x3d\0b\0", "a\u{fffd}b\u{fffd}");
        check("utf16", b"\xdc\xa9\xd8\x3d\xdc\xa9\xd8\x3d", "\u{fffd}💩\u{fffd}");
        check("utf16le", b"\x3d\xd8a\0", "\u{fffd}a");
        check("utf32", b"\0\0\0a\0\x11\0\0\0\0\0b\0", "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn m13_salvage_agrees_with_decode() {
        for set in ["latin1", "swe7", "gbk", "sjis", "ujis", "big5", "euckr", "gb18030", "utf16", "utf8mb4"] {
            let set = Charset::named(set).expect("a character set");
            for code in 0..=u16::MAX {
                let bytes = [code.to_be_bytes(), *b"\0a"].concat();
                let salvaged = set.salvage(&bytes);
                match set.to_text(&bytes) {
                    Some(text) => assert_eq!(salvaged, text.as_bytes(), "{} {bytes:02x?}", set.name()),
                    None => assert!(undecodable::replace(&salvaged).is_some(), "{} {bytes:02x?}", set.name()),
                }
            }
        }
    }

    #[test]
    fn every_collation_has_a_set() {
        for (first, last, name) in collations() {
            assert!(first <= last);
            assert_eq!(Charset::named(name).map(Charset::name), Some(*name));
            assert_eq!(Charset::of_collation(*last).map(Charset::name), Some(*name));
        }
        let named = |id| Charset::of_collation(id).map(Charset::name);
        assert_eq!((named(8), named(63), named(255)), (Some("latin1"), Some("binary"), Some("utf8mb4")));
        assert_eq!((named(0), named(u64::MAX), named(2304)), (None, None, Some("utf8mb4")));
    }
}
