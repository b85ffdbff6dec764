//! What ends a guest's run when its time is over: the VMX-preemption timer (SDM 25.5.1), or the local APIC's timer, whose
//! interrupt makes an exit whatever the guest's RFLAGS.IF says (SDM 25.2, "external-interrupt exiting").
//!
//! The first is cheaper to set and ends the run of one guest alone. It is broken on some CPUs, and not every hypervisor
//! lends it; the second is there on every CPU.

use core::fmt;

use crate::capability::Caps;
use crate::control::{ExitControls, PinBased};

/// What ends a guest's run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SliceTimer {
    /// The VMX-preemption timer.
    Preemption,
    /// The local APIC's timer, set for one interrupt.
    ApicOneShot,
}

/// CPUID.1:EAX of the CPUs whose preemption timer has an erratum: all Nehalem Xeons, some of Westmere, one Xeon E3-1220 v2
/// (the list of Linux' KVM, `vmx_preemption_cpu_tfms`).
pub const BROKEN: [u32; 9] =
    [0x106a0, 0x106a1, 0x106a4, 0x106a5, 0x106e5, 0x206e6, 0x20652, 0x20655, 0x306a8];

/// Stepping, model, family, type; the rest of CPUID.1:EAX is reserved.
const SIGNATURE: u32 = 0x0fff_3fff;

/// What speaks against the preemption timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// The CPU, or a hypervisor below, has none, or one that cannot be saved.
    NotLent,
    /// The CPU is one of [`BROKEN`].
    Broken,
}

/// The timer that was chosen, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// The timer.
    pub timer: SliceTimer,
    /// The command line asked for it.
    pub asked: bool,
    /// What speaks against the preemption timer, whether or not it was chosen.
    pub flaw: Option<Flaw>,
    /// CPUID.1:EAX without its reserved bits.
    pub signature: u32,
}

/// The command line asked for the preemption timer, and there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotLent;

impl Choice {
    /// Chooses for a CPU with these capabilities and this CPUID.1:EAX: the preemption timer, unless something speaks against
    /// it, or what was asked for.
    ///
    /// # Errors
    /// [`NotLent`] where what was asked for is not there.
    pub fn new(caps: &Caps, signature: u32, asked: Option<SliceTimer>) -> Result<Self, NotLent> {
        let signature = signature & SIGNATURE;
        let flaw = flaw(caps, signature);
        let timer = match (asked, flaw) {
            (Some(SliceTimer::Preemption), Some(Flaw::NotLent)) => return Err(NotLent),
            (Some(asked), _) => asked,
            (None, None) => SliceTimer::Preemption,
            (None, Some(_)) => SliceTimer::ApicOneShot,
        };
        Ok(Self { timer, asked: asked.is_some(), flaw, signature })
    }

    /// The APIC's timer, where no preemption timer is lent.
    #[must_use]
    pub const fn apic(signature: u32) -> Self {
        let (timer, flaw) = (SliceTimer::ApicOneShot, Some(Flaw::NotLent));
        Self { timer, asked: false, flaw, signature: signature & SIGNATURE }
    }

    /// Says whether the CPU is on the list of errata, and names the list.
    #[must_use]
    pub const fn errata(&self) -> Errata {
        Errata(self.signature)
    }
}

fn flaw(caps: &Caps, signature: u32) -> Option<Flaw> {
    let lent = caps.pin.has(PinBased::PREEMPTION_TIMER.bits())
        && caps.exit.has(ExitControls::SAVE_PREEMPTION_TIMER.bits());
    match lent {
        false => Some(Flaw::NotLent),
        true if BROKEN.contains(&signature) => Some(Flaw::Broken),
        true => None,
    }
}

impl fmt::Display for SliceTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preemption => "the preemption timer",
            Self::ApicOneShot => "the APIC's one-shot timer",
        })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.timer)?;
        if self.asked {
            f.write_str(", as slice-timer= says")?;
        }
        match self.flaw {
            None => Ok(()),
            Some(Flaw::NotLent) => f.write_str("; no preemption timer is lent to this host"),
            Some(Flaw::Broken) => write!(f, "; the preemption timer of CPU {:x} is broken", self.signature),
        }
    }
}

/// Prints whether the CPU with this signature is on the list of errata, and the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errata(u32);

impl fmt::Display for Errata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is = if BROKEN.contains(&self.0) { "is" } else { "is not" };
        write!(f, "CPU {:x} {is} one of", self.0)?;
        BROKEN.iter().try_for_each(|signature| write!(f, " {signature:x}"))?;
        f.write_str(", whose preemption timer is broken")
    }
}

impl fmt::Display for NotLent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "slice-timer=preemption: no preemption timer is lent to this host; {} is used",
            SliceTimer::ApicOneShot
        )
    }
}

impl core::error::Error for NotLent {}
