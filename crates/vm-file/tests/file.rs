//! Files of VMs: what goes in comes out, and nothing else does.

use std::collections::BTreeMap;

use migrate::handover::{Deal, Role};
use migrate::{Origin, OriginFile, PAGE_BYTES, PageRange, Shape};
use proptest::prelude::*;
use vm_file::{Counts, FileError, Image, Meta, State, Storage, Writer};
use vm_types::StateRecord;

#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Storage for Bytes {
    fn size(&self) -> Result<u64, String> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), String> {
        let from = self.0.get(offset as usize..).and_then(|rest| rest.get(..buf.len())).ok_or("short")?;
        buf.copy_from_slice(from);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), String> {
        let end = offset as usize + data.len();
        if self.0.len() < end {
            self.0.resize(end, 0);
        }
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

type Page = [u8; PAGE_BYTES];

fn meta() -> Meta {
    let ranges = vec![PageRange { first: 0, pages: 16 }, PageRange { first: 0x100, pages: 16 }];
    Meta {
        name: "demo".into(),
        uuid: [2; 16],
        shape: Shape { vcpus: 1, ranges, tsc_hz: 20_000_000, devices: vec!["uart/2".into()] },
        policy: b"policy".to_vec(),
        companion: b"companion".to_vec(),
        migration: [1; 16],
        origin: None,
    }
}

fn records() -> Vec<StateRecord> {
    let record = |kind: &str, body: &[u8]| StateRecord {
        kind: kind.into(),
        instance: 0,
        version: 1,
        body: body.to_vec(),
    };
    vec![record("vcpu", &[0xa1, 0, 1]), record("uart", &[7; 100])]
}

fn deal(role: Role) -> Deal {
    Deal { role, migration: [1; 16], vm_uuid: [2; 16], here: [3; 16], there: [4; 16], secret: [5; 32] }
}

fn data(seed: u8) -> Page {
    let mut page = [seed; PAGE_BYTES];
    page[7] = seed.wrapping_add(1);
    page
}

fn word(word: u64) -> Page {
    let mut page = [0; PAGE_BYTES];
    page.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&word.to_le_bytes()));
    page
}

fn small() -> Vec<u8> {
    let mut writer = Writer::new(Bytes::default(), &meta()).unwrap();
    writer.page(1, &data(3)).unwrap();
    writer.page(0x101, &data(4)).unwrap();
    writer.fill(2, 0xcccc_cccc_cccc_cccc).unwrap();
    writer.finish(records(), State::Owner, Some(deal(Role::Target))).unwrap().into_storage().0
}

fn all_of(bytes: Vec<u8>) -> Result<(), FileError> {
    Image::open(Bytes(bytes))?.verify()
}

#[test]
fn sizes_are_as_promised() {
    let empty = Writer::new(Bytes::default(), &meta()).unwrap();
    let empty = empty.finish(records(), State::Owner, None).unwrap().bytes();
    let mut writer = Writer::new(Bytes::default(), &meta()).unwrap();
    for gfn in 0..16 {
        writer.fill(gfn, 0xcc).unwrap();
    }
    assert_eq!(writer.finish(records(), State::Owner, None).unwrap().bytes(), empty + 16 + 16 * 8);
    let mut writer = Writer::new(Bytes::default(), &meta()).unwrap();
    for gfn in 0..16 {
        writer.page(gfn, &data(gfn as u8)).unwrap();
    }
    // The last round of a guest that has zeroed most of it.
    for gfn in 0..14 {
        writer.page(gfn, &[0; PAGE_BYTES]).unwrap();
    }
    let image = writer.finish(records(), State::Owner, None).unwrap();
    assert_eq!(image.bytes(), empty + 16 + 2 * (12 + 4096));
    assert_eq!(image.counts(), Counts { zero: 30, fill: 0, data: 2 });
}

#[test]
fn states_are_kept() {
    let mut image = Image::open(Bytes(small())).unwrap();
    assert_eq!((image.state(), image.deal()), (State::Owner, Some(&deal(Role::Target))));
    image.set_state(State::Given, Some(deal(Role::Source))).unwrap();
    let image = Image::open(image.into_storage()).unwrap();
    assert_eq!((image.state(), image.deal()), (State::Given, Some(&deal(Role::Source))));
    assert_eq!(image.meta(), &meta());
    assert_eq!(image.records(), records());
}

#[test]
fn an_unfinished_file_says_so() {
    let mut writer = Writer::new(Bytes::default(), &meta()).unwrap();
    writer.page(1, &data(3)).unwrap();
    assert_eq!(writer.page(0x20, &data(3)), Err(FileError::NoRam(0x20)));
    assert_eq!(all_of(writer.into_storage().0), Err(FileError::Incomplete));
}

#[test]
fn no_cut_file_is_taken() {
    let whole = small();
    for len in 0..whole.len() {
        let error = all_of(whole[..len].to_vec()).unwrap_err();
        assert!(matches!(error, FileError::Cut { .. }), "{len}: {error}");
    }
    let mut long = whole;
    long.push(0);
    assert!(matches!(all_of(long), Err(FileError::Long { .. })));
}

#[test]
fn no_altered_byte_goes_unseen() {
    let whole = small();
    assert_eq!(all_of(whole.clone()), Ok(()));
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        assert!(all_of(bytes).is_err(), "byte {at:#x}");
    }
}

