//! A MySQL GTID set in the form that `COM_BINLOG_DUMP_GTID` takes.
//!
//! ```text
//! set      = count u64 | source...
//! count    = number of sources; with tags: 1 in the highest and the lowest byte, the number in the six between
//! source   = uuid [16] | tag (only with tags: length * 2 u8, characters) | number of intervals u64 | interval...
//! interval = first u64 | one after the last u64
//! ```
//! The form with tags is understood by MySQL 8.3 and later and is used only where a tag is in the set, so a set
//! without tags can be sent to every version.

use freshet_core::gtid::MysqlGtidSet;

/// Marks the form with tags, in the count's highest and lowest byte.
const TAGGED: u64 = 1 << 56 | 1;

/// The set's encoding.
pub(crate) fn encode_mysql_gtids(set: &MysqlGtidSet) -> Vec<u8> {
    let is_tagged = set.iter().any(|(source, _)| !source.tag.is_empty());
    let count = set.iter().count() as u64;
    let mut out = Vec::new();
    out.extend_from_slice(&if is_tagged { TAGGED | count << 8 } else { count }.to_le_bytes());
    for (source, intervals) in set.iter() {
        out.extend_from_slice(&source.uuid.0);
        if is_tagged {
            // A tag has at most 32 characters, so its length always fits the one-byte form.
            out.push((source.tag.len() as u8) << 1);
            out.extend_from_slice(source.tag.as_bytes());
        }
        out.extend_from_slice(&(intervals.len() as u64).to_le_bytes());
        for (first, end) in intervals {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&end.to_le_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "01020304-0506-0708-090a-0b0c0d0e0f10";

    fn encoded(text: &str) -> Vec<u8> {
        encode_mysql_gtids(&text.parse().unwrap())
    }

    #[test]
    fn sets_without_tags() {
        assert_eq!(encoded(""), [0; 8]);
        let bytes = encoded(&format!("{UUID}:1-5:7"));
        assert_eq!(bytes[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[8..24], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        let numbers: Vec<u64> =
            bytes[24..].chunks(8).map(|n| u64::from_le_bytes(n.try_into().unwrap())).collect();
        assert_eq!(numbers, [2, 1, 6, 7, 8]);
    }

    #[test]
    fn p19_sets_with_tags() {
        let bytes = encoded(&format!("{UUID}:1,{UUID}:ab:3"));
        assert_eq!(bytes[..8], [1, 2, 0, 0, 0, 0, 0, 1]);
        let untagged = 8 + 16;
        assert_eq!(bytes[untagged], 0);
        let second = untagged + 1 + 24 + 16;
        assert_eq!(bytes[second..second + 3], [4, b'a', b'b']);
        assert_eq!(bytes.len(), second + 3 + 24);
    }
}
