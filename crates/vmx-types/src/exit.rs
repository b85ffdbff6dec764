//! A VM exit, decoded once: the reason and what its handler needs.

use crate::event::Event;
use crate::qualification::{ApicAccess, CrAccess, DrAccess, EptViolation, IoAccess};
use crate::reason::ExitReason;
use crate::task::TaskSwitch;

/// The exit-information fields of the current VMCS; a decoder reads only those that the reason defines.
pub trait ExitFields {
    /// EXIT_QUALIFICATION
    fn qualification(&self) -> u64;
    /// GUEST_PHYSICAL_ADDRESS
    fn guest_physical(&self) -> u64;
    /// EXIT_INTERRUPTION_INFO
    fn interruption_info(&self) -> u32;
    /// EXIT_INTERRUPTION_ERROR_CODE
    fn interruption_error_code(&self) -> u32;
    /// EXIT_INSTRUCTION_LENGTH
    fn instruction_length(&self) -> u32;
}

/// A VMX instruction; a guest without VMX gets #UD for it.
pub type VmxInstruction = ExitReason;

/// A VM exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Exception or NMI.
    Exception(Event),
    /// A host interrupt is pending.
    ExternalInterrupt,
    /// Triple fault.
    TripleFault,
    /// INIT to this CPU while the guest ran.
    Init,
    /// Start-up IPI with its vector.
    Sipi(u8),
    /// SMI under dual-monitor treatment.
    Smi,
    /// The guest can take an interrupt.
    InterruptWindow,
    /// The guest can take an NMI.
    NmiWindow,
    /// Task switch.
    TaskSwitch(TaskSwitch),
    /// CPUID.
    Cpuid,
    /// HLT.
    Hlt,
    /// INVD or WBINVD.
    CacheFlush,
    /// INVLPG.
    Invlpg(u64),
    /// RDPMC.
    Rdpmc,
    /// RDTSC or RDTSCP.
    Rdtsc,
    /// VMCALL.
    Vmcall,
    /// An instruction that no level of ours offers: the guest gets #UD.
    Undefined(ExitReason),
    /// Control-register access.
    Cr(CrAccess),
    /// MOV DR.
    Dr(DrAccess),
    /// I/O instruction.
    Io(IoAccess),
    /// RDMSR.
    Rdmsr,
    /// WRMSR.
    Wrmsr,
    /// A VM entry failed after it had loaded the guest's state.
    EntryFailure {
        /// Invalid guest state, MSR loading or machine check.
        reason: ExitReason,
        /// Exit qualification.
        qualification: u64,
    },
    /// An access to the APIC-access page.
    ApicAccess(ApicAccess),
    /// A write to the virtual-APIC page that the CPU has carried out, at this offset. RIP is past the instruction.
    ApicWrite(u16),
    /// EOI of this vector, which the CPU has carried out. RIP is past the instruction.
    VirtualizedEoi(u8),
    /// TPR has fallen below the threshold. RIP is past the instruction.
    TprBelowThreshold,
    /// PAUSE or a PAUSE loop.
    Pause,
    /// An access to GDTR, IDTR, LDTR or TR.
    DescriptorTable,
    /// EPT violation.
    EptViolation(EptViolation),
    /// EPT misconfiguration at this guest-physical address.
    EptMisconfiguration(u64),
    /// The preemption timer ran out.
    PreemptionTimer,
    /// XSETBV.
    Xsetbv,
    /// The page-modification log is full.
    PmlFull,
    /// An exit of a feature that Flexvisor never turns on.
    Unexpected(ExitReason),
    /// A number that the SDM does not define.
    Unknown(u16),
}

/// Bit 31 of the exit reason: the VM entry failed.
const ENTRY_FAILURE: u32 = 1 << 31;

