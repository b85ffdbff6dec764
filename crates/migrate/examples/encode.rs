//! What the encoder makes of a RAM image, and how fast: `encode [--json] RAM [BYTES-OF-ANOTHER-STREAM]`.
//!
//! RAM is a file of whole pages, as QEMU's `pmemsave` writes it. Speeds are the best of seven passes over all of it,
//! against a memcpy of the same pages, page by page, in the same run.

use std::hint::black_box;
use std::task::Poll;
use std::time::Instant;

use migrate::memory::Encoder;
use migrate::wire::RECORD_HEADER;
use migrate::{Compression, PAGE_BYTES, PageKind, PageRange, Shape, SourceVm};
use vm_types::{Gpa, MemoryError, StateRecord};

const PASSES: usize = 7;

struct Image(Vec<[u8; PAGE_BYTES]>);

/// Only pages are asked for.
impl SourceVm for Image {
    fn read_page(&mut self, gfn: u64, page: &mut [u8; PAGE_BYTES]) -> Result<(), MemoryError> {
        let error = MemoryError { gpa: Gpa(gfn * PAGE_BYTES as u64), len: PAGE_BYTES };
        *page = *self.0.get(gfn as usize).ok_or(error)?;
        Ok(())
    }

    fn start_tracking(&mut self) -> Poll<Result<(), String>> {
        Poll::Ready(Ok(()))
    }

    fn harvest(&mut self) -> Poll<u64> {
        Poll::Ready(0)
    }

    fn take_dirty(&mut self, _: u64) -> Option<u64> {
        None
    }

    fn pause(&mut self) -> Poll<u64> {
        Poll::Ready(0)
    }

    fn export_state(&mut self) -> Result<Vec<StateRecord>, String> {
        Ok(Vec::new())
    }

    fn throttle(&mut self, _: &migrate::Shares) {}
    fn resume(&mut self) {}
    fn give_back(&mut self) {}
    fn stop_tracking(&mut self) {}
    fn give_up(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn free(&mut self) {}
    fn mark_unknown(&mut self) {}
}

#[derive(Default)]
struct Made {
    /// Record headers included.
    bytes: usize,
    zero: usize,
    fill: usize,
    data: usize,
}

fn encode(image: &mut Image, encoder: &mut Encoder) -> Result<Made, MemoryError> {
    encode_those(image, encoder, |_| true)
}

fn encode_those(
    image: &mut Image,
    encoder: &mut Encoder,
    wanted: impl Fn(&[u8; PAGE_BYTES]) -> bool,
) -> Result<Made, MemoryError> {
    let mut made = Made::default();
    for gfn in 0..image.0.len() as u64 {
        if !image.0.get(gfn as usize).is_some_and(&wanted) {
            continue;
        }
        if encoder.is_full() {
            made.bytes += encoder.take(|buf, len| black_box(buf.len().min(len)));
        }
        match encoder.add(gfn, image)? {
            Some(PageKind::Fill(0)) => made.zero += 1,
            Some(PageKind::Fill(_)) => made.fill += 1,
            Some(PageKind::Data) => made.data += 1,
            None => {}
        }
    }
    made.bytes += encoder.take(|_, len| len.max(RECORD_HEADER));
    Ok(made)
}

/// GB/s of the best pass.
fn best(bytes: usize, mut pass: impl FnMut()) -> f64 {
    let passes = (0..PASSES).map(|_| {
        let began = Instant::now();
        pass();
        began.elapsed().as_secs_f64()
    });
    bytes as f64 / passes.fold(f64::INFINITY, f64::min) / 1e9
}

/// Bytes by compression, and what the zero pages take: the difference to a stream without them, by their number.
fn json(image: &mut Image, shape: &Shape) -> Result<(), MemoryError> {
    let encoder = |compression| {
        let mut encoder = Encoder::new();
        encoder.prepare(shape, *b"not of the guest", compression);
        encoder.begin_round(1);
        encoder
    };
    let Made { bytes, zero, fill, data } = encode(image, &mut encoder(Compression::None))?;
    let lz4 = encode(image, &mut encoder(Compression::Lz4))?.bytes;
    let not_zero = |page: &[u8; PAGE_BYTES]| migrate::scan(page) != PageKind::Fill(0);
    let without = encode_those(image, &mut encoder(Compression::None), not_zero)?.bytes;
    let each = bytes.saturating_sub(without) as f64 / zero.max(1) as f64;
    println!(
        "{{\"none\":{bytes},\"lz4\":{lz4},\"zero\":{zero},\"fill\":{fill},\"data\":{data},\"zero_page_bytes\":{each}}}"
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).peekable();
    let as_json = args.next_if_eq("--json").is_some();
    let path = args.next().ok_or("usage: encode [--json] RAM [BYTES-OF-ANOTHER-STREAM]")?;
    let other = args.next().map(|text| text.parse::<f64>()).transpose()?;
    let bytes = std::fs::read(&path)?;
    let mut image = Image(bytes.as_chunks::<PAGE_BYTES>().0.to_vec());
    let pages = image.0.len() as u64;
    let ranges = vec![PageRange { first: 0, pages }];
    let shape = Shape { vcpus: 1, ranges, tsc_hz: 1_000_000_000, devices: Vec::new() };

    if as_json {
        return Ok(json(&mut image, &shape)?);
    }
    let mut room = vec![[0; PAGE_BYTES]; 16];
    let memcpy = best(bytes.len(), || {
        for (i, page) in image.0.iter().enumerate() {
            if let Some(to) = room.get_mut(i % 16) {
                *black_box(&mut *to) = *page;
            }
        }
    });
    println!("memcpy         {memcpy:6.2} GB/s, {pages} pages");
    let mut plain = Encoder::new();
    let speed = best(bytes.len(), || drop(black_box(encode(&mut image, &mut plain))));
    println!("scan + encode  {speed:6.2} GB/s, {:.2} of memcpy", speed / memcpy);
    for (name, compression) in [("none", Compression::None), ("lz4", Compression::Lz4)] {
        let mut made = Made::default();
        let mut speeds = Vec::new();
        for _ in 0..PASSES {
            let mut encoder = Encoder::new();
            encoder.prepare(&shape, *b"not of the guest", compression);
            encoder.begin_round(1);
            let began = Instant::now();
            made = encode(&mut image, &mut encoder)?;
            speeds.push(bytes.len() as f64 / began.elapsed().as_secs_f64() / 1e9);
        }
        let speed = speeds.into_iter().fold(0.0, f64::max);
        let Made { bytes, zero, fill, data } = made;
        print!("compress={name:5} {speed:6.2} GB/s, {:.2} of memcpy, {bytes} bytes", speed / memcpy);
        if let Some(other) = other {
            print!(", {:.3} of the other's", bytes as f64 / other);
        }
        println!("; {zero} zero, {fill} fill, {data} data pages");
    }
    Ok(())
}
