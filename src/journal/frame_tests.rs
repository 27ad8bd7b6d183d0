//! Tests of frames and groups as bytes.

use super::*;

/// Returns the bytes of a group of two frames at position 1000.
fn stamped() -> (Vec<u8>, Vec<Position>) {
    let mut group = Group::new();
    group.push(3, 1, |body| body.extend_from_slice(b"abc")).unwrap();
    group.push(0x7f, 2, |_| {}).unwrap();
    let mut positions = Vec::new();
    (group.stamp(Position(1000), &mut positions).to_vec(), positions)
}

#[test]
fn frame_bytes_are_the_format() {
    let (bytes, positions) = stamped();
    #[rustfmt::skip]
    let expected = [
        0, 0, 0, 3,  0xc4, 0xe4, 0x98, 0x09,  0, 0, 0, 0, 0, 0, 0x03, 0xe8,  0x83, 1,  b'a', b'b',
        b'c',
        0, 0, 0, 0,  0x73, 0x38, 0x69, 0xe0,  0, 0, 0, 0, 0, 0, 0x03, 0xfd,  0x7f, 2,
    ];
    assert_eq!(bytes, expected, "{bytes:02x?}");
    assert_eq!(positions, [Position(1000), Position(1021)]);
}

#[test]
fn the_checksum_is_the_one_of_the_standard() {
    // The example of RFC 3720, B.4: 32 bytes of zeros.
    assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
}

#[test]
fn a_frame_is_read_back_as_it_was_pushed() {
    let (bytes, positions) = stamped();
    let first = parse(&bytes, positions[0]).unwrap();
    assert_eq!(
        (first.kind, first.version, first.group_first, first.body),
        (3, 1, true, &b"abc"[..])
    );
    assert_eq!(first.end(), positions[1]);
    let second = parse(&bytes[21..], positions[1]).unwrap();
    assert_eq!(
        (second.kind, second.version, second.group_first, second.body),
        (0x7f, 2, false, &b""[..])
    );
}

#[test]
fn every_changed_bit_and_every_missing_byte_is_noticed() {
    let (bytes, positions) = stamped();
    let frame = &bytes[..21];
    for bit in 0..frame.len() * 8 {
        let mut changed = frame.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(parse(&changed, positions[0]).is_err(), "bit {bit}");
    }
    for len in 0..frame.len() {
        assert!(parse(&frame[..len], positions[0]).is_err(), "{len} bytes");
    }
    assert!(parse(frame, Position(1001)).is_err());
}

#[test]
fn a_refused_frame_leaves_the_group_as_it_was() {
    let mut group = Group::new();
    group.push(1, 1, |body| body.push(7)).unwrap();
    for kind in [0, 0x80] {
        assert_eq!(group.push(kind, 1, |_| {}), Err(RecordRefused::Kind));
    }
    let too_long = |body: &mut Vec<u8>| body.resize(body.len() + MAX_BODY_BYTES + 1, 0);
    assert_eq!(group.push(1, 1, too_long), Err(RecordRefused::TooLong));
    let failed = group.try_push(1, 1, |body| {
        body.push(1);
        Err(RecordRefused::Kind)
    });
    assert_eq!(failed, Err(RecordRefused::Kind));
    assert_eq!((group.len(), group.bytes()), (1, 19));
    assert_eq!(group.push(1, 1, Vec::clear), Err(RecordRefused::Shrunk));
    assert!(group.is_empty());
}

#[test]
fn a_body_of_the_longest_length_is_accepted() {
    let mut group = Group::new();
    group.push(1, 1, |body| body.resize(body.len() + MAX_BODY_BYTES, 9)).unwrap();
    let mut positions = Vec::new();
    let bytes = group.stamp(Position::FIRST, &mut positions);
    assert_eq!(parse(bytes, Position::FIRST).unwrap().body.len(), MAX_BODY_BYTES);
}
