//! Tests of pinned segments, and of journals that end earlier.

use std::fs;
use std::path::Path;

use super::*;
use crate::journal::compact::{Compaction, Decision};
use crate::journal::tests::{append, body, open_small};
use crate::journal::{JournalScan, ReadLog as _};

/// Writes the pinned segments into another directory.
fn copy(pinned: &[PinnedSegment], to: &Path) {
    for segment in pinned {
        let (mut bytes, mut piece) = (Vec::new(), [0; 100]);
        loop {
            let count = segment.read_at(&mut piece, bytes.len() as u64).unwrap();
            bytes.extend_from_slice(&piece[..count]);
            if count == 0 {
                break;
            }
        }
        assert_eq!(bytes.len() as u64, segment.length());
        fs::write(to.join(segment.path().file_name().unwrap()), bytes).unwrap();
    }
}

#[test]
fn pinned_segments_stay_as_they_were_and_a_copy_of_them_can_end_earlier() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut writer, reader, _) = open_small(dir.path()).unwrap();
    let mut fill = |from: usize| -> Vec<_> {
        let groups = from..from + 60;
        groups.flat_map(|n| append(&mut writer, &[body(n, 500)]).unwrap()).collect()
    };
    let written = fill(0);
    let pinned = reader.pin().unwrap();
    let end = reader.end();
    fill(1_000);
    let compaction = Compaction::new(&reader);
    let mut sealed = compaction.segments().unwrap();
    sealed.pop();
    for segment in &sealed {
        let punched = compaction.punch(segment.first, &mut |_| Ok(Decision::Remove), &mut |_| true);
        assert!(punched.unwrap().is_some());
    }
    compaction.remove_before(sealed[2].first).unwrap();
    assert!(pinned.len() > 3 && pinned[0].is_sealed() && !pinned[pinned.len() - 1].is_sealed());

    copy(&pinned, other.path());
    let (writer, reader, report) = open_small(other.path()).unwrap();
    assert_eq!((report.first, report.end, report.is_copy), (Position::FIRST, end, true));
    assert_eq!(report.cut, None);
    for (position, body) in &written {
        assert_eq!(*reader.read(*position).unwrap().body, **body);
    }

    drop((writer, reader));
    let (kept, cut) = written.split_at(20);
    end_at(&JournalScan::open(other.path()).unwrap(), cut[0].0).unwrap();
    let (_writer, reader, report) = open_small(other.path()).unwrap();
    assert_eq!((report.end, report.cut), (cut[0].0, None));
    for (position, body) in kept {
        assert_eq!(*reader.read(*position).unwrap().body, **body);
    }
}
