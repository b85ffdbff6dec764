//! Rules for the controls (SDM 26.2.1.1, 26.2.1.2, 26.2.1.3).

use super::{Broken, Verdict, need, too_wide};
use crate::apic;
use crate::capability::Caps;
use crate::control::{Allowed, EntryControls, ExitControls, PinBased, ProcBased, ProcBased2};
use crate::field;
use crate::vmcs::Vmcs;

const EXECUTION: &str = "26.2.1.1";
const EXIT: &str = "26.2.1.2";
const ENTRY: &str = "26.2.1.3";

/// The control fields of a VMCS. Those that a control leaves out are 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlFields {
    /// Pin-based.
    pub pin: PinBased,
    /// Primary processor-based.
    pub proc: ProcBased,
    /// Secondary processor-based.
    pub proc2: ProcBased2,
    /// Tertiary processor-based.
    pub proc3: u64,
    /// Exit.
    pub exit: ExitControls,
    /// Entry.
    pub entry: EntryControls,
    /// Number of CR3 targets; MSRs stored and loaded at exits, loaded at entries.
    pub counts: [u32; 4],
    /// MSR bitmap, page-modification log, virtual-APIC page, APIC-access page.
    pub pages: [u64; 4],
    /// TPR threshold.
    pub tpr_threshold: u32,
    /// Posted-interrupt notification vector and descriptor address.
    pub posted: (u16, u64),
    /// PID-pointer table address and last index.
    pub ipis: (u64, u16),
    /// EPT pointer.
    pub ept_pointer: u64,
    /// VPID.
    pub vpid: u16,
    /// VMCS link pointer.
    pub link: u64,
}

impl ControlFields {
    /// Reads them.
    pub fn read(vmcs: &impl Vmcs) -> Self {
        let pin = PinBased::from_bits_retain(vmcs.get(field::PIN_BASED_CONTROLS));
        let proc = ProcBased::from_bits_retain(vmcs.get(field::PROC_BASED_CONTROLS));
        let proc2 = if proc.contains(ProcBased::SECONDARY_CONTROLS) {
            ProcBased2::from_bits_retain(vmcs.get(field::PROC_BASED_CONTROLS_2))
        } else {
            ProcBased2::empty()
        };
        let by = |control, field| if proc2.contains(control) { vmcs.get(field) } else { 0 };
        let bitmap = proc.contains(ProcBased::USE_MSR_BITMAPS);
        let tertiary = proc.contains(ProcBased::TERTIARY_CONTROLS);
        let shadow = proc.contains(ProcBased::USE_TPR_SHADOW);
        Self {
            pin,
            proc,
            proc2,
            proc3: if tertiary { vmcs.get(field::PROC_BASED_CONTROLS_3) } else { 0 },
            exit: ExitControls::from_bits_retain(vmcs.get(field::EXIT_CONTROLS)),
            entry: EntryControls::from_bits_retain(vmcs.get(field::ENTRY_CONTROLS)),
            counts: [
                field::CR3_TARGET_COUNT,
                field::EXIT_MSR_STORE_COUNT,
                field::EXIT_MSR_LOAD_COUNT,
                field::ENTRY_MSR_LOAD_COUNT,
            ]
            .map(|count| vmcs.get(count)),
            pages: [
                if bitmap { vmcs.get(field::MSR_BITMAP) } else { 0 },
                by(ProcBased2::ENABLE_PML, field::PML_ADDRESS),
                if shadow { vmcs.get(field::VIRTUAL_APIC_ADDRESS) } else { 0 },
                by(ProcBased2::VIRTUALIZE_APIC_ACCESSES, field::APIC_ACCESS_ADDRESS),
            ],
            posted: if pin.contains(PinBased::POSTED_INTERRUPTS) {
                (vmcs.get(field::POSTED_INTERRUPT_VECTOR), vmcs.get(field::POSTED_INTERRUPT_DESCRIPTOR))
            } else {
                (0, 0)
            },
            ipis: if tertiary && vmcs.get(field::PROC_BASED_CONTROLS_3) & apic::TERTIARY != 0 {
                (vmcs.get(field::PID_POINTER_TABLE), vmcs.get(field::LAST_PID_POINTER_INDEX))
            } else {
                (0, 0)
            },
            tpr_threshold: if shadow { vmcs.get(field::TPR_THRESHOLD) } else { 0 },
            ept_pointer: by(ProcBased2::ENABLE_EPT, field::EPT_POINTER),
            vpid: if proc2.contains(ProcBased2::ENABLE_VPID) { vmcs.get(field::VPID) } else { 0 },
            link: vmcs.get(field::VMCS_LINK_POINTER),
        }
    }

