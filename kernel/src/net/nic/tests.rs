use super::*;
use crate::testing;

/// A frame that is written where it is sent from is what the card reads, and one that the card wrote is what is shown.
#[test]
fn memory_of_a_card_is_lent_in_place() {
    let _host = testing::host();
    let mut arena = Arena(DmaBuffer::new(8192).expect("memory"));
    let cleared = arena.with_mut(4000, 200, |bytes| {
        let cleared = bytes.iter().all(|byte| *byte == 0);
        bytes.fill(7);
        cleared
    });
    assert!(cleared);
    arena.write(4100, &[1, 2, 3]);
    let mut copy = [0; 220];
    arena.read(3990, &mut copy);
    assert!(arena.with(3990, 220, |bytes| bytes == copy));
    let expected = |at: usize| match at {
        0..10 | 210.. => 0,
        110..113 => at as u8 - 109,
        _ => 7,
    };
    assert!(copy.iter().enumerate().all(|(at, byte)| *byte == expected(at)));
}

#[test]
#[should_panic(expected = "dma: 2 bytes at 0x1fff of 0x2000")]
fn memory_that_is_not_the_cards_is_not_lent() {
    let _host = testing::host();
    Arena(DmaBuffer::new(8192).expect("memory")).with(8191, 2, |_| ());
}
