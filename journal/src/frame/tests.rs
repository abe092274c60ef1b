use super::*;

fn tip() -> Tip {
    encode_genesis(JournalId([7; 16])).1
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn frame_bytes_are_frozen() {
    let (genesis, _) = encode_genesis(JournalId([7; 16]));
    assert_eq!(hex(&genesis), GOLDEN_GENESIS);
    let group = [b"Allocated".to_vec(), b"Confirmed".to_vec()];
    let encoded = encode_group(&tip(), &group).unwrap();
    assert_eq!(encoded.frames.len(), 1);
    assert_eq!(encoded.frames[0].0, 1);
    assert_eq!(hex(&encoded.frames[0].1), GOLDEN_FRAME);
}

#[test]
fn a_group_is_cut_into_frames_that_chain() {
    let group: Vec<Vec<u8>> = (0..500_usize).map(|n| vec![n as u8; 1 + n]).collect();
    let encoded = encode_group(&tip(), &group).unwrap();
    assert!(encoded.frames.len() > 20);
    let (mut chain, mut read) = (tip().head.hash, Vec::new());
    for (place, (number, bytes)) in encoded.frames.iter().enumerate() {
        assert!(bytes.len() <= FRAME_BYTES_MAX);
        let frame = Frame::decode(*number, bytes).unwrap();
        assert_eq!(frame.before, chain);
        assert_eq!(frame.first, 1 + read.len() as u64);
        assert_eq!(frame.group_first, 1);
        let last = place + 1 == encoded.frames.len();
        assert_eq!(frame.kind == Kind::Last, last);
        assert_eq!(frame.group_count, if last { 500 } else { 0 });
        chain = frame.after;
        read.extend(frame.entries().map(<[u8]>::to_vec));
    }
    assert_eq!(read, group);
    let (head, before) = (encoded.tip.head, encoded.tip.before);
    assert_eq!((head.seq, head.hash), (500, chain));
    assert_eq!(before, tip().head);
}

#[test]
fn every_flipped_bit_cut_and_wrong_number_is_refused() {
    let encoded = encode_group(&tip(), &[b"Allocated".to_vec()]).unwrap();
    let (number, bytes) = &encoded.frames[0];
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Frame::decode(*number, &flipped), Err(FrameDamage::Checksum), "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert!(Frame::decode(*number, &bytes[..length]).is_err());
    }
    assert!(Frame::decode(number + 1, bytes).is_err());
}

/// A frame that lies with a right checksum is refused too.
#[test]
fn every_field_is_checked_behind_the_checksum() {
    let encoded = encode_group(&tip(), &[b"Allocated".to_vec()]).unwrap();
    let (number, bytes) = &encoded.frames[0];
    for place in 0..bytes.len() - CHECKSUM_BYTES {
        let mut forged = bytes.clone();
        forged[place] ^= 0x40;
        let end = forged.len() - CHECKSUM_BYTES;
        let checksum = checksum_of(*number, &forged[..end]);
        forged[end..].copy_from_slice(&checksum.to_le_bytes());
        let refused = Frame::decode(*number, &forged).unwrap_err();
        assert_ne!(refused, FrameDamage::Checksum);
        if place < 2 {
            assert!(matches!(refused, FrameDamage::Version(_)));
        }
    }
}

#[test]
fn groups_outside_the_limits_are_refused() {
    let refuse = |group: &[Vec<u8>]| encode_group(&tip(), group).unwrap_err();
    assert!(matches!(refuse(&[]), Error::GroupEmpty));
    assert!(matches!(refuse(&[vec![1], vec![]]), Error::EntryEmpty { index: 1 }));
    assert!(matches!(refuse(&[vec![1], vec![1; ENTRY_BYTES_MAX + 1]]), Error::EntryTooLarge { index: 1, bytes: 3585 }));
    assert!(matches!(refuse(&vec![vec![1]; GROUP_ENTRIES_MAX + 1]), Error::GroupTooLong { entries: 4097 }));
    let largest = vec![vec![1; ENTRY_BYTES_MAX]; GROUP_ENTRIES_MAX];
    assert_eq!(encode_group(&tip(), &largest).unwrap().frames.len(), GROUP_ENTRIES_MAX);
}

#[test]
fn numbers_do_not_wrap() {
    let mut last = tip();
    last.head.seq = u64::MAX - 1;
    assert!(matches!(encode_group(&last, &[vec![1], vec![2]]), Err(Error::Exhausted)));
    let mut last = tip();
    last.frame = u64::MAX;
    assert!(matches!(encode_group(&last, &[vec![1]]), Err(Error::Exhausted)));
}

const GOLDEN_GENESIS: &str = "010000000000000000000000000000000000000000000000000000001000000000000000000000000000000000000000000000000000000000000000000000002ae00b48a373f5d5bed061eafd418c43d72abadbf5941efc08c668a009a16e8b070707070707070707070707070707073593ba58";
const GOLDEN_FRAME: &str = "010002000200000001000000000000000100000000000000020000001a0000002ae00b48a373f5d5bed061eafd418c43d72abadbf5941efc08c668a009a16e8be00766fd6a7ce5de49322475ffbecd642bd591c6da0318c0a863b2ca9c27be0109000000416c6c6f636174656409000000436f6e6669726d65642c779a39";
