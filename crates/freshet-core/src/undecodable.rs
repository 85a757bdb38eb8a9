//! Text that its source stores and that does not all decode: what does, with the bytes that do not marked in it.
//!
//! The bytes of an undecodable text cell are UTF-8 in every character that could be decoded from the column's own
//! character set. A sequence that is no character there stands byte by byte as surrogates, which UTF-8 cannot hold
//! otherwise: its first byte b as U+DC00 + b, each further one as U+DD00 + b, in the form of three bytes that these
//! numbers would have. So the cell says which bytes are bad in whatever set, no two stored texts share a cell, and
//! a sink needs no character sets.
//!
//! Cells of other types (a JSON document that follows no rule) hold bytes as stored: [`replace`] has no text for them.

const LEAD: u8 = 0xED;
/// U+DC00 to U+DCFF and U+DD00 to U+DDFF, by the second of their three bytes.
const FIRST: std::ops::RangeInclusive<u8> = 0xB0..=0xB3;
const FURTHER: std::ops::RangeInclusive<u8> = 0xB4..=0xB7;

/// Appends the marks of one sequence of bytes that is no character.
pub fn mark(sequence: &[u8], out: &mut Vec<u8>) {
    for (at, byte) in sequence.iter().enumerate() {
        let base = if at == 0 { *FIRST.start() } else { *FURTHER.start() };
        out.extend_from_slice(&[LEAD, base | byte >> 6, 0x80 | byte & 0x3F]);
    }
}

/// The text with one U+FFFD for each sequence that is marked; `None` if the bytes are not of this form.
pub fn replace(mut cell: &[u8]) -> Option<String> {
    let (mut text, mut is_marked) = (String::with_capacity(cell.len()), false);
    loop {
        let valid = match std::str::from_utf8(cell) {
            Ok(rest) => {
                text.push_str(rest);
                return is_marked.then_some(text);
            }
            Err(error) => error.valid_up_to(),
        };
        let (decoded, marked) = cell.split_at_checked(valid)?;
        text.push_str(std::str::from_utf8(decoded).ok()?);
        match marked {
            [LEAD, second, 0x80..=0xBF, rest @ ..] if FIRST.contains(second) => {
                text.push(char::REPLACEMENT_CHARACTER);
                (is_marked, cell) = (true, rest);
            }
            [LEAD, second, 0x80..=0xBF, rest @ ..] if is_marked && FURTHER.contains(second) => cell = rest,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m13_each_marked_sequence_becomes_one_replacement() {
        let mut cell = b"a".to_vec();
        mark(b"\xe4\xbd\xa0", &mut cell); // Would be a character if it were UTF-8
        cell.extend_from_slice("ä".as_bytes());
        mark(b"\0", &mut cell);
        mark(b"\xff", &mut cell);
        cell.push(b'z');
        assert_eq!(replace(&cell).as_deref(), Some("a\u{fffd}ä\u{fffd}\u{fffd}z"));
    }

    #[test]
    fn m13_every_byte_has_two_marks_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for byte in 0..=u8::MAX {
            let mut cell = Vec::new();
            mark(&[byte, byte], &mut cell);
            assert_eq!(replace(&cell).as_deref(), Some("\u{fffd}"), "{byte}");
            assert!(seen.insert(cell[..3].to_vec()) && seen.insert(cell[3..].to_vec()), "{byte}");
        }
    }

    #[test]
    fn bytes_of_another_form_have_no_text() {
        for other in [&b"a\xffb"[..], b"plain", b"", b"\xed\xb4\x80", b"\xed\xb0", b"\xed\xa0\x80"] {
            assert_eq!(replace(other), None, "{other:02x?}");
        }
    }
}
