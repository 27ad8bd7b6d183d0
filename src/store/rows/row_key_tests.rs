use proptest::prelude::*;

use super::*;

fn sorts_alike<K: RowKey>(a: K, b: K) -> Result<(), TestCaseError> {
    prop_assert_eq!(a.cmp(&b), a.bytes().as_ref().cmp(b.bytes().as_ref()));
    prop_assert_eq!(K::parse(a.bytes().as_ref()), Some(a));
    prop_assert_eq!(K::parse(&[a.bytes().as_ref(), b"x"].concat()), None);
    Ok(())
}

proptest! {
    #[test]
    fn keys_sort_as_their_parts_do_and_read_back(a: (u32, u64, u128, u128), b: (u32, u64, u128,
    u128)) {
        let parts = |k: (u32, u64, u128, u128)| (OrgNo(k.0), Timestamp(k.1), EventId(k.2),
        EndpointId(k.3));
        let ((ao, at, ae, ap), (bo, bt, be, bp)) = (parts(a), parts(b));
        sorts_alike(ao, bo)?;
        sorts_alike(ap, bp)?;
        sorts_alike((ao, ae), (bo, be))?;
        sorts_alike((ao, ae), (ao, be))?;
        sorts_alike((ap, ae), (ap, be))?;
        sorts_alike((ao, b.0), (bo, a.0))?;
        sorts_alike((ao, Position(a.1), b.0), (bo, Position(b.1), a.0))?;
        sorts_alike((ap, at, ae), (ap, bt, be))?;
        sorts_alike((ao, at, ae, ap), (ao, bt, be, bp))?;
    }
}

#[test]
fn key_bytes_are_what_the_table_says() {
    let key = (OrgNo(0x0102_0304), EventId(0x0506));
    assert_eq!(key.bytes(), [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 6]);
    let due = (EndpointId(1), Timestamp(2), EventId(3));
    assert_eq!(due.bytes()[15..24], [1, 0, 0, 0, 0, 0, 0, 0, 2]);
}