#[test]
fn the_place_is_named() {
    let whole = small();
    let find = |what: &[u8]| whole.windows(what.len()).position(|bytes| bytes == what).unwrap();
    let said = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        all_of(bytes).unwrap_err().to_string()
    };
    assert_eq!(said(find(&data(4)) + 5), "altered: page of frame 0x101 at offset 0x2000");
    let uart = said(find(&[7; 100]) + 50);
    assert!(uart.starts_with("altered: state record uart 0 at offset 0x30"), "{uart}");
    assert_eq!(said(512), "altered: state slot at offset 0x200");
    assert_eq!(said(find(b"policy")), "altered: header at offset 0x0");
}

#[test]
fn pages_do_not_change_places() {
    let mut bytes = small();
    let (one, other) = (0x1000, 0x2000);
    for i in 0..PAGE_BYTES {
        bytes.swap(one + i, other + i);
    }
    assert!(matches!(all_of(bytes), Err(FileError::Altered { .. })));
}

#[derive(Clone, Debug)]
enum Write {
    Page(u8),
    Fill(u64),
}

fn writes() -> impl Strategy<Value = Vec<(u64, Write)>> {
    let gfn = prop_oneof![0..16u64, 0x100..0x110u64];
    let write = prop_oneof![
        any::<u8>().prop_map(Write::Page),
        Just(Write::Fill(0)),
        any::<u64>().prop_map(Write::Fill)
    ];
    proptest::collection::vec((gfn, write), 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_last_write_counts(writes in writes()) {
        let mut model = BTreeMap::new();
        let mut writer = Writer::new(Bytes::default(), &meta()).unwrap();
        for (gfn, write) in writes {
            match write {
                Write::Page(seed) => {
                    writer.page(gfn, &data(seed)).unwrap();
                    model.insert(gfn, data(seed));
                }
                Write::Fill(value) => {
                    writer.fill(gfn, value).unwrap();
                    model.insert(gfn, word(value));
                }
            }
        }
        let mut page = [0; PAGE_BYTES];
        let zero = [0; PAGE_BYTES];
        for gfn in (0..16).chain(0x100..0x110) {
            writer.read(gfn, &mut page).unwrap();
            prop_assert!(page == *model.get(&gfn).unwrap_or(&zero));
        }
        let bytes = writer.finish(records(), State::Held, None).unwrap().into_storage();
        let image = Image::open(bytes).unwrap();
        image.verify().unwrap();
        for gfn in (0..16).chain(0x100..0x110) {
            image.page(gfn, &mut page).unwrap();
            prop_assert!(page == *model.get(&gfn).unwrap_or(&zero));
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_file(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        prop_assert!(all_of(bytes).is_err());
    }
}

/// What a VM was made from is kept with it, each digest once; a file without is of version 1, as before.
#[test]
fn the_files_of_the_origin_come_out_as_they_went_in() {
    let file = |digest: Option<u8>, len: u64| OriginFile {
        sha256: digest.map(|byte| [byte; 32]),
        len,
        text: "x".into(),
        url: None,
        stays: None,
    };
    let files = vec![
        file(Some(1), 10_001),
        file(Some(2), 8192),
        file(None, 5),
        file(Some(1), 10_001),
        file(Some(3), 0),
    ];
    let origin = Origin { options: "mem=64".into(), args: "quiet".into(), files };
    let meta = Meta { origin: Some(origin), ..meta() };
    let bytes: Vec<u8> = (0..10_001_u32).map(|i| if i < 4096 { 0 } else { ((i * 7) >> 3) as u8 }).collect();
    let mut writer = Writer::new(Bytes::default(), &meta).unwrap();
    for piece in bytes.chunks(3000) {
        writer.file(0, piece).unwrap();
    }
    assert_eq!(writer.file(0, b"x"), Err(FileError::NoFile(0)), "a byte too many");
    let mut writer = Writer::new(Bytes::default(), &meta).unwrap();
    for (number, len) in [(0, 10_001), (1, 8192)] {
        for piece in bytes[..len].chunks(3000) {
            writer.file(number, piece).unwrap();
        }
        writer.end_file(number).unwrap();
        writer.page(3, &[9; PAGE_BYTES]).unwrap();
    }
    for number in [2, 3, 5] {
        assert_eq!(
            writer.file(number, b"x"),
            Err(FileError::NoFile(number)),
            "it is not kept under this number"
        );
    }
    let image = writer.finish(records(), State::Owner, None).unwrap();
    let stored = image.into_storage();
    assert_eq!(stored.0[8], 2);
    let image = Image::open(stored.clone()).unwrap();
    image.verify().unwrap();
    assert_eq!(image.meta(), &meta);
    assert_eq!(image.counts().zero + image.counts().fill + image.counts().data, 32);
    for number in [0, 3] {
        let mut out = vec![1; 10_001];
        image.file(number, 0, &mut out).unwrap();
        assert!(out == bytes);
        image.file(number, 4090, &mut out[..20]).unwrap();
        assert_eq!(out[..20], bytes[4090..4110]);
        assert_eq!(image.file(number, 10_000, &mut out[..2]), Err(FileError::NoFile(0)));
    }
    let mut one = [0];
    assert_eq!(image.file(2, 0, &mut one), Err(FileError::NoFile(2)));
    assert_eq!(image.file(9, u64::MAX, &mut one), Err(FileError::NoFile(9)));
    // A byte of the kernel does not change unseen.
    let at = stored.0.windows(8).position(|eight| eight == &bytes[5000..5008]).unwrap();
    let mut altered = stored.clone();
    altered.0[at] ^= 1;
    assert!(matches!(Image::open(altered).unwrap().verify(), Err(FileError::Altered { .. })));

    let plain = Writer::new(Bytes::default(), &self::meta()).unwrap().into_storage();
    assert_eq!(plain.0[8], 1);
}
