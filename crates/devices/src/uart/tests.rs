use super::*;

const HZ: u64 = 20_000_000;

fn at(tsc: u64) -> Now {
    Now { tsc, hz: HZ }
}

fn with_fifo(trigger: u8) -> Uart {
    let mut uart = Uart::new();
    uart.write(2, trigger << 6 | 7, at(0));
    uart.write(1, IER_RX, at(0));
    uart
}

#[test]
fn linux_finds_a_16550a() {
    let mut uart = Uart::new();
    uart.write(1, 0xFF, at(0));
    assert_eq!(uart.read(1, at(0)), 0x0F);
    uart.write(1, 0, at(0));
    assert_eq!(uart.read(1, at(0)), 0);
    uart.write(4, 0x1A, at(0));
    assert_eq!(uart.read(6, at(0)) & 0xF0, 0x90, "loopback: RTS and OUT2 come back");
    uart.write(4, 0x0B, at(0));
    uart.write(2, 1, at(0));
    assert_eq!(uart.read(2, at(0)) >> 6, 3);
    uart.write(3, 0x83, at(0));
    uart.write(0, 0x34, at(0));
    uart.write(1, 0x12, at(0));
    assert_eq!((uart.read(0, at(0)), uart.read(1, at(0))), (0x34, 0x12));
    uart.write(3, 0x03, at(0));
    uart.write(7, 0x5A, at(0));
    assert_eq!(uart.read(7, at(0)), 0x5A);
}

#[test]
fn thre_is_announced_each_time_it_is_enabled_and_after_each_byte() {
    let mut uart = Uart::new();
    for _ in 0..2 {
        uart.write(1, IER_THRE, at(0));
        assert!(uart.line());
        assert_eq!((uart.read(2, at(0)), uart.read(2, at(0))), (2, 1), "reading IIR clears it");
        uart.write(1, 0, at(0));
    }
    uart.write(1, IER_THRE, at(0));
    uart.read(2, at(0));
    uart.write(0, b'x', at(0));
    assert_eq!(uart.read(2, at(0)), 2);
    uart.write(4, 0x03, at(0));
    uart.write(0, b'y', at(0));
    assert!(!uart.line(), "OUT2 gates the pin");
}

#[test]
fn received_bytes_reach_the_trigger_or_time_out() {
    let mut uart = with_fifo(2);
    assert_eq!(uart.push_input(b"abcdefg", at(0)), 7);
    assert!(!uart.line());
    assert_eq!(uart.deadline(), 640 * HZ / CLOCK_HZ, "four characters of ten bits at 115200");
    uart.run(at(uart.deadline()));
    assert_eq!(uart.read(2, at(0)) & 0x0F, 0x0C);
    assert_eq!(uart.read(0, at(0)), b'a');
    assert!(!uart.line(), "a read restarts the time-out");
    uart.push_input(b"hi", at(0));
    assert_eq!(uart.read(2, at(0)) & 0x0F, 0x04, "eight bytes wait");
    let rest: Vec<u8> = (0..8).map(|_| uart.read(0, at(0))).collect();
    assert_eq!(rest, b"bcdefghi");
    assert_eq!((uart.read(5, at(0)) & 1, uart.deadline()), (0, u64::MAX));
}

#[test]
fn input_is_bounded_and_in_order() {
    let mut uart = with_fifo(0);
    let bytes: Vec<u8> = (0..2000u32).map(|i| i as u8).collect();
    let n = uart.push_input(&bytes, at(0));
    assert!(n < 2000);
    for &byte in &bytes[..n] {
        assert_eq!(uart.read(0, at(0)), byte);
    }
    assert_eq!(uart.read(5, at(0)) & 1, 0);
}

#[test]
fn loopback_is_apart_from_the_line() {
    let mut uart = with_fifo(0);
    uart.write(4, MCR_LOOP, at(0));
    uart.push_input(b"L", at(0));
    uart.write(0, b'T', at(0));
    assert_eq!((uart.read(0, at(0)), uart.output_len()), (b'T', 0));
    for i in 0..17 {
        uart.write(0, i, at(0));
    }
    assert_eq!((uart.read(5, at(0)) & 3, uart.read(5, at(0)) & 3), (3, 1), "overrun, told once");
    uart.write(2, 7, at(0));
    uart.write(4, 0x0B, at(0));
    assert_eq!(uart.read(0, at(0)), b'L');
}

#[test]
fn modem_status_changes_are_told_once() {
    let mut uart = Uart::new();
    uart.write(1, IER_MODEM, at(0));
    uart.write(4, MCR_LOOP | 4, at(0));
    assert_eq!(uart.read(2, at(0)) & 0x0F, 0);
    assert_eq!(uart.read(6, at(0)), 0x40 | 0x0B, "CTS, DSR and DCD fell");
    uart.write(4, MCR_LOOP, at(0));
    assert_eq!((uart.read(6, at(0)), uart.read(6, at(0))), (0x04, 0), "RI fell");
}

/// The host paces the guest: THRE is low while the queue is full, comes back with an interrupt once it is drained, and
/// what a guest writes all the same is counted.
#[test]
fn a_queue_that_is_not_drained_holds_thre_back() {
    let mut uart = Uart::new();
    uart.write(4, 0x0B, at(0));
    uart.write(1, IER_THRE, at(0));
    let mut sent = 0;
    while uart.read(5, at(0)) & 0x20 != 0 {
        (0..FIFO).for_each(|_| {
            uart.write(0, b'x', at(0));
        });
        sent += FIFO;
    }
    assert!(sent > OUT_CAPACITY - 2 * FIFO && sent <= OUT_CAPACITY && !uart.can_send() && !uart.line());
    for _ in sent..OUT_CAPACITY + 3 {
        uart.write(0, b'y', at(0));
    }
    assert_eq!((uart.take_dropped(), uart.take_dropped()), (3, 0));
    let mut out = [0; FIFO];
    assert_eq!(uart.pop_output(&mut out), FIFO);
    assert!(uart.can_send() && uart.line() && uart.read(2, at(0)) & 0x0F == 2);
    let mut rest = [0; OUT_CAPACITY + FIFO];
    for _ in 0..OUT_CAPACITY + 2 {
        uart.write(0, b'z', at(0));
    }
    assert_eq!((uart.pop_output(&mut rest), uart.has_output()), (OUT_CAPACITY, true));
    assert!(uart.take_dropped() > 0 && !uart.has_output());
    uart.write(0, b'z', at(0));
    assert!(uart.has_output());
}