    /// Whether the words that change while a vCPU runs are still these.
    pub(super) fn are_those_of(&self, vmcs: &impl Vmcs) -> bool {
        let proc2 = || vmcs.get(field::PROC_BASED_CONTROLS_2);
        self.pin.bits() == vmcs.get(field::PIN_BASED_CONTROLS)
            && self.proc.bits() == vmcs.get(field::PROC_BASED_CONTROLS)
            && (self.proc2.is_empty() || self.proc2.bits() == proc2())
            && (!self.proc.contains(ProcBased::TERTIARY_CONTROLS)
                || self.proc3 == vmcs.get(field::PROC_BASED_CONTROLS_3))
            && self.entry.bits() == vmcs.get(field::ENTRY_CONTROLS)
    }

    /// All rules that a VMCS of ours can break: no I/O bitmaps or MSR lists are in use. That the TPR threshold is not above
    /// TPR is the run loop's to see to: TPR is not in the VMCS.
    ///
    /// # Errors
    /// The first that is broken.
    pub fn check(&self, caps: &Caps, phys_bits: u8) -> Verdict {
        allowed(caps.pin, self.pin.bits(), EXECUTION, "pin-based controls")?;
        allowed(caps.proc, self.proc.bits(), EXECUTION, "processor-based controls")?;
        if self.proc.contains(ProcBased::SECONDARY_CONTROLS) {
            allowed(caps.proc2, self.proc2.bits(), EXECUTION, "secondary controls")?;
        }
        need(self.proc3 & !caps.proc3 == 0, EXECUTION, "tertiary controls", self.proc3)?;
        self.check_exits()?;
        need(self.counts[0] <= 4, EXECUTION, "CR3-target count", self.counts[0].into())?;
        let page_fits = |page: u64| page & 0xfff == 0 && !too_wide(page, phys_bits);
        for (page, name) in self.pages.into_iter().zip([
            "MSR bitmap",
            "PML address",
            "virtual-APIC address",
            "APIC-access address",
        ]) {
            need(page_fits(page), EXECUTION, name, page)?;
        }
        self.check_apic()?;
        self.check_posted(phys_bits)?;
        self.check_ipis(phys_bits)?;
        let vpid = self.vpid != 0 || !self.proc2.contains(ProcBased2::ENABLE_VPID);
        need(vpid, EXECUTION, "VPID", self.vpid.into())?;
        self.check_ept(caps, phys_bits)?;
        allowed(caps.exit, self.exit.bits(), EXIT, "exit controls")?;
        let timer = self.pin.contains(PinBased::PREEMPTION_TIMER)
            || !self.exit.contains(ExitControls::SAVE_PREEMPTION_TIMER);
        need(timer, EXIT, "exit controls", self.exit.bits().into())?;
        for (count, (rule, name)) in self.counts[1..].iter().zip([
            (EXIT, "exit MSR-store count"),
            (EXIT, "exit MSR-load count"),
            (ENTRY, "entry MSR-load count"),
        ]) {
            need(*count == 0, rule, name, (*count).into())?;
        }
        allowed(caps.entry, self.entry.bits(), ENTRY, "entry controls")?;
        need(self.exit.contains(ExitControls::HOST_ADDRESS_SPACE_SIZE), "26.2.4", "exit controls", 0)?;
        need(self.link == u64::MAX, "26.3.1.5", "VMCS link pointer", self.link)
    }

