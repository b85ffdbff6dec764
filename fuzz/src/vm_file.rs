//! The file of a suspended VM.

use migrate::{Origin, OriginFile, PAGE_BYTES, PageRange, Shape};
use vm_file::{Image, Meta, State, Storage, Writer};
use vm_types::StateRecord;
use xxhash_rust::xxh64::xxh64;

#[derive(Clone, Default)]
struct Memory(Vec<u8>);

impl Storage for Memory {
    fn size(&self) -> Result<u64, String> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), String> {
        let from = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)?.get(..buf.len()));
        buf.copy_from_slice(from.ok_or("too few bytes")?);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), String> {
        let end = offset as usize + data.len();
        self.0.resize(self.0.len().max(end), 0);
        self.0[offset as usize..end].copy_from_slice(data);
        Ok(())
    }

    fn truncate(&mut self, size: u64) -> Result<(), String> {
        self.0.truncate(size as usize);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// The first byte: whether all seals but those of pages are made anew, so that a mutation gets behind them.
pub fn open(data: &[u8]) {
    let Some((first, file)) = data.split_first() else { return };
    let mut file = file.to_vec();
    if first & 1 != 0 {
        seal(&mut file);
    }
    let Ok(mut image) = Image::open(Memory(file.clone())) else { return };
    let counts = image.counts();
    assert_eq!(counts.zero + counts.fill + counts.data, image.meta().shape.pages());
    assert_eq!(image.bytes(), file.len() as u64);
    if image.verify().is_err() {
        return;
    }
    // What is accepted goes on as it is.
    let mut writer = Writer::new(Memory::default(), image.meta()).unwrap();
    let mut page = [0; PAGE_BYTES];
    for range in &image.meta().shape.ranges {
        for gfn in range.first..range.first + range.pages.min(64) {
            image.page(gfn, &mut page).unwrap();
            writer.page(gfn, &page).unwrap();
        }
    }
    let files = image.meta().origin.iter().flat_map(|origin| (0_u32..).zip(&origin.files));
    for (number, file) in files.filter(|(_, file)| file.len <= 1 << 20) {
        let mut bytes = vec![0; file.len as usize];
        if image.file(number, 0, &mut bytes).is_ok() && writer.file(number, &bytes).is_ok() {
            writer.end_file(number).unwrap();
        }
    }
    let copy = writer.finish(image.records().to_vec(), State::Owner, image.deal().cloned()).unwrap();
    let copy = Image::open(copy.into_storage()).unwrap();
    assert_eq!((copy.meta(), copy.records()), (image.meta(), image.records()));
    image.set_state(State::Used, None).unwrap();
    assert_eq!(Image::open(image.into_storage()).unwrap().state(), State::Used);
}

fn put(file: &mut [u8], at: usize, number: u64) -> Option<()> {
    file.get_mut(at..at.checked_add(8)?)?.copy_from_slice(&number.to_le_bytes());
    Some(())
}

fn get(file: &[u8], at: usize) -> Option<usize> {
    let bytes = file.get(at..at.checked_add(8)?)?.first_chunk().copied()?;
    usize::try_from(u64::from_le_bytes(bytes)).ok()
}

fn seal(file: &mut [u8]) -> Option<()> {
    put(file, 16, 0)?;
    let len = get(file, 12)? & 0xffff_ffff;
    let cbor = file.get(1024..1024usize.checked_add(len)?)?;
    let seed = xxh64(cbor, xxh64(file.get(..512)?, 0));
    put(file, 16, seed)?;
    let tail_at = get(file, 520)?.checked_mul(4096)?.checked_add((1024 + len).next_multiple_of(4096));
    if let Some(digest) = tail_at.and_then(|at| seal_tail(file.get_mut(at..)?, seed)) {
        put(file, 536, digest)?;
    }
    put(file, 1016, xxh64(file.get(512..1016)?, seed))
}

fn seal_tail(tail: &mut [u8], seed: u64) -> Option<u64> {
    let end = tail.len().checked_sub(32)?;
    let index = get(tail, end)?.min(end);
    put(tail, end + 16, xxh64(tail.get(..index)?, seed))?;
    let mut at = index;
    while at + 16 <= end {
        let Some(behind) = get(tail, at)?.checked_add(at + 16).filter(|behind| *behind <= end) else { break };
        put(tail, at + 8, xxh64(tail.get(at + 16..behind)?, seed))?;
        at = behind;
    }
    let digest = xxh64(tail.get(..end + 24)?, seed);
    put(tail, end + 24, digest)?;
    Some(digest)
}

/// A file with a page of each sort.
pub(crate) fn seed(first: u8, origin: bool) -> Vec<u8> {
    let kernel = OriginFile { sha256: Some([7; 32]), len: 4100, text: String::new(), url: None, stays: None };
    let ranges = vec![PageRange { first: 0, pages: 4 }, PageRange { first: 16, pages: 4 }];
    let meta = Meta {
        name: "demo".into(),
        uuid: [2; 16],
        shape: Shape { vcpus: 1, ranges, tsc_hz: 20_000_000, devices: vec!["uart/2".into()] },
        policy: vec![0xa0],
        companion: Vec::new(),
        migration: [1; 16],
        origin: origin.then(|| Origin { options: "mem=1".into(), args: "quiet".into(), files: vec![kernel] }),
    };
    let mut writer = Writer::new(Memory::default(), &meta).unwrap();
    let mut page = [0; PAGE_BYTES];
    page[9] = 9;
    writer.page(17, &page).unwrap();
    writer.fill(1, 0xcccc).unwrap();
    writer.fill(2, 0xcccd).unwrap();
    if origin {
        writer.file(0, &[9; 4100]).unwrap();
        writer.end_file(0).unwrap();
    }
    let record = |kind: &str| StateRecord { kind: kind.into(), instance: 0, version: 1, body: vec![0xa0] };
    let image = writer.finish(vec![record("vcpu"), record("uart")], State::Owner, None).unwrap();
    let file = [vec![first], image.into_storage().0].concat();
    assert!(Image::open(Memory(file[1..].to_vec())).unwrap().verify().is_ok());
    let mut again = file[1..].to_vec();
    assert!(seal(&mut again).is_some() && again == file[1..], "sealing anew changes a sound file");
    file
}
