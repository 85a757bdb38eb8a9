//! The messages of pgoutput, protocol versions 1 to 4, as borrowed views of their bytes.
//!
//! Checked reads only: a message that ends early, is longer than what it says, or is of an unknown kind is an error,
//! never a panic, and nothing announced is allocated before it is there. Inside of a streamed block (between Stream
//! Start and Stream Stop) messages begin with the id of their transaction.

use freshet_core::position::Lsn;

/// A message that is none, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub &'static str);

type Parsed<T> = Result<T, Malformed>;

/// Who keeps which values of an old row: REPLICA IDENTITY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplicaIdentity {
    /// The primary key.
    Default,
    /// Nothing.
    Nothing,
    /// The whole row.
    Full,
    /// A unique index.
    Index,
}

/// One column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelationColumn {
    /// Whether it is part of the replica identity.
    pub is_key: bool,
    pub name: String,
    pub type_oid: u32,
    pub type_modifier: i32,
}

/// What a relation is from here on in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub identity: ReplicaIdentity,
    pub columns: Vec<RelationColumn>,
}

impl Relation {
    /// Whether old rows are whole, so that every column is flagged and the key is not told.
    pub(crate) fn is_whole_row(&self) -> bool {
        self.identity == ReplicaIdentity::Full
    }
}

/// One value of a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    Null,
    /// An unchanged TOAST value, which is not in the stream.
    Unchanged,
    Text(&'a [u8]),
    Binary(&'a [u8]),
}

/// The values of a row, checked to be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple<'a> {
    columns: u16,
    bytes: &'a [u8],
}

impl<'a> Tuple<'a> {
    /// Number of values.
    pub(crate) fn len(self) -> usize {
        usize::from(self.columns)
    }

    /// The values in column order.
    pub(crate) fn cells(self) -> impl Iterator<Item = Cell<'a>> {
        let mut bytes = Bytes(self.bytes);
        (0..self.columns).map_while(move |_| bytes.cell().ok())
    }
}

