//! QUERY events: the statement's text, its default database, and the session variables that decide how it reads.
//!
//! Format: MySQL source documentation, "Query_event". Status variables stand in order of importance; from the first
//! unknown one on they are not read.

use std::borrow::Cow;

use super::lexer::Quoting;
use crate::values::charset::Charset;
use crate::values::reader::{Read, Reader};

/// A statement as logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Query<'a> {
    pub(super) database: &'a [u8],
    text: &'a [u8],
    pub(super) quoting: Quoting,
    /// Collation of the client that sent it; 0 if not said.
    collation: u64,
}

impl<'a> Query<'a> {
    /// From behind the header on; `skip` bytes more stand behind the fixed part in EXECUTE_LOAD_QUERY.
    pub(super) fn parse(body: &'a [u8], skip: usize) -> Read<Self> {
        let mut r = Reader::new(body);
        let (_thread, _seconds) = (r.u32()?, r.u32()?);
        let (database_bytes, _error, status_bytes) = (r.u8()?, r.u16()?, r.u16()?);
        r.take(skip)?;
        let status = Reader::new(r.take(usize::from(status_bytes))?);
        let database = r.take(usize::from(database_bytes))?;
        r.u8()?;
        let mut query = Query { database, text: r.rest(), quoting: Quoting::default(), collation: 0 };
        // What cannot be read there leaves the defaults, which are the servers' too.
        let _ = query.read_status(status);
        Ok(query)
    }

    fn read_status(&mut self, mut r: Reader<'_>) -> Read<()> {
        const ANSI_QUOTES: u64 = 0x4;
        const NO_BACKSLASH_ESCAPES: u64 = 0x10_0000;
        while !r.is_empty() {
            match r.u8()? {
                0 => drop(r.u32()?),
                1 => {
                    let mode = r.u64()?;
                    self.quoting = Quoting {
                        ansi_quotes: mode & ANSI_QUOTES != 0,
                        no_backslash_escapes: mode & NO_BACKSLASH_ESCAPES != 0,
                    };
                }
                2 => {
                    r.prefixed(1)?;
                    r.u8()?;
                }
                3 => drop(r.u32()?),
                4 => {
                    self.collation = u64::from(r.u16()?);
                    r.u32()?;
                }
                5 | 6 => drop(r.prefixed(1)?),
                7 | 8 => drop(r.u16()?),
                9 => drop(r.u64()?),
                10 => drop(r.u32()?),
                11 => {
                    r.prefixed(1)?;
                    r.prefixed(1)?;
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// The statement's bytes.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.text
    }

    /// The statement in UTF-8; `None` if it is not valid in its client's character set.
    pub(super) fn text(&self) -> Option<Cow<'a, str>> {
        let charset = match self.collation {
            0 => Some(Charset::UTF8MB4),
            id => Charset::of_collation(id),
        };
        match (std::str::from_utf8(self.text), charset) {
            (Ok(text), Some(charset)) if charset.is_utf8() || self.text.is_ascii() => {
                Some(Cow::Borrowed(text))
            }
            (_, Some(charset)) => charset.to_text(self.text).map(Cow::Owned),
            (_, None) => None,
        }
    }
}
