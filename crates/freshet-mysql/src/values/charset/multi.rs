//! Character sets of one to four bytes a character: tables built from `encoding_rs`, then corrected to the servers'.
//!
//! A table is built when its set is first met: 65,536 codes of two bytes (and again as many behind 0x8F in the
//! Japanese EUCs). GB18030's codes of four bytes are asked of `encoding_rs` one by one.

use std::ops::RangeInclusive;
use std::sync::OnceLock;

use encoding_rs::Encoding;

/// One set's tables; 0 stands for no character.
#[derive(Debug)]
pub(super) struct MultiByte {
    name: &'static str,
    bytes_max: u8,
    /// Bytes with which the server lets codes of several bytes begin.
    leads: RangeInclusive<u8>,
    single: [u32; 256],
    double: Vec<u32>,
    /// Codes of three bytes behind 0x8F.
    triple: Vec<u32>,
    has_four: bool,
}

/// Begins codes of three bytes in the Japanese EUCs.
const TRIPLE_LEAD: u8 = 0x8F;

type Slot = OnceLock<MultiByte>;

/// The set of this name.
pub(super) fn named(name: &str) -> Option<&'static MultiByte> {
    static SLOTS: [Slot; 9] = [const { Slot::new() }; 9];
    const SETS: [(&str, &Encoding, u8, RangeInclusive<u8>); 9] = [
        ("big5", encoding_rs::BIG5, 2, 0xA1..=0xF9),
        ("cp932", encoding_rs::SHIFT_JIS, 2, 0x81..=0xFC),
        ("eucjpms", encoding_rs::EUC_JP, 3, 0x8E..=0xFE),
        ("euckr", encoding_rs::EUC_KR, 2, 0x81..=0xFE),
        ("gb18030", encoding_rs::GB18030, 4, 0x81..=0xFE),
        ("gb2312", encoding_rs::GBK, 2, 0xA1..=0xF7),
        ("gbk", encoding_rs::GBK, 2, 0x81..=0xFE),
        ("sjis", encoding_rs::SHIFT_JIS, 2, 0x81..=0xFC),
        ("ujis", encoding_rs::EUC_JP, 3, 0x8E..=0xFE),
    ];
    let at = SETS.iter().position(|set| set.0 == name)?;
    let (name, encoding, bytes_max, leads) = SETS[at].clone();
    Some(SLOTS[at].get_or_init(|| build(name, encoding, bytes_max, leads)))
}

fn build(
    name: &'static str,
    encoding: &'static Encoding,
    bytes_max: u8,
    leads: RangeInclusive<u8>,
) -> MultiByte {
    let mut set = MultiByte {
        name,
        bytes_max,
        leads,
        single: std::array::from_fn(|byte| lookup(encoding, &[byte as u8])),
        double: (0..=u16::MAX).map(|code| double(encoding, code.to_be_bytes())).collect(),
        triple: Vec::new(),
        has_four: bytes_max == 4,
    };
    if bytes_max == 3 {
        let triple = |code: u16| {
            let [a, b] = code.to_be_bytes();
            lookup(encoding, &[TRIPLE_LEAD, a, b])
        };
        set.triple = (0..=u16::MAX).map(triple).collect();
    }
    correct(&mut set, include_str!("multi_byte.txt"));
    set
}

fn double(encoding: &'static Encoding, bytes: [u8; 2]) -> u32 {
    if bytes[0] < 0x80 { 0 } else { lookup(encoding, &bytes) }
}

/// The character that these bytes are, all together; 0 for none.
fn lookup(encoding: &'static Encoding, bytes: &[u8]) -> u32 {
    let Some(text) = encoding.decode_without_bom_handling_and_without_replacement(bytes) else { return 0 };
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => u32::from(c),
        (None, _) | (Some(_), Some(_)) => 0,
    }
}

/// Applies lines `set WIDTH FIRST LAST TO`: codes FIRST to LAST stand for TO and what follows it, or, where TO is
/// `-`, for nothing.
fn correct(set: &mut MultiByte, text: &str) {
    for line in text.lines().filter(|line| line.split(' ').next() == Some(set.name)) {
        let mut words = line.split(' ').skip(1);
        let mut next = || words.next().unwrap_or("");
        let (width, first, last, to) = (next(), next(), next(), next());
        let hex = |word| usize::from_str_radix(word, 16).unwrap_or(usize::MAX);
        let table = match width {
            "1" => &mut set.single[..],
            "2" => &mut set.double[..],
            _ => &mut set.triple[..],
        };
        let start = u32::from_str_radix(to, 16).ok();
        if let Some(slots) = table.get_mut(hex(first)..=hex(last)) {
            for (slot, step) in slots.iter_mut().zip(0..) {
                *slot = start.map_or(0, |start| start + step);
            }
        }
    }
}

impl MultiByte {
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn bytes_max(&self) -> u8 {
        self.bytes_max
    }

    pub(super) fn convert(&self, mut bytes: &[u8], out: &mut String) -> Option<()> {
        while let [first, rest @ ..] = bytes {
            if *first < 0x80 {
                out.push(char::from(*first));
                bytes = rest;
                continue;
            }
            let (code, len) = self.character(bytes)?;
            out.push(char::from_u32(code).filter(|c| *c != '\0')?);
            bytes = bytes.get(len..)?;
        }
        Some(())
    }

    /// The character at the beginning of `bytes`, if there is one, and the bytes that it or what is none takes: a
    /// byte that is ASCII is never taken for a part of what is no character.
    pub(super) fn salvage(&self, bytes: &[u8]) -> (Option<char>, usize) {
        let Some(first) = bytes.first() else { return (None, 0) };
        if first.is_ascii() {
            return (Some(char::from(*first)), 1);
        }
        let Some((code, len)) = self.character(bytes) else { return (None, 1) };
        let found = char::from_u32(code).filter(|c| *c != '\0');
        let is_whole = || self.leads.contains(first) && bytes.iter().take(len).all(|byte| !byte.is_ascii());
        let len = if found.is_some() || is_whole() { len } else { 1 };
        (found, len)
    }

    /// The character at the beginning of `bytes`, and the bytes it takes.
    fn character(&self, bytes: &[u8]) -> Option<(u32, usize)> {
        let first = *bytes.first()?;
        let single = self.single[usize::from(first)];
        if single != 0 {
            return Some((single, 1));
        }
        let second = *bytes.get(1)?;
        if first == TRIPLE_LEAD && !self.triple.is_empty() {
            let code = u16::from_be_bytes([second, *bytes.get(2)?]);
            return Some((*self.triple.get(usize::from(code))?, 3));
        }
        if self.has_four && second.is_ascii_digit() {
            return Some((lookup(encoding_rs::GB18030, bytes.get(..4)?), 4));
        }
        Some((*self.double.get(usize::from(u16::from_be_bytes([first, second])))?, 2))
    }
}