impl Exit {
    /// Decodes the exit-reason field `raw`.
    #[inline(always)]
    pub fn decode(raw: u32, fields: &impl ExitFields) -> Self {
        use ExitReason as R;
        // The frequent ones first: the rest is a search.
        if raw == R::Cpuid as u32 {
            return Self::Cpuid;
        } else if raw == R::Wrmsr as u32 {
            return Self::Wrmsr;
        } else if raw == R::Rdmsr as u32 {
            return Self::Rdmsr;
        } else if raw == R::Io as u32 {
            return Self::Io(IoAccess::decode(fields.qualification()));
        } else if raw == R::EptViolation as u32 {
            return Self::EptViolation(EptViolation::decode(fields.qualification(), fields.guest_physical()));
        }
        let Some(reason) = R::from_number(raw as u16) else { return Self::Unknown(raw as u16) };
        if raw & ENTRY_FAILURE != 0 {
            return Self::EntryFailure { reason, qualification: fields.qualification() };
        }
        match reason {
            R::Io => Self::Io(IoAccess::decode(fields.qualification())),
            R::Rdmsr => Self::Rdmsr,
            R::Wrmsr => Self::Wrmsr,
            R::EptViolation => {
                Self::EptViolation(EptViolation::decode(fields.qualification(), fields.guest_physical()))
            }
            R::ExternalInterrupt => Self::ExternalInterrupt,
            R::PreemptionTimer => Self::PreemptionTimer,
            R::InterruptWindow => Self::InterruptWindow,
            R::Hlt => Self::Hlt,
            R::PmlFull => Self::PmlFull,
            R::ExceptionOrNmi => match Event::decode(
                fields.interruption_info(),
                fields.interruption_error_code(),
                fields.instruction_length(),
            ) {
                Some(event) => Self::Exception(event),
                None => Self::Unexpected(reason),
            },
            R::TripleFault => Self::TripleFault,
            R::Init => Self::Init,
            R::Sipi => Self::Sipi(fields.qualification() as u8),
            R::IoSmi | R::OtherSmi => Self::Smi,
            R::NmiWindow => Self::NmiWindow,
            R::TaskSwitch => Self::TaskSwitch(TaskSwitch::decode(fields.qualification())),
            R::Cpuid => Self::Cpuid,
            R::Invd | R::Wbinvd => Self::CacheFlush,
            R::Invlpg => Self::Invlpg(fields.qualification()),
            R::Rdpmc => Self::Rdpmc,
            R::Rdtsc | R::Rdtscp => Self::Rdtsc,
            R::Vmcall => Self::Vmcall,
            R::CrAccess => Self::Cr(CrAccess::decode(fields.qualification())),
            R::DrAccess => Self::Dr(DrAccess::decode(fields.qualification())),
            R::Pause => Self::Pause,
            R::GdtrIdtr | R::LdtrTr => Self::DescriptorTable,
            R::EptMisconfiguration => Self::EptMisconfiguration(fields.guest_physical()),
            R::Xsetbv => Self::Xsetbv,
            R::InvalidGuestState | R::MsrLoading | R::EntryMachineCheck => {
                Self::EntryFailure { reason, qualification: fields.qualification() }
            }
            R::Getsec
            | R::Rsm
            | R::Vmclear
            | R::Vmlaunch
            | R::Vmptrld
            | R::Vmptrst
            | R::Vmread
            | R::Vmresume
            | R::Vmwrite
            | R::Vmxoff
            | R::Vmxon
            | R::Invept
            | R::Invvpid
            | R::Vmfunc
            | R::Mwait
            | R::Monitor
            | R::Rdrand
            | R::Rdseed
            | R::Invpcid
            | R::Xsaves
            | R::Xrstors
            | R::Encls
            | R::Enclv
            | R::Pconfig
            | R::Umwait
            | R::Tpause
            | R::Loadiwkey
            | R::EnqcmdPasid
            | R::EnqcmdsPasid
            | R::Seamcall
            | R::Tdcall
            | R::RdmsrList
            | R::WrmsrList => Self::Undefined(reason),
            R::TprBelowThreshold => Self::TprBelowThreshold,
            R::ApicAccess => Self::ApicAccess(ApicAccess::decode(fields.qualification())),
            R::VirtualizedEoi => Self::VirtualizedEoi(fields.qualification() as u8),
            R::ApicWrite => Self::ApicWrite(fields.qualification() as u16 & 0xfff),
            R::MonitorTrapFlag | R::Spp | R::BusLock | R::InstructionTimeout => Self::Unexpected(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fields(u64);

    impl ExitFields for Fields {
        fn qualification(&self) -> u64 {
            self.0
        }
        fn guest_physical(&self) -> u64 {
            0x1234_5000
        }
        fn interruption_info(&self) -> u32 {
            0x8000_0b0d
        }
        fn interruption_error_code(&self) -> u32 {
            8
        }
        fn instruction_length(&self) -> u32 {
            2
        }
    }

    #[test]
    fn every_number_decodes() {
        for number in 0..=0xffff_u32 {
            let exit = Exit::decode(number, &Fields(0));
            assert_eq!(
                matches!(exit, Exit::Unknown(_)),
                ExitReason::from_number(number as u16).is_none(),
                "{number}"
            );
        }
    }

    #[test]
    fn payloads_come_from_their_fields() {
        assert_eq!(
            Exit::decode(0, &Fields(0)),
            Exit::Exception(Event { length: 2, ..Event::exception(13, Some(8)) })
        );
        let Exit::EptViolation(violation) = Exit::decode(48, &Fields(2)) else { panic!("EPT violation") };
        assert_eq!((violation.gpa, violation.write()), (0x1234_5000, true));
        let failed = Exit::decode(ENTRY_FAILURE | 33, &Fields(4));
        assert_eq!(failed, Exit::EntryFailure { reason: ExitReason::InvalidGuestState, qualification: 4 });
    }
}
