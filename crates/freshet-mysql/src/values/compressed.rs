//! Values of MariaDB's COMPRESSED columns.
//!
//! A header byte, the length before compression (big endian) and the data. Header 0: the data is as it is. Else the
//! upper four bits are the method (8, zlib), bit 3 says that the zlib header is left out, the lower three are the
//! length's bytes. An empty value has no header.

use flate2::{Decompress, FlushDecompress, Status};

use super::reader::{Read, Reader, Short};

const METHOD_ZLIB: u8 = 8;
/// How much room is made at a time: an announced length is believed only as it arrives.
const STEP_BYTES: usize = 64 * 1024;

/// The bytes before compression, in `out` or in the value itself.
pub fn expand<'a>(value: &'a [u8], out: &'a mut Vec<u8>) -> Read<&'a [u8]> {
    let mut r = Reader::new(value);
    if value.is_empty() {
        return Ok(value);
    }
    let header = r.u8()?;
    if header == 0 {
        return Ok(r.rest());
    }
    if header >> 4 != METHOD_ZLIB {
        return Err(Short);
    }
    let length = usize::try_from(r.uint_be(usize::from(header & 7))?).map_err(|_| Short)?;
    inflate(r.rest(), header & 8 == 0, length, out)?;
    Ok(out)
}

fn inflate(mut data: &[u8], has_header: bool, length: usize, out: &mut Vec<u8>) -> Read<()> {
    out.clear();
    let mut inflater = Decompress::new(has_header);
    loop {
        let room = STEP_BYTES.min(length.checked_sub(out.len()).ok_or(Short)? + 1);
        out.reserve(room);
        let (read, wrote) = (inflater.total_in(), inflater.total_out());
        // Not Finish: where the room made is not enough, that is an error with some of flate2's back ends.
        let status = inflater.decompress_vec(data, out, FlushDecompress::None).map_err(|_| Short)?;
        let read = usize::try_from(inflater.total_in() - read).map_err(|_| Short)?;
        data = data.get(read..).ok_or(Short)?;
        match status {
            Status::StreamEnd => return if out.len() == length { Ok(()) } else { Err(Short) },
            Status::Ok | Status::BufError => {}
        }
        if out.len() > length || (read == 0 && inflater.total_out() == wrote) {
            return Err(Short);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Written by a MariaDB 10.11.
    #[test]
    fn r14_compressed_values() {
        let check = |bytes: &[u8], expect: Read<&[u8]>| {
            assert_eq!(expand(bytes, &mut Vec::new()), expect);
        };
        check(&[0x89, 0xFA, 0x4B, 0x4C, 0x1C, 0xA9, 0, 0], Ok(&[b'a'; 250]));
        check(&[0x8A, 1, 0x2C, 0x4B, 0x4A, 0x1A, 5, 0xC4, 2, 0], Ok(&[b'b'; 300]));
        check(&[0, b'x'], Ok(b"x"));
        check(&[], Ok(b""));
        check(&[0x89, 0xF9, 0x4B, 0x4C, 0x1C, 0xA9, 0, 0], Err(Short));
        check(&[0x89, 0xFB, 0x4B, 0x4C, 0x1C, 0xA9, 0, 0], Err(Short));
        check(&[0x89, 0xFA, 0x4B, 0x4C], Err(Short));
        check(&[0x99, 1, 1], Err(Short));
    }

    #[test]
    fn r14_values_larger_than_a_step() {
        let original: Vec<u8> = (0..4 * STEP_BYTES).map(|at| (at / 7) as u8).collect();
        let mut packed = vec![METHOD_ZLIB << 4 | 3];
        packed.extend_from_slice(&(original.len() as u32).to_be_bytes()[1..]);
        let mut deflater = flate2::Compress::new(flate2::Compression::fast(), true);
        packed.reserve(original.len());
        let status = deflater.compress_vec(&original, &mut packed, flate2::FlushCompress::Finish);
        assert_eq!(status.expect("room"), Status::StreamEnd);
        assert_eq!(expand(&packed, &mut Vec::new()), Ok(&original[..]));
        packed.truncate(packed.len() / 2);
        assert_eq!(expand(&packed, &mut Vec::new()), Err(Short));
    }
}
