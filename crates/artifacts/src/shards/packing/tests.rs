//! Packing: each token once an epoch, best fit as by looking at every row, one order for any number of readers.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// Every row of an epoch, in order.
fn epoch(packing: &Packing, epoch: u64) -> Vec<Vec<Piece>> {
    (0..packing.num_rows()).map(|index| packing.row(epoch, index).to_vec()).collect()
}

/// Best fit by looking at every row: what [`best_fit`] must equal.
fn best_fit_by_scan(pieces: &[Piece], seq_len: u32) -> Vec<u32> {
    let mut spaces: Vec<u32> = Vec::new();
    let fit = |spaces: &[u32], len: u32| spaces.iter().copied().filter(|space| *space >= len).min();
    let mut used = Vec::new();
    for piece in pieces {
        match fit(&spaces, piece.len) {
            Some(space) => used.push(space),
            None => {
                used.push(seq_len);
                spaces.push(seq_len);
            }
        }
        let space = *used.last().unwrap();
        let row = spaces.iter().position(|other| *other == space).unwrap();
        spaces[row] -= piece.len;
    }
    used
}

proptest! {
    #[test]
    fn every_token_is_in_one_row_of_an_epoch(
        lengths in proptest::collection::vec(0_u32..70, 0..200),
        seq_len in 1_u32..40,
        seed: u64,
    ) {
        let packing = Packing::new(&lengths, seq_len, seed).unwrap();
        for number in [0, 1, 77] {
            let mut seen: Vec<Vec<u32>> = lengths.iter().map(|len| vec![0; *len as usize]).collect();
            for row in epoch(&packing, number) {
                prop_assert!(row.iter().map(|piece| piece.len).sum::<u32>() <= seq_len);
                for piece in row {
                    prop_assert_eq!(piece.continues(), piece.start != 0);
                    for token in piece.start..piece.start + piece.len {
                        seen[piece.document as usize][token as usize] += 1;
                    }
                    // Only what is longer than a row is cut.
                    let len = lengths[piece.document as usize];
                    prop_assert!(len > seq_len || piece.len == len);
                }
            }
            prop_assert!(seen.iter().flatten().all(|count| *count == 1));
        }
    }

    #[test]
    fn bitmaps_find_what_a_look_at_every_row_finds(
        lengths in proptest::collection::vec(1_u32..5000, 0..60),
        seed: u64,
    ) {
        let seq_len = 5000;
        let pieces = longest_first(cut(&lengths, seq_len, seed), seq_len);
        let by_scan = best_fit_by_scan(&pieces, seq_len);
        let (row_of, num_rows) = best_fit(&pieces, seq_len);
        let mut spaces = vec![seq_len; num_rows];
        for ((piece, row), space) in pieces.iter().zip(row_of).zip(by_scan) {
            prop_assert_eq!(spaces[row as usize], space);
            spaces[row as usize] -= piece.len;
        }
    }

    #[test]
    fn all_readers_together_see_one_order_and_resume_in_it(
        lengths in proptest::collection::vec(1_u32..20, 1..80),
        num_ranks in 1_u64..7,
        stop in 0_u64..200,
        seed: u64,
    ) {
        let packing = Packing::new(&lengths, 16, seed).unwrap();
        let start = Position::default();
        let alone: Vec<_> = packing.deal(start, 0, 1).take(400).collect();
        for (at, (position, row)) in (0..).zip(&alone) {
            prop_assert_eq!(*position, packing.advance(start, at));
            prop_assert_eq!(*row, packing.row(position.epoch, position.row));
        }
        let resumed = packing.advance(start, stop);
        let mut dealt: Vec<_> = (0..num_ranks)
            .flat_map(|rank| packing.deal(resumed, rank, num_ranks).take(200))
            .collect();
        dealt.sort_by_key(|row| row.0);
        dealt.truncate(200);
        prop_assert_eq!(&dealt[..], &alone[stop as usize..][..200]);
    }
}

#[test]
fn epochs_and_seeds_have_orders_of_their_own() {
    let lengths: Vec<u32> = (0..5000).map(|index| 1 + index * 7919 % 300).collect();
    let first = Packing::new(&lengths, 256, 1).unwrap();
    let again = Packing::new(&lengths, 256, 1).unwrap();
    let other = Packing::new(&lengths, 256, 2).unwrap();
    assert_eq!(epoch(&first, 0), epoch(&again, 0));
    assert_ne!(epoch(&first, 0), epoch(&first, 1));
    assert_ne!(epoch(&first, 0), epoch(&other, 0));
    let rows = |number| epoch(&first, number).into_iter().collect::<HashSet<_>>();
    assert_eq!(rows(0), rows(1));
    // Of a random order, one row in all is expected where it was.
    let unmoved = epoch(&first, 0).iter().zip(&epoch(&first, 1)).filter(|(a, b)| a == b).count();
    assert!(unmoved < 10, "{unmoved}");
}

#[test]
fn lengths_as_of_text_fill_rows() {
    // Log-normal as documents of the web are, with some far longer than a row.
    let mut random = Random::new(5);
    let lengths: Vec<u32> = (0..20_000)
        .map(|_| {
            let normal: f64 =
                (0..12).map(|_| random.below(1 << 32) as f64 / 2_f64.powi(32)).sum::<f64>() - 6.0;
            (5.5 + 1.2 * normal).exp() as u32 + 1
        })
        .collect();
    for seq_len in [512, 2048] {
        let fill = Packing::new(&lengths, seq_len, 0).unwrap().fill();
        assert!(fill > 0.999, "{seq_len}: {fill}");
    }
}

#[test]
fn no_documents_are_no_rows_and_no_row_is_an_error() {
    for lengths in [&[][..], &[0, 0]] {
        let packing = Packing::new(lengths, 8, 0).unwrap();
        assert_eq!((packing.num_rows(), packing.deal(Position::default(), 0, 2).count()), (0, 0));
        assert!((packing.fill() - 1.0).abs() < f64::EPSILON);
    }
    assert!(Packing::new(&[1], 0, 0).unwrap_err().to_string().contains("`seq_len`"));
}
