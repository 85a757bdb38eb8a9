//! Character sets of 8 bits: one table each, read from `single_byte.txt`.
//!
//! It holds what both servers map; a code that they do not map makes the text undecodable.

use std::sync::OnceLock;

/// Marks a code without a character.
const NONE: u16 = 0xFFFD;

/// One set's table.
#[derive(Debug)]
pub(super) struct SingleByte {
    name: &'static str,
    is_ascii_superset: bool,
    codes: [u16; 256],
}

/// The set of this name.
pub(super) fn named(name: &str) -> Option<&'static SingleByte> {
    static SETS: OnceLock<Vec<SingleByte>> = OnceLock::new();
    SETS.get_or_init(|| read(include_str!("single_byte.txt"))).iter().find(|set| set.name == name)
}

fn read(text: &'static str) -> Vec<SingleByte> {
    let mut sets: Vec<SingleByte> = Vec::new();
    let mut at = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with("- ") || line.contains(' ') {
            let Some(set) = sets.last_mut() else { continue };
            for code in line.split(' ') {
                if let (Ok(code), Some(slot)) = (u16::from_str_radix(code, 16), set.codes.get_mut(at)) {
                    *slot = code;
                }
                at += 1;
            }
        } else {
            at = 0;
            sets.push(SingleByte { name: line, is_ascii_superset: false, codes: [NONE; 256] });
        }
    }
    for set in &mut sets {
        set.is_ascii_superset = set.codes.iter().take(128).zip(0u16..).all(|(code, at)| *code == at);
    }
    sets
}

impl SingleByte {
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn is_ascii_superset(&self) -> bool {
        self.is_ascii_superset
    }

    /// The character of a byte.
    pub(super) fn character(&self, byte: u8) -> Option<char> {
        match self.codes[usize::from(byte)] {
            NONE => None,
            code => char::from_u32(u32::from(code)),
        }
    }

    pub(super) fn convert(&self, bytes: &[u8], out: &mut String) -> Option<()> {
        for byte in bytes {
            out.push(self.character(*byte)?);
        }
        Some(())
    }
}
