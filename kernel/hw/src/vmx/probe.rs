//! What a CPU does with a virtual interrupt that its guest has masked (SDM 29.2.1): nothing, whatever else happens.
//!
//! Bochs 2.7, and its sources of 2026, deliver it all the same when an interrupt of the host's comes: they ask whether one of
//! the two can be taken, and then take the virtual one. A Linux guest lives for minutes with that, until it is hit between
//! SYSCALL and its first stack. So each boot tries it out, before the first guest, with a guest of its own.

use alloc::sync::Arc;

use translation::{HwPaging, Shadowed};
use vm_types::ApicPage;
use vm_types::apic_register::{IRR, TPR};
use vmx_types::apic::{ApicMode, ApicVirt};
use vmx_types::field::{self, Segment};

use super::bitmap::MsrBitmaps;
use super::entry::Context;
use super::host::{self, HostCpu};
use super::vmcs::{Setup, Vmcs};
use crate::arch::{self, insn, msr, tsc};
use crate::platform::{apic, irq};

/// The vector that waits, and a TPR above it.
const VECTOR: u8 = 0x31;
const ABOVE_ALL: u32 = 0xf0;
/// When the host's interrupt comes, in microseconds after the entry, and how often others may come before.
const DELAY_US: u64 = 20;
const PATIENCE: u32 = 20;
/// Access rights of a 64-bit code segment, of a busy TSS, and of a segment that is not there.
const CODE: u32 = 0xa09b;
const TSS: u32 = 0x8b;
const UNUSABLE: u32 = 1 << 16;

/// Tries out on this CPU, the first one, whether APICv works, before there is a guest on any. False where it does not; it is
/// used then only if the command line asks for it.
pub fn try_apicv() -> bool {
    let Some(this) = host::this() else { return true };
    let works = !this.apic().contains(ApicVirt::APICV) || masks_virtual_interrupts(this);
    if !works {
        host::apicv_fails();
    }
    works
}

/// Whether this CPU, which is in VMX operation and has virtual-interrupt delivery, leaves alone what its guest has masked.
/// True as well where that did not come out.
fn masks_virtual_interrupts(this: &HostCpu) -> bool {
    let Some(mut vmcs) = Vmcs::new(this) else { return true };
    let page = Arc::<ApicPage>::default();
    page.set_bit(IRR, VECTOR, true);
    let (mut loaded, _) = vmcs.load();
    let (mut proc, mut entry) = loaded.set_up(&Setup {
        primary: 0,
        secondary: 0,
        tertiary: 0,
        msr_bitmaps: &MsrBitmaps::trap_all(),
        apic: &page,
        posted: None,
        apic_access: None,
        // The host's own tables: its code is the host's.
        paging: HwPaging::Shadowed(Shadowed { cr3: insn::cr3(), cr0: 0, cr4: 0 }),
        vpid: 1,
        tsc_multiplier: None,
        pml: None,
    });
    let fields = loaded.current();
    entry.set_ia32e(true);
    fields.set_entry(entry);
    fields.set_apic_mode(&mut proc, ApicMode::X2apic);
    for segment in Segment::ALL {
        let rights = match segment {
            Segment::Cs => CODE,
            Segment::Tr => TSS,
            _ => UNUSABLE,
        };
        fields.write(segment.selector(), 0);
        fields.write(segment.base(), 0);
        fields.write(segment.limit(), if segment == Segment::Tr { 0x67 } else { u32::MAX });
        fields.write(segment.access_rights(), rights);
    }
    for (field, value) in [
        (field::GUEST_CR0, insn::cr0()),
        (field::GUEST_CR3, insn::cr3()),
        (field::GUEST_CR4, insn::cr4()),
        (field::GUEST_GDTR_BASE, 0),
        (field::GUEST_IDTR_BASE, 0),
        (field::GUEST_RSP, 0),
        (field::GUEST_DR7, 0x400),
        (field::GUEST_PENDING_DEBUG, 0),
        (field::GUEST_IA32_SYSENTER_ESP, 0),
        (field::GUEST_IA32_SYSENTER_EIP, 0),
    ] {
        fields.write(field, value);
    }
    // No gate for the vector: where it is delivered, the guest is over.
    fields.write(field::GUEST_GDTR_LIMIT, 0);
    fields.write(field::GUEST_IDTR_LIMIT, 0);
    fields.write(field::GUEST_IA32_EFER, msr::read(x86::msr::EFER));
    fields.write(field::GUEST_IA32_PAT, msr::read(x86::msr::PAT));
    fields.write(field::GUEST_IA32_SYSENTER_CS, 0);
    fields.write(field::GUEST_INTERRUPTIBILITY, 0);
    fields.write(field::GUEST_ACTIVITY_STATE, 0);
    let (begins, spins) = arch::apicv_probe();
    let mut context = Context::default();
    let mut delivered = false;
    for _ in 0..PATIENCE {
        let fields = loaded.current();
        page.set(TPR, ABOVE_ALL);
        fields.write(field::GUEST_RIP, begins);
        fields.write(field::GUEST_RFLAGS, 1 << 9 | 2);
        fields.write(field::GUEST_INTERRUPT_STATUS, VECTOR.into());
        // Should the interrupt not come, this ends it.
        fields.write(field::PREEMPTION_TIMER, u32::try_from(tsc::ticks(100 * DELAY_US)).unwrap_or(u32::MAX));
        apic::timer_once(tsc::ticks(DELAY_US));
        let entered = loaded.enter(&mut context);
        let fields = loaded.current();
        delivered = fields.read(field::GUEST_INTERRUPT_STATUS) != u16::from(VECTOR);
        let spun = fields.read(field::GUEST_RIP) >= spins;
        irq::drain();
        if entered.is_err() || delivered || spun {
            break;
        }
    }
    apic::timer_stop();
    vmcs.unload();
    !delivered
}
