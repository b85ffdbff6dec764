//! The controls of every VMCS, clamped once per CPU to what it has.

use crate::capability::Caps;
use crate::control::{EntryControls, ExitControls, MissingControls, PinBased, ProcBased, ProcBased2};
use crate::slice::SliceTimer;

/// The five control words before a VM's own choices.
#[derive(Clone, Copy, Debug)]
pub struct Controls {
    /// Pin-based.
    pub pin: PinBased,
    /// Primary processor-based.
    pub proc: ProcBased,
    /// Secondary processor-based: what a VM's level decides is left out.
    pub proc2: ProcBased2,
    /// Exit.
    pub exit: ExitControls,
    /// Entry.
    pub entry: EntryControls,
}

impl Controls {
    /// The words for this CPU, where `timer` ends a guest's run.
    ///
    /// # Errors
    /// [`MissingControls`] names what the CPU lacks.
    pub fn new(caps: &Caps, timer: SliceTimer) -> Result<Self, MissingControls> {
        let preemption = timer == SliceTimer::Preemption;
        let mut pin = PinBased::EXTERNAL_INTERRUPT_EXITING | PinBased::NMI_EXITING | PinBased::VIRTUAL_NMIS;
        pin.set(PinBased::PREEMPTION_TIMER, preemption);
        let proc = ProcBased::USE_TSC_OFFSETTING
            | ProcBased::HLT_EXITING
            | ProcBased::MWAIT_EXITING
            | ProcBased::MONITOR_EXITING
            | ProcBased::RDPMC_EXITING
            // Until its APIC's mode says otherwise: `crate::apic`.
            | ProcBased::CR8_LOAD_EXITING
            | ProcBased::CR8_STORE_EXITING
            | ProcBased::USE_MSR_BITMAPS
            | ProcBased::UNCONDITIONAL_IO_EXITING
            | ProcBased::SECONDARY_CONTROLS;
        let mut proc2 = ProcBased2::WBINVD_EXITING;
        proc2.set(ProcBased2::UNRESTRICTED_GUEST, caps.unrestricted());
        proc2.set(ProcBased2::ENABLE_VPID, caps.vpid());
        proc2.set(ProcBased2::ENABLE_PML, caps.pml());
        let mut exit = ExitControls::SAVE_DEBUG_CONTROLS
            | ExitControls::HOST_ADDRESS_SPACE_SIZE
            | ExitControls::SAVE_PAT
            | ExitControls::LOAD_PAT
            | ExitControls::SAVE_EFER
            | ExitControls::LOAD_EFER;
        exit.set(ExitControls::SAVE_PREEMPTION_TIMER, preemption);
        let entry = EntryControls::LOAD_DEBUG_CONTROLS | EntryControls::LOAD_PAT | EntryControls::LOAD_EFER;
        Ok(Self {
            pin: PinBased::from_bits_retain(caps.pin.clamp("pin-based controls", pin.bits(), 0)?),
            proc: ProcBased::from_bits_retain(caps.proc.clamp("processor-based controls", proc.bits(), 0)?),
            proc2: ProcBased2::from_bits_retain(caps.proc2.clamp(
                "secondary controls",
                ProcBased2::ENABLE_EPT.bits(),
                proc2.bits(),
            )?),
            exit: ExitControls::from_bits_retain(caps.exit.clamp("exit controls", exit.bits(), 0)?),
            entry: EntryControls::from_bits_retain(caps.entry.clamp("entry controls", entry.bits(), 0)?),
        })
    }
}
