//! Each CPU's global descriptor table and task state segment.

use x86_64::VirtAddr;
use x86_64::registers::segmentation::SegmentSelector;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

use super::insn;
use super::stack::{Stack, Stacks};

/// Selector of the code segment, the loader's as well as ours.
pub(super) const CODE: u16 = 0x08;
/// Slot of the interrupt stack table for double faults; IDT gates count from 1.
pub(super) const IST_DOUBLE_FAULT: u16 = 1;
/// Slot for NMIs.
pub(super) const IST_NMI: u16 = 2;
/// Slot for machine checks.
pub(super) const IST_MACHINE_CHECK: u16 = 3;

/// The task state segment of a CPU with these stacks.
pub(super) fn tss(stacks: Stacks) -> TaskStateSegment {
    let mut tss = TaskStateSegment::new();
    for (slot, stack) in [
        (IST_DOUBLE_FAULT, Stack::DoubleFault),
        (IST_NMI, Stack::Nmi),
        (IST_MACHINE_CHECK, Stack::MachineCheck),
    ] {
        tss.interrupt_stack_table[usize::from(slot) - 1] = VirtAddr::new(stacks.top(stack));
    }
    tss
}

/// Loads a table for this CPU: code, data and `tss`. FS and GS become null, their bases 0.
pub(super) fn load(gdt: &'static spin::Once<GlobalDescriptorTable>, tss: &'static TaskStateSegment) {
    let mut task = SegmentSelector::NULL;
    let gdt = gdt.call_once(|| {
        let mut gdt = GlobalDescriptorTable::new();
        gdt.append(Descriptor::kernel_code_segment());
        gdt.append(Descriptor::kernel_data_segment());
        task = gdt.append(Descriptor::tss_segment(tss));
        gdt
    });
    // SAFETY: both tables are static; the first has a code segment where CODE says, and the TSS is not loaded yet, as each
    // CPU loads its own table once.
    unsafe { insn::load_gdt(gdt, SegmentSelector(CODE), task) };
}
