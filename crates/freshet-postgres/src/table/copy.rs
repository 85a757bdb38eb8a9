//! The frame of `COPY ... TO STDOUT (FORMAT binary)`: pieces of bytes in, whole rows out.
//!
//! Header: 11 bytes of signature, flags u32, length of an extension u32 and the extension. A row: number of fields
//! i16, then for each a length i32 (-1 is NULL) and the field. End: -1 in place of the number of fields. Big endian.
//! No IO; a stream that ends without its end mark is no whole answer. Where pieces are cut does not matter.

use bytes::{Buf, Bytes, BytesMut};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
const HEADER_BYTES: usize = SIGNATURE.len() + 8;

/// What is wrong with the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadCopy {
    #[error("the answer is not in PostgreSQL's binary COPY format")]
    Format,
    #[error("a row has another number of columns than was asked for")]
    Columns,
}

/// What is at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Framed {
    /// One row, to be read with [`Fields`].
    Row(Bytes),
    /// More bytes are needed.
    Starved,
    /// Nothing comes any more.
    End,
}

/// Cuts rows out of pieces.
#[derive(Debug)]
pub(super) struct CopyFrames {
    columns: i16,
    is_begun: bool,
    is_ended: bool,
    pending: Bytes,
}

impl CopyFrames {
    pub(super) fn new(columns: usize) -> Option<Self> {
        let columns = i16::try_from(columns).ok()?;
        Some(Self { columns, is_begun: false, is_ended: false, pending: Bytes::new() })
    }

    /// One more piece.
    pub(super) fn feed(&mut self, piece: Bytes) {
        if self.pending.is_empty() {
            self.pending = piece;
        } else {
            let mut joined = BytesMut::with_capacity(self.pending.len() + piece.len());
            joined.extend_from_slice(&self.pending);
            joined.extend_from_slice(&piece);
            self.pending = joined.freeze();
        }
    }

    /// The next row.
    pub(super) fn next(&mut self) -> Result<Framed, BadCopy> {
        if !self.is_begun && !self.begin()? {
            return Ok(Framed::Starved);
        }
        if self.is_ended {
            return if self.pending.is_empty() { Ok(Framed::End) } else { Err(BadCopy::Format) };
        }
        let Some(count) = self.pending.first_chunk::<2>().map(|b| i16::from_be_bytes(*b)) else {
            return Ok(Framed::Starved);
        };
        if count == -1 {
            self.pending.advance(2);
            self.is_ended = true;
            return self.next();
        }
        if count != self.columns {
            return Err(BadCopy::Columns);
        }
        Ok(match row_bytes(&self.pending, count)? {
            Some(bytes) => Framed::Row(self.pending.split_to(bytes).slice(2..)),
            None => Framed::Starved,
        })
    }

    fn begin(&mut self) -> Result<bool, BadCopy> {
        let Some((header, rest)) = self.pending.split_at_checked(HEADER_BYTES) else { return Ok(false) };
        let (signature, words) = header.split_at(SIGNATURE.len());
        let word = |at: usize| words.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        if signature != SIGNATURE || word(0) != Some(0) {
            return Err(BadCopy::Format);
        }
        let extension = word(4).ok_or(BadCopy::Format)? as usize;
        if rest.len() < extension {
            return Ok(false);
        }
        self.pending.advance(HEADER_BYTES + extension);
        self.is_begun = true;
        Ok(true)
    }
}

/// Bytes of the row at the front, if it is whole.
fn row_bytes(pending: &[u8], count: i16) -> Result<Option<usize>, BadCopy> {
    let mut at = 2usize;
    for _ in 0..count {
        let Some(length) = pending.get(at..).and_then(|rest| rest.first_chunk::<4>()) else {
            return Ok(None);
        };
        let length = match i32::from_be_bytes(*length) {
            -1 => 0,
            length => usize::try_from(length).map_err(|_| BadCopy::Format)?,
        };
        at += 4 + length;
        if at > pending.len() {
            return Ok(None);
        }
    }
    Ok(Some(at))
}

/// The fields of one row.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field; the inner `None` is NULL, the outer one a row that ends too early.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Option<&'a [u8]>> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        if length == -1 {
            self.0 = rest;
            return Some(None);
        }
        let (field, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(Some(field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(rows: &[&[Option<&[u8]>]], end: bool) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.extend_from_slice(&[0; 8]);
        for row in rows {
            out.extend_from_slice(&(row.len() as i16).to_be_bytes());
            for field in *row {
                out.extend_from_slice(&field.map_or(-1, |f| f.len() as i32).to_be_bytes());
                out.extend_from_slice(field.unwrap_or_default());
            }
        }
        if end {
            out.extend_from_slice(&(-1i16).to_be_bytes());
        }
        out
    }

    type Row = Vec<Option<Vec<u8>>>;

    /// The rows, and how it ended.
    fn read(bytes: &[u8], piece: usize) -> (Vec<Row>, Result<Framed, BadCopy>) {
        let (mut frames, mut rows) = (CopyFrames::new(2).expect("few columns"), Vec::new());
        let mut pieces = bytes.chunks(piece);
        loop {
            match frames.next() {
                Ok(Framed::Row(row)) => {
                    let mut fields = Fields(&row);
                    let field = |f: Option<&[u8]>| f.map(<[u8]>::to_vec);
                    rows.push((0..2).map(|_| field(fields.next().expect("a field"))).collect());
                }
                Ok(Framed::Starved) => match pieces.next() {
                    Some(piece) => frames.feed(Bytes::copy_from_slice(piece)),
                    None => return (rows, Ok(Framed::Starved)),
                },
                other => return (rows, other),
            }
        }
    }

    #[test]
    fn rows_come_out_however_the_pieces_are_cut() {
        let rows: &[&[Option<&[u8]>]] = &[&[Some(b"a"), None], &[Some(b""), Some(b"long field")]];
        let bytes = stream(rows, true);
        let expect: Vec<Row> =
            rows.iter().map(|r| r.iter().map(|f| f.map(<[u8]>::to_vec)).collect()).collect();
        for piece in 1..bytes.len() + 1 {
            assert_eq!(read(&bytes, piece), (expect.clone(), Ok(Framed::End)), "pieces of {piece}");
        }
        for cut in 0..bytes.len() {
            let (_, outcome) = read(&bytes[..cut], 7);
            assert_eq!(outcome, Ok(Framed::Starved), "cut at {cut} is no end");
        }
    }

    #[test]
    fn what_is_no_copy_is_refused() {
        let mut bytes = stream(&[&[None]], true);
        assert_eq!(read(&bytes, 100).1, Err(BadCopy::Columns));
        bytes[0] = b'X';
        assert_eq!(read(&bytes, 100).1, Err(BadCopy::Format));
        let mut bytes = stream(&[&[None, Some(b"abcd")]], true);
        let length = SIGNATURE.len() + 8 + 2 + 4;
        bytes[length..length + 4].copy_from_slice(&(-2i32).to_be_bytes());
        assert_eq!(read(&bytes, 100).1, Err(BadCopy::Format));
        let mut bytes = stream(&[], true);
        bytes.push(0);
        assert_eq!(read(&bytes, 100).1, Err(BadCopy::Format), "nothing comes after the end");
    }
}
