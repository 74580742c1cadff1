//! Runs: what goes in comes out, in as few sends as the rules allow.

use proptest::{collection::vec, prelude::*};

use super::super::{Datagrams, MAX_BYTES, MAX_DATAGRAMS, Run};

/// A send as a test sees it: marks, segment, datagrams.
type Send = (u8, Option<u16>, Vec<Vec<u8>>);

fn send(run: &Run<'_>) -> Send {
    // What the kernel would do: join the parts, cut at the segment.
    let whole: Vec<u8> = run.parts().iter().flat_map(|part| part.to_vec()).collect();
    assert_eq!(whole.len(), run.bytes());
    let cut: Vec<_> = match run.segment() {
        Some(segment) => whole.chunks(segment.into()).map(<[u8]>::to_vec).collect(),
        None => vec![whole],
    };
    assert_eq!(cut.len(), run.datagrams());
    assert_eq!(cut, run.each().map(<[u8]>::to_vec).collect::<Vec<_>>());
    assert!(run.datagrams() <= MAX_DATAGRAMS);
    assert!(run.bytes() <= MAX_BYTES || run.datagrams() == 1);
    (run.ecn(), run.segment(), cut)
}

fn sends(messages: &[(Vec<u8>, usize, u8)]) -> Vec<Send> {
    let mut run = Run::new();
    let mut sends = Vec::new();
    for (bytes, stride, ecn) in messages {
        run.feed(Datagrams { bytes, stride: *stride, ecn: *ecn }, |run| sends.push(send(run)));
    }
    if !run.is_empty() {
        sends.push(send(&run));
    }
    sends
}

/// Messages of one datagram each.
fn singles(lengths: &[usize]) -> Vec<(Vec<u8>, usize, u8)> {
    lengths.iter().map(|length| (vec![7; *length], *length, 0)).collect()
}

fn lengths(sends: &[Send]) -> Vec<Vec<usize>> {
    sends.iter().map(|(_, _, cut)| cut.iter().map(Vec::len).collect()).collect()
}

#[test]
fn equal_datagrams_and_a_shorter_last_one_are_one_send() {
    assert_eq!(lengths(&sends(&singles(&[9, 9, 9, 4, 9]))), [vec![9, 9, 9, 4], vec![9]]);
}

#[test]
fn a_longer_datagram_begins_a_new_send() {
    assert_eq!(lengths(&sends(&singles(&[4, 9, 9]))), [vec![4], vec![9, 9]]);
}

#[test]
fn empty_datagrams_stand_alone() {
    assert_eq!(lengths(&sends(&singles(&[0, 9, 0, 0, 9]))), [vec![0], vec![9], vec![0], vec![0], vec![9]]);
}

#[test]
fn joined_messages_of_one_size_join() {
    let messages = [(vec![1; 30], 10, 0), (vec![2; 25], 10, 0), (vec![3; 10], 10, 0)];
    assert_eq!(lengths(&sends(&messages)), [vec![10, 10, 10, 10, 10, 5], vec![10]]);
}

#[test]
fn congestion_marks_part_a_run() {
    let messages = [(vec![1; 10], 10, 0), (vec![2; 10], 10, 3)];
    assert_eq!(lengths(&sends(&messages)).len(), 2);
}

#[test]
fn sixty_four_datagrams_are_a_send_and_the_rest_is_the_next() {
    assert_eq!(sends(&singles(&[100; 100])).iter().map(|s| s.2.len()).collect::<Vec<_>>(), [64, 36]);
    assert_eq!(sends(&[(vec![0; 10_000], 100, 0)]).iter().map(|s| s.2.len()).collect::<Vec<_>>(), [64, 36]);
}

#[test]
fn the_longest_datagrams_go_alone() {
    assert_eq!(lengths(&sends(&singles(&[65_507, 65_507, 65_527]))), [[65_507], [65_507], [65_527]]);
}

/// Messages as the kernel makes them, with sizes near each other and near the limits.
fn messages() -> impl Strategy<Value = Vec<(Vec<u8>, usize, u8)>> {
    let stride = prop_oneof![Just(0usize), 1usize..4, Just(1472), Just(9000), 30_000usize..33_000, 65_500usize..65_528];
    let message = (stride, 1usize..130, 0usize..65_535, 0u8..2).prop_map(|(stride, count, shorter, ecn)| {
        let count = count.min(65_535 / stride.max(1)).max(1);
        let length = (stride * count).saturating_sub(shorter % stride.max(1));
        (length, stride.min(length), ecn)
    });
    vec(message, 0..12).prop_map(|all| {
        // Every datagram is told from every other by its bytes.
        let mut seed = 0u32;
        let mut byte = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        all.into_iter().map(|(length, stride, ecn)| ((0..length).map(|_| byte()).collect(), stride, ecn)).collect()
    })
}

proptest! {
    #[test]
    fn what_goes_in_comes_out_the_same_and_in_order(messages in messages()) {
        let mut expected = Vec::new();
        for (bytes, stride, ecn) in &messages {
            if bytes.is_empty() {
                expected.push((*ecn, vec![]));
            }
            expected.extend(bytes.chunks((*stride).max(1)).map(|datagram| (*ecn, datagram.to_vec())));
        }
        let got: Vec<_> =
            sends(&messages).into_iter().flat_map(|(ecn, _, cut)| cut.into_iter().map(move |d| (ecn, d))).collect();
        prop_assert!(got == expected, "{} against {} datagrams", got.len(), expected.len());
    }

    #[test]
    fn single_datagrams_take_as_few_sends_as_can_be(sizes in vec(1usize..4, 0..200)) {
        let mut fewest = 0;
        let mut run: Option<(usize, usize, bool)> = None;
        for size in &sizes {
            run = match run {
                Some((first, count, false)) if *size <= first && count < MAX_DATAGRAMS => Some((first, count + 1, *size < first)),
                _ => { fewest += 1; Some((*size, 1, false)) }
            };
        }
        prop_assert_eq!(sends(&singles(&sizes)).len(), fewest);
    }
}
