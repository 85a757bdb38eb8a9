//! Tests of packet framing: any split of the stream gives the same packets, and garbage costs nothing.

use proptest::prelude::*;

use super::*;

/// The wire form of `payload`, from sequence number `sequence` on.
fn frame(payload: &[u8], sequence: &mut u8, out: &mut Vec<u8>) {
    let mut rest = payload;
    loop {
        let part = &rest[..rest.len().min(PART_BYTES_MAX)];
        out.extend_from_slice(&(part.len() as u32).to_le_bytes()[..3]);
        out.push(*sequence);
        out.extend_from_slice(part);
        *sequence = sequence.wrapping_add(1);
        rest = &rest[part.len()..];
        if part.len() < PART_BYTES_MAX {
            return;
        }
    }
}

fn drain(buffer: &mut PacketBuffer, packets: &mut Vec<Vec<u8>>) {
    while let Some(range) = buffer.next_packet().unwrap() {
        packets.push(buffer.payload(range).to_vec());
    }
}

#[test]
fn every_split_gives_the_same_packets() {
    let payloads: Vec<Vec<u8>> = (0..6u8).map(|n| vec![n; usize::from(n) * 3]).collect();
    let (mut stream, mut sequence) = (Vec::new(), 0);
    payloads.iter().for_each(|payload| frame(payload, &mut sequence, &mut stream));
    for cut in 0..=stream.len() {
        let (mut buffer, mut seen) = (PacketBuffer::new(), Vec::new());
        for half in [&stream[..cut], &stream[cut..]] {
            buffer.space().extend_from_slice(half);
            drain(&mut buffer, &mut seen);
        }
        assert_eq!(seen, payloads, "cut at {cut}");
        assert!(buffer.is_drained());
    }
}

/// M17: rows over 16 MiB come in several packets, also when the last part is empty.
#[test]
fn m17_large_payloads_are_joined() {
    for length in [PART_BYTES_MAX - 1, PART_BYTES_MAX, PART_BYTES_MAX + 1, 2 * PART_BYTES_MAX, 40 << 20] {
        let payload: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let (mut stream, mut sequence) = (Vec::new(), 0);
        frame(&payload, &mut sequence, &mut stream);
        frame(b"after", &mut sequence, &mut stream);
        let (mut buffer, mut seen) = (PacketBuffer::new(), Vec::new());
        for piece in stream.chunks(100_003) {
            buffer.space().extend_from_slice(piece);
            drain(&mut buffer, &mut seen);
        }
        assert_eq!(seen.len(), 2);
        assert!(seen[0] == payload, "length {length}");
        assert_eq!(seen[1], b"after");
        buffer.space();
        assert!(buffer.bytes.capacity() <= 4 * READ_BUFFER_BYTES, "the buffer shrinks back");
    }
}

#[test]
fn an_announced_size_allocates_nothing() {
    let mut buffer = PacketBuffer::new();
    buffer.space().extend_from_slice(&[0xFE, 0xFF, 0xFF, 0]);
    assert_eq!(buffer.next_packet().unwrap(), None);
    buffer.space();
    assert!(buffer.bytes.capacity() <= 2 * READ_BUFFER_BYTES);
}

#[test]
fn more_than_the_maximum_is_refused() {
    let mut buffer = PacketBuffer::with_payload_max(1000);
    buffer.space().extend_from_slice(&[0xE9, 0x03, 0, 0]);
    assert!(matches!(buffer.next_packet(), Err(WireError::TooLarge { bytes_max: 1000, .. })));
}

#[test]
fn order_is_checked_but_an_unasked_error_passes() {
    let mut buffer = PacketBuffer::new();
    buffer.space().extend_from_slice(&[1, 0, 0, 5, 0x00]);
    assert!(matches!(buffer.next_packet(), Err(WireError::Protocol { .. })));
    let mut buffer = PacketBuffer::new();
    buffer.expect_sequence(1);
    buffer.space().extend_from_slice(&[1, 0, 0, 0, 0xFF]);
    assert!(buffer.next_packet().unwrap().is_some());
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_the_same_packets(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..20),
        pieces in proptest::collection::vec(1usize..200, 1..50),
    ) {
        let (mut stream, mut sequence) = (Vec::new(), 0);
        payloads.iter().for_each(|payload| frame(payload, &mut sequence, &mut stream));
        let (mut buffer, mut seen, mut rest) = (PacketBuffer::new(), Vec::new(), &stream[..]);
        let mut sizes = pieces.iter().cycle();
        while !rest.is_empty() {
            let (piece, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            buffer.space().extend_from_slice(piece);
            drain(&mut buffer, &mut seen);
            rest = later;
        }
        prop_assert_eq!(seen, payloads);
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let mut buffer = PacketBuffer::new();
        for piece in bytes.chunks(97) {
            buffer.space().extend_from_slice(piece);
            while let Ok(Some(range)) = buffer.next_packet() {
                let _ = buffer.payload(range);
            }
        }
        buffer.space();
        prop_assert!(buffer.bytes.capacity() <= 4 * READ_BUFFER_BYTES);
    }
}
