//! Tests of segment names and headers.

use super::*;

const FACTS: FileFacts = FileFacts { len: 4096, device: 0x0102, inode: 0x0304, allocated: 0 };

#[test]
fn header_bytes_are_the_format() {
    let header = encode_header(Position(0x0506), FACTS);
    let mut expected = Vec::new();
    expected.extend_from_slice(b"TRGJ\0\0\0\x02");
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 5, 6]);
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 1, 2]);
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 3, 4]);
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0x10, 0]);
    expected.extend_from_slice(&[0; 20]);
    expected.extend_from_slice(&[0x36, 0x2b, 0xc5, 0x50]);
    assert_eq!(header.to_vec(), expected, "{header:02x?}");
}

#[test]
fn a_header_tells_an_original_from_a_copy() {
    let header = encode_header(Position(7), FACTS);
    let copied = Header::Whole { copy: true, length: 4096 };
    let read = |facts| decode_header(&header, Position(7), facts);
    assert_eq!(read(FACTS), Header::Whole { copy: false, length: 4096 });
    let short = FileFacts { len: 9, ..FACTS };
    assert_eq!(read(short), Header::Whole { copy: false, length: 4096 });
    assert_eq!(read(FileFacts { device: 1, ..FACTS }), copied);
    assert_eq!(read(FileFacts { inode: 1, ..FACTS }), copied);
}

#[test]
fn a_header_of_another_segment_or_format_is_foreign() {
    let mut header = encode_header(Position(7), FACTS);
    assert!(matches!(decode_header(&header, Position(8), FACTS), Header::Foreign(_)));
    header[7] = 3;
    assert_eq!(decode_header(&header, Position(7), FACTS), Header::Unreadable);
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_be_bytes());
    assert!(matches!(decode_header(&header, Position(7), FACTS), Header::Foreign(_)));
}

#[test]
fn only_a_segment_name_is_taken_for_one() {
    let path = path_of(Path::new("d"), Position(65_793));
    assert_eq!(path, Path::new("d/00000000000000065793.seg"));
    assert_eq!(first_from_path(&path), Some(Position(65_793)));
    for other in [
        "d/1.seg",
        "d/00000000000000000000.seg",
        "d/00000000000000065793.seg~",
        "d/+0000000000000065793.seg",
    ] {
        assert_eq!(first_from_path(Path::new(other)), None, "{other}");
    }
}

#[test]
fn the_last_set_byte_is_found_across_pages() {
    let mut bytes = vec![0; 10_000];
    assert_eq!(last_set_byte(&bytes), None);
    for at in [0, 4095, 4096, 8191, 8192, 9999] {
        bytes[at] = 1;
        assert_eq!(last_set_byte(&bytes), Some(at));
    }
}