/// The old row of an update or a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Old<'a> {
    /// Only the replica identity's columns have values.
    Key(Tuple<'a>),
    /// The whole row.
    Row(Tuple<'a>),
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    Begin {
        xid: u32,
    },
    Commit {
        end: Lsn,
        commit_us: i64,
    },
    Origin,
    Relation(Relation),
    Type,
    Insert {
        relation: u32,
        new: Tuple<'a>,
    },
    Update {
        relation: u32,
        old: Option<Old<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        relation: u32,
        old: Old<'a>,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// `pg_logical_emit_message`.
    Emitted,
    /// Of protocol 2 and later, by name: they only come when asked for.
    Later(&'static str),
}

/// Microseconds from 1970 to 2000, where PostgreSQL's clock begins.
const MICROS_1970_TO_2000: i64 = 946_684_800_000_000;

/// Reads one message. `in_block` says whether it stands between Stream Start and Stream Stop.
pub(crate) fn parse(message: &[u8], in_block: bool) -> Parsed<Message<'_>> {
    let mut bytes = Bytes(message);
    let tag = bytes.u8()?;
    if in_block && matches!(tag, b'R' | b'Y' | b'I' | b'U' | b'D' | b'T' | b'M') {
        bytes.u32()?;
    }
    let parsed = match tag {
        b'B' => {
            bytes.take(16)?;
            Message::Begin { xid: bytes.u32()? }
        }
        b'C' => {
            bytes.take(1 + 8)?;
            let end = Lsn(bytes.u64()?);
            Message::Commit { end, commit_us: bytes.i64()?.saturating_add(MICROS_1970_TO_2000) }
        }
        b'O' => {
            bytes.take(8)?;
            bytes.string()?;
            Message::Origin
        }
        b'R' => Message::Relation(bytes.relation()?),
        b'Y' => {
            bytes.take(4)?;
            bytes.string()?;
            bytes.string()?;
            Message::Type
        }
        b'I' => {
            let relation = bytes.u32()?;
            bytes.expect(b'N', "an insert without a new row")?;
            Message::Insert { relation, new: bytes.tuple()? }
        }
        b'U' => bytes.update()?,
        b'D' => {
            let relation = bytes.u32()?;
            let tag = bytes.u8()?;
            let old = bytes.old(tag)?.ok_or(Malformed("a delete without an old row"))?;
            Message::Delete { relation, old }
        }
        b'T' => bytes.truncate()?,
        b'M' => {
            bytes.take(1 + 8)?;
            bytes.string()?;
            let len = bytes.u32()? as usize;
            bytes.take(len)?;
            Message::Emitted
        }
        _ => return bytes.later(tag),
    };
    if bytes.0.is_empty() { Ok(parsed) } else { Err(Malformed("more bytes than the message has")) }
}

/// What is left of a message.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Parsed<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(Malformed("it ends early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Malformed("it ends early"))
    }

    fn u8(&mut self) -> Parsed<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Parsed<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Parsed<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Parsed<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Parsed<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn string(&mut self) -> Parsed<String> {
        let end = self.0.iter().position(|b| *b == 0).ok_or(Malformed("a name has no end"))?;
        let name = self.take(end)?.to_vec();
        self.take(1)?;
        String::from_utf8(name).map_err(|_| Malformed("a name is not UTF-8"))
    }

    fn expect(&mut self, tag: u8, what: &'static str) -> Parsed<()> {
        if self.u8()? == tag { Ok(()) } else { Err(Malformed(what)) }
    }

    fn relation(&mut self) -> Parsed<Relation> {
        let (oid, schema, name) = (self.u32()?, self.string()?, self.string()?);
        let identity = match self.u8()? {
            b'd' => ReplicaIdentity::Default,
            b'n' => ReplicaIdentity::Nothing,
            b'f' => ReplicaIdentity::Full,
            b'i' => ReplicaIdentity::Index,
            _ => return Err(Malformed("a replica identity of an unknown kind")),
        };
        let mut columns = Vec::new();
        for _ in 0..self.u16()? {
            let is_key = self.u8()? & 1 != 0;
            let name = self.string()?;
            let type_oid = self.u32()?;
            let type_modifier = self.array().map(i32::from_be_bytes)?;
            columns.push(RelationColumn { is_key, name, type_oid, type_modifier });
        }
        // An empty schema is pg_catalog, of which nothing is published.
        Ok(Relation { oid, schema, name, identity, columns })
    }

    fn update(&mut self) -> Parsed<Message<'a>> {
        let relation = self.u32()?;
        let tag = self.u8()?;
        let old = self.old(tag)?;
        let new_tag = if old.is_some() { self.u8()? } else { tag };
        if new_tag != b'N' {
            return Err(Malformed("an update without a new row"));
        }
        Ok(Message::Update { relation, old, new: self.tuple()? })
    }

    fn old(&mut self, tag: u8) -> Parsed<Option<Old<'a>>> {
        Ok(match tag {
            b'K' => Some(Old::Key(self.tuple()?)),
            b'O' => Some(Old::Row(self.tuple()?)),
            _ => None,
        })
    }

    fn truncate(&mut self) -> Parsed<Message<'a>> {
        let count = self.u32()?;
        self.take(1)?;
        let relations = (0..count).map(|_| self.u32()).collect::<Parsed<_>>()?;
        Ok(Message::Truncate { relations })
    }

    fn tuple(&mut self) -> Parsed<Tuple<'a>> {
        let columns = self.u16()?;
        let before = self.0;
        for _ in 0..columns {
            self.cell()?;
        }
        Ok(Tuple { columns, bytes: &before[..before.len() - self.0.len()] })
    }

    fn cell(&mut self) -> Parsed<Cell<'a>> {
        Ok(match self.u8()? {
            b'n' => Cell::Null,
            b'u' => Cell::Unchanged,
            b't' => Cell::Text(self.counted()?),
            b'b' => Cell::Binary(self.counted()?),
            _ => return Err(Malformed("a value of an unknown kind")),
        })
    }

    fn counted(&mut self) -> Parsed<&'a [u8]> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    /// Messages that come only to those who ask for protocol 2 or later.
    fn later(mut self, tag: u8) -> Parsed<Message<'a>> {
        // (name, fixed bytes, a string at the end)
        let (name, fixed, has_name) = match tag {
            b'S' => ("Stream Start", 5, false),
            b'E' => ("Stream Stop", 0, false),
            b'c' => ("Stream Commit", 4 + 1 + 8 + 8 + 8, false),
            b'A' => ("Stream Abort", 4 + 4, false),
            b'b' => ("Begin Prepare", 8 + 8 + 8 + 4, true),
            b'P' => ("Prepare", 1 + 8 + 8 + 8 + 4, true),
            b'K' => ("Commit Prepared", 1 + 8 + 8 + 8 + 4, true),
            b'r' => ("Rollback Prepared", 1 + 8 + 8 + 8 + 8 + 4, true),
            b'p' => ("Stream Prepare", 1 + 8 + 8 + 8 + 4, true),
            _ => return Err(Malformed("it is of an unknown kind")),
        };
        self.take(fixed)?;
        if has_name {
            self.string()?;
        }
        // Protocol 4 adds place and time to a Stream Abort.
        let is_longer_abort = tag == b'A' && self.0.len() == 16;
        if self.0.is_empty() || is_longer_abort {
            Ok(Message::Later(name))
        } else {
            Err(Malformed("more bytes than the message has"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    fn relation_bytes() -> Vec<u8> {
        put(&[
            b"R",
            &7u32.to_be_bytes(),
            b"shop\0",
            b"orders\0",
            b"d",
            &1u16.to_be_bytes(),
            &[1],
            b"id\0",
            &23u32.to_be_bytes(),
            &(-1i32).to_be_bytes(),
        ])
    }

    fn tuple_bytes() -> Vec<u8> {
        put(&[&3u16.to_be_bytes(), b"n", b"u", b"t", &2u32.to_be_bytes(), b"42"])
    }

    fn every_message() -> Vec<Vec<u8>> {
        let seven = 7u32.to_be_bytes();
        let lsn = 9u64.to_be_bytes();
        let tuple = tuple_bytes();
        vec![
            put(&[b"B", &lsn, &lsn, &seven]),
            put(&[b"C", &[0], &lsn, &lsn, &lsn]),
            put(&[b"O", &lsn, b"far\0"]),
            relation_bytes(),
            put(&[b"Y", &seven, b"s\0", b"mood\0"]),
            put(&[b"I", &seven, b"N", &tuple]),
            put(&[b"U", &seven, b"N", &tuple]),
            put(&[b"U", &seven, b"K", &tuple, b"N", &tuple]),
            put(&[b"U", &seven, b"O", &tuple, b"N", &tuple]),
            put(&[b"D", &seven, b"K", &tuple]),
            put(&[b"D", &seven, b"O", &tuple]),
            put(&[b"T", &2u32.to_be_bytes(), &[3], &seven, &seven]),
            put(&[b"M", &[1], &lsn, b"p\0", &2u32.to_be_bytes(), b"xy"]),
            put(&[b"S", &seven, &[1]]),
            put(&[b"E"]),
            put(&[b"c", &seven, &[0], &lsn, &lsn, &lsn]),
            put(&[b"A", &seven, &seven]),
            put(&[b"b", &lsn, &lsn, &lsn, &seven, b"g\0"]),
            put(&[b"P", &[0], &lsn, &lsn, &lsn, &seven, b"g\0"]),
            put(&[b"K", &[0], &lsn, &lsn, &lsn, &seven, b"g\0"]),
            put(&[b"r", &[0], &lsn, &lsn, &lsn, &lsn, &seven, b"g\0"]),
            put(&[b"p", &[0], &lsn, &lsn, &lsn, &seven, b"g\0"]),
        ]
    }

    #[test]
    fn every_message_is_read_and_every_cut_is_refused() {
        for message in every_message() {
            parse(&message, false).unwrap_or_else(|e| panic!("{:?}: {e:?}", message[0] as char));
            for cut in 0..message.len() {
                assert!(parse(&message[..cut], false).is_err(), "{:?} cut at {cut}", message[0] as char);
            }
            let longer = put(&[&message, b"x"]);
            assert!(parse(&longer, false).is_err(), "{:?}", message[0] as char);
        }
        assert!(parse(&put(&[b"A", &[0; 8], &[0; 16]]), false).is_ok(), "protocol 4");
        for tag in 0..=u8::MAX {
            let is_known = every_message().iter().any(|message| message[0] == tag);
            assert_eq!(
                parse(&[tag], false) == Err(Malformed("it is of an unknown kind")),
                !is_known,
                "{tag}"
            );
        }
    }

    #[test]
    fn values_are_told_apart() {
        let message = put(&[b"U", &7u32.to_be_bytes(), b"K", &tuple_bytes(), b"N", &tuple_bytes()]);
        let Ok(Message::Update { relation: 7, old: Some(Old::Key(old)), new }) = parse(&message, false)
        else {
            panic!("an update");
        };
        let cells = [Cell::Null, Cell::Unchanged, Cell::Text(b"42")];
        assert_eq!((old.cells().collect::<Vec<_>>(), new.len()), (cells.to_vec(), 3));
        let block = put(&[b"I", &99u32.to_be_bytes(), &message[1..5], b"N", &tuple_bytes()]);
        assert!(matches!(parse(&block, true), Ok(Message::Insert { relation: 7, .. })));
    }

    #[test]
    fn a_relation_says_its_columns() {
        let Ok(Message::Relation(relation)) = parse(&relation_bytes(), false) else { panic!("a relation") };
        assert_eq!((relation.oid, relation.schema.as_str(), relation.name.as_str()), (7, "shop", "orders"));
        let column = RelationColumn { is_key: true, name: "id".into(), type_oid: 23, type_modifier: -1 };
        assert_eq!((relation.identity, relation.columns), (ReplicaIdentity::Default, vec![column]));
    }
}
