//! Rules for the controls (SDM 26.2.1.1, 26.2.1.2, 26.2.1.3).

use super::{Broken, Verdict, need, too_wide};
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
    /// MSR bitmap, page-modification log.
    pub pages: [u64; 2],
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
        let proc = ProcBased::from_bits_retain(vmcs.get(field::PROC_BASED_CONTROLS));
        let proc2 = if proc.contains(ProcBased::SECONDARY_CONTROLS) {
            ProcBased2::from_bits_retain(vmcs.get(field::PROC_BASED_CONTROLS_2))
        } else {
            ProcBased2::empty()
        };
        let by = |control, field| if proc2.contains(control) { vmcs.get(field) } else { 0 };
        let bitmap = proc.contains(ProcBased::USE_MSR_BITMAPS);
        let tertiary = proc.contains(ProcBased::TERTIARY_CONTROLS);
        Self {
            pin: PinBased::from_bits_retain(vmcs.get(field::PIN_BASED_CONTROLS)),
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
            ],
            ept_pointer: by(ProcBased2::ENABLE_EPT, field::EPT_POINTER),
            vpid: if proc2.contains(ProcBased2::ENABLE_VPID) { vmcs.get(field::VPID) } else { 0 },
            link: vmcs.get(field::VMCS_LINK_POINTER),
        }
    }

    /// Whether the words that change while a vCPU runs are still these.
    pub(super) fn are_those_of(&self, vmcs: &impl Vmcs) -> bool {
        self.proc.bits() == vmcs.get(field::PROC_BASED_CONTROLS)
            && self.entry.bits() == vmcs.get(field::ENTRY_CONTROLS)
    }

    /// All rules that a VMCS of ours can break: no I/O bitmaps, TPR shadow, APIC page or MSR lists are in use.
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
        need(page_fits(self.pages[0]), EXECUTION, "MSR bitmap", self.pages[0])?;
        need(page_fits(self.pages[1]), EXECUTION, "PML address", self.pages[1])?;
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
