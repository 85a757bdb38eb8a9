//! The events that name a transaction: MySQL's three and MariaDB's one.
//!
//! Formats: MySQL source documentation, "Gtid_event" and "mysql::serialization" (tagged GTIDs, P19); MariaDB
//! documentation, "GTID_EVENT".

use freshet_core::gtid::{MysqlSource, Uuid};
use freshet_core::position::TxnId;

use crate::values::reader::{Read, Reader, Short};

/// How a transaction begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Begin {
    pub(super) txn: TxnId,
    /// Microseconds since 1970; 0 if the event does not say.
    pub(super) commit_us: i64,
    /// Whether a BEGIN follows (MySQL) or the transaction has begun with this event already (MariaDB).
    pub(super) has_begun: bool,
    pub(super) is_xa: bool,
}

/// `GTID` and `ANONYMOUS_GTID`, from behind the header on.
pub(super) fn mysql(body: &[u8], is_anonymous: bool) -> Read<Begin> {
    const TIMESTAMP_BYTES: usize = 7;
    /// Set if the originating server's own timestamp follows.
    const TWO_TIMESTAMPS: u64 = 1 << 55;
    let mut r = Reader::new(body);
    r.u8()?;
    let (uuid, gno) = (r.array::<16>()?, r.u64()?);
    let mut commit_us = 0;
    // Logical clock, then timestamps; servers before 5.7 and 8.0 end earlier.
    if !r.is_empty() && r.u8()? == 2 {
        r.take(16)?;
        if r.len() >= TIMESTAMP_BYTES {
            commit_us = (r.uint(TIMESTAMP_BYTES)? & !TWO_TIMESTAMPS) as i64;
        }
    }
    if !is_anonymous && (gno == 0 || gno >= i64::MAX as u64) {
        return Err(Short);
    }
    let source = MysqlSource { uuid: Uuid(uuid), tag: String::new() };
    let txn = if is_anonymous { TxnId::Anonymous } else { TxnId::Mysql { source, gno } };
    Ok(Begin { txn, commit_us, has_begun: false, is_xa: false })
}

/// `GTID_TAGGED`, from behind the header on.
pub(super) fn mysql_tagged(body: &[u8]) -> Read<Begin> {
    const TAG_BYTES_MAX: usize = 32;
    let mut r = Reader::new(body);
    let (_version, _size, _last_needed) = (variable(&mut r)?, variable(&mut r)?, variable(&mut r)?);
    let (mut uuid, mut tag, mut gno, mut commit_us) = (None, String::new(), 0, 0);
    while !r.is_empty() {
        match variable(&mut r)? {
            0 | 4..=5 | 7..=11 => {
                variable(&mut r)?;
            }
            1 => {
                let mut bytes = [0u8; 16];
                for byte in &mut bytes {
                    *byte = u8::try_from(variable(&mut r)?).map_err(|_| Short)?;
                }
                uuid = Some(Uuid(bytes));
            }
            2 => gno = u64::try_from(signed(variable(&mut r)?)).map_err(|_| Short)?,
            3 => {
                let length = usize::try_from(variable(&mut r)?).map_err(|_| Short)?;
                let bytes = r.take(length).ok().filter(|tag| tag.len() <= TAG_BYTES_MAX).ok_or(Short)?;
                tag = std::str::from_utf8(bytes).map_err(|_| Short)?.to_owned();
            }
            6 => commit_us = i64::try_from(variable(&mut r)?).map_err(|_| Short)?,
            _ => return Err(Short),
        }
    }
    if gno == 0 || gno >= i64::MAX as u64 {
        return Err(Short);
    }
    let source = MysqlSource { uuid: uuid.ok_or(Short)?, tag };
    Ok(Begin { txn: TxnId::Mysql { source, gno }, commit_us, has_begun: false, is_xa: false })
}

/// A number of 1 to 9 bytes: as many bytes follow the first as it has ones at its low end.
fn variable(r: &mut Reader<'_>) -> Read<u64> {
    let first = r.u8()?;
    let more = first.trailing_ones() as usize;
    if more >= 8 {
        return r.u64();
    }
    let rest = r.uint(more)?;
    let (low, low_bits) = (u64::from(first) >> (more + 1), 7 - more);
    Ok(low | rest << low_bits)
}

/// The lowest bit is the sign.
fn signed(n: u64) -> i64 {
    let magnitude = (n >> 1) as i64;
    if n & 1 == 1 { -magnitude - 1 } else { magnitude }
}

/// MariaDB's `GTID`, from behind the header on. `server` is the header's.
pub(super) fn mariadb(body: &[u8], server: u32) -> Read<Begin> {
    const STANDALONE: u8 = 0x01;
    const PREPARED_XA: u8 = 0x40;
    const COMPLETED_XA: u8 = 0x80;
    let mut r = Reader::new(body);
    let (sequence, domain, flags) = (r.u64()?, r.u32()?, r.u8()?);
    Ok(Begin {
        txn: TxnId::Mariadb { domain, server, sequence },
        commit_us: 0,
        has_begun: flags & STANDALONE == 0,
        is_xa: flags & (PREPARED_XA | COMPLETED_XA) != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|c| u8::from_str_radix(std::str::from_utf8(c).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn p24_mysql_gtid_with_its_commit_time() {
        // Written by a MySQL 9.7.
        let body = hex("01640effffe59111f19ac102fc00000001010000000000000002000000000000000001000000000000\
                        0023e99161c66006b050620100");
        let begin = mysql(&body, false).unwrap();
        assert_eq!(begin.txn.to_string(), "640effff-e591-11f1-9ac1-02fc00000001:1");
        assert_eq!(begin.commit_us / 1_000_000, 1_795_255_017);
        assert_eq!(mysql(&body, true).unwrap().txn, TxnId::Anonymous);
        assert!((0..20).all(|cut| mysql(&body[..cut], false).is_err()));
    }

    #[test]
    fn variable_numbers() {
        let read = |bytes: &[u8]| variable(&mut Reader::new(bytes));
        assert_eq!(read(&[0b10]), Ok(1));
        assert_eq!(read(&[0b0000_0101, 0b1]), Ok(0b100_0001));
        assert_eq!(read(&[0xFF, 1, 0, 0, 0, 0, 0, 0, 0x80]), Ok(1 << 63 | 1));
        assert_eq!(read(&[1]), Err(Short));
        assert_eq!((signed(2), signed(3), signed(1)), (1, -2, -1));
    }
}
