//! What the UEFI loader writes is what the kernel reads.

use bootinfo::{BootError, BootInfo, Builder, MULTIBOOT2_MAGIC, RegionKind, UEFI_MAGIC, Via};
use proptest::prelude::*;

const AT: u64 = 0x1000;

fn read(magic: u32, block: &[u8]) -> Result<BootInfo, BootError> {
    BootInfo::parse(magic, AT, &|address: u64, len: usize| {
        let at = usize::try_from(address.checked_sub(AT)?).ok()?;
        block.get(at..)?.get(..len)
    })
}

#[test]
fn everything_comes_through() {
    let mut block = vec![0xaa; 4096];
    let mut builder = Builder::new(&mut block);
    builder.command_line("console=com2 ip=dhcp");
    builder.loader("flexvisor.efi");
    builder.module(0x10_0000, 0x10_0123, "vm=a -- x");
    builder.module(0x20_0000, 0x20_0000, "");
    builder.rsdp(&[1; 36], true);
    assert!(!builder.is_full());
    let regions = [
        (0u64, 0x1000u64, RegionKind::Usable),
        (0x1000, 0x9_f000, RegionKind::Usable),
        (0xa_0000, 0x1000, RegionKind::Reserved),
        (0x10_0000, 0x1000, RegionKind::Usable),
        (0x20_0000, 0x1000, RegionKind::Usable),
        (0x20_1000, 0x1000, RegionKind::AcpiNvs),
    ];
    builder.memory_map(regions.into_iter());
    let len = builder.finish();
    assert!(len < 600 && len.is_multiple_of(8), "{len}");
    let info = read(UEFI_MAGIC, &block[..len]).unwrap();
    assert_eq!((info.via, info.via.to_string().as_str()), (Via::Uefi, "uefi"));
    assert_eq!(info.command_line, "console=com2 ip=dhcp");
    assert_eq!(info.loader, "flexvisor.efi");
    let modules: Vec<_> = info.modules.iter().map(|m| (m.start, m.end, m.command_line.as_str())).collect();
    assert_eq!(modules, [(0x10_0000, 0x10_0123, "vm=a -- x"), (0x20_0000, 0x20_0000, "")]);
    assert_eq!(info.rsdp.as_deref(), Some(&[1u8; 36][..]));
    let memory: Vec<_> = info.memory.iter().map(|r| (r.start, r.end, r.kind)).collect();
    assert_eq!(
        memory,
        [
            (0, 0xa_0000, RegionKind::Usable),
            (0xa_0000, 0xa_1000, RegionKind::Reserved),
            (0x10_0000, 0x10_1000, RegionKind::Usable),
            (0x20_0000, 0x20_1000, RegionKind::Usable),
            (0x20_1000, 0x20_2000, RegionKind::AcpiNvs),
        ]
    );
    assert_eq!(read(MULTIBOOT2_MAGIC, &block[..len]).unwrap().via, Via::Multiboot2);
}

#[test]
fn no_map_is_no_boot() {
    let mut block = [0; 64];
    let len = Builder::new(&mut block).finish();
    assert_eq!(read(UEFI_MAGIC, &block[..len]), Err(BootError::NoMemoryMap));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_does_not_fit_is_left_out(room in 16usize..300, line in "[a-z =]{0,100}", count in 0u64..12) {
        let mut block = vec![0; room];
        let mut builder = Builder::new(&mut block);
        builder.command_line(&line);
        let line_fits = !builder.is_full();
        builder.memory_map((0..count).map(|n| (n << 20, 0x1000, RegionKind::Usable)));
        let all = !builder.is_full();
        let len = builder.finish();
        prop_assert!(len <= room);
        match read(UEFI_MAGIC, &block[..len]) {
            Ok(info) => {
                prop_assert_eq!(info.command_line.as_str(), if line_fits { line.trim() } else { "" });
                prop_assert!(!all || info.memory.len() as u64 == count);
            }
            Err(error) => prop_assert!(error == BootError::NoMemoryMap && (count == 0 || !all), "{}", error),
        }
    }
}