    /// What of the APIC may be virtualised together.
    fn check_apic(&self) -> Verdict {
        let shadow = self.proc.contains(ProcBased::USE_TPR_SHADOW);
        let needs_shadow = apic::SECONDARY - ProcBased2::VIRTUALIZE_APIC_ACCESSES;
        let either = ProcBased2::VIRTUALIZE_APIC_ACCESSES | ProcBased2::VIRTUALIZE_X2APIC_MODE;
        let secondary = (shadow || !self.proc2.intersects(needs_shadow)) && !self.proc2.contains(either);
        need(secondary, EXECUTION, "secondary controls", self.proc2.bits().into())?;
        let delivery = !self.proc2.contains(ProcBased2::VIRTUAL_INTERRUPT_DELIVERY)
            || self.pin.contains(PinBased::EXTERNAL_INTERRUPT_EXITING);
        need(delivery, EXECUTION, "pin-based controls", self.pin.bits().into())?;
        need(self.tpr_threshold < 16, EXECUTION, "TPR threshold", self.tpr_threshold.into())
    }

    /// Posted interrupts.
    fn check_posted(&self, phys_bits: u8) -> Verdict {
        if !self.pin.contains(PinBased::POSTED_INTERRUPTS) {
            return Ok(());
        }
        let delivers = self.proc2.contains(ProcBased2::VIRTUAL_INTERRUPT_DELIVERY);
        need(delivers, EXECUTION, "pin-based controls", self.pin.bits().into())?;
        let acknowledges = self.exit.contains(ExitControls::ACKNOWLEDGE_INTERRUPT);
        need(acknowledges, EXECUTION, "exit controls", self.exit.bits().into())?;
        let (vector, descriptor) = self.posted;
        need(vector < 256, EXECUTION, "posted-interrupt notification vector", vector.into())?;
        let fits = descriptor & 0x3f == 0 && !too_wide(descriptor, phys_bits);
        need(fits, EXECUTION, "posted-interrupt descriptor address", descriptor)
    }

    /// IPI virtualization.
    fn check_ipis(&self, phys_bits: u8) -> Verdict {
        if self.proc3 & apic::TERTIARY == 0 {
            return Ok(());
        }
        let shadow = self.proc.contains(ProcBased::USE_TPR_SHADOW);
        need(shadow, EXECUTION, "tertiary controls", self.proc3)?;
        let (table, last) = self.ipis;
        let end = table.checked_add(u64::from(last) * 8);
        let fits = table & 7 == 0 && end.is_some_and(|end| !too_wide(end, phys_bits));
        need(fits, EXECUTION, "PID-pointer table address", table)
    }

    /// Which exits may stand together.
    fn check_exits(&self) -> Verdict {
        let pin = u64::from(self.pin.bits());
        let nmis = self.pin.contains(PinBased::NMI_EXITING) || !self.pin.contains(PinBased::VIRTUAL_NMIS);
        need(nmis, EXECUTION, "pin-based controls", pin)?;
        let window =
            self.pin.contains(PinBased::VIRTUAL_NMIS) || !self.proc.contains(ProcBased::NMI_WINDOW_EXITING);
        need(window, EXECUTION, "processor-based controls", self.proc.bits().into())
    }

    fn check_ept(&self, caps: &Caps, phys_bits: u8) -> Verdict {
        let needs_ept =
            ProcBased2::UNRESTRICTED_GUEST | ProcBased2::ENABLE_PML | ProcBased2::MODE_BASED_EXECUTE;
        if !self.proc2.contains(ProcBased2::ENABLE_EPT) {
            let alone = !self.proc2.intersects(needs_ept);
            return need(alone, EXECUTION, "secondary controls", self.proc2.bits().into());
        }
        let pointer = self.ept_pointer;
        // Write-back, four levels; flags for accessed and dirty where the CPU has them.
        let flags = if caps.ept_access_dirty() { 1 << 6 } else { 0 };
        let legal = pointer & 0x3f == 3 << 3 | 6 && pointer & 0xf80 == 0 && pointer & 1 << 6 & !flags == 0;
        need(legal && !too_wide(pointer, phys_bits), EXECUTION, "EPT pointer", pointer)
    }
}

fn allowed(caps: Allowed, bits: u32, rule: &'static str, field: &'static str) -> Result<(), Broken> {
    need(caps.must & !bits == 0 && bits & !caps.may == 0, rule, field, bits.into())
}
