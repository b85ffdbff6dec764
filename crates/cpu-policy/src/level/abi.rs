//! The levels that distributions, compilers and Proxmox speak of: those of the x86-64 psABI ("Micro-Architecture Levels").
//!
//! Each has what the psABI names, and of what it does not name only what every CPU with 64-bit mode has and what the
//! hypervisor provides by itself. So a host that carries the programs of such a level can give it, whatever else it lacks.

use super::user_space::{V2, V3, V4};
use super::{Level, cache};
use crate::feature::Feature;
use Feature::*;

/// It also announces the losses that a later host may have: x87 pointers of newer CPUs, the return stack of Skylake.
#[rustfmt::skip]
const FIRST: &[Feature] = &[
    Fpu, Vme, De, Pse, Tsc, Msr, Pae, Mce, Cx8, Apic, Sep, Mtrr, Pge, Mca, Cmov, Pat, Pse36, Clfsh, Mmx,
    Fxsr, Sse, Sse2, Ss, X2apic, Hypervisor, Arat, ArchCapabilities, Syscall, Nx, Lm,
    FdpExcptnOnly, ZeroFcsFds, Rsba,
];

/// What no generation's guest has: debug store, power and heat, virtualisation itself.
#[rustfmt::skip]
const NEVER: &[Feature] = &[
    Ds, Acpi, Tm, Pbe, Dtes64, Monitor, DsCpl, Vmx, Eist, Tm2, Xtpr, Pdcm, Dca, MwaitExtensions,
    MwaitInterrupts, Dtherm, AperfMperf,
];

pub(super) static X86_64_V1: Level = Level::first("x86-64-v1", 0x0000_06f6, cache::MEROM)
    .stands_for("any CPU with 64-bit mode")
    .adds(FIRST)
    .hides(NEVER);

pub(super) static X86_64_V2: Level = Level::on(&X86_64_V1, "x86-64-v2", 0x0001_06a5)
    .stands_for("nehalem and later")
    .max_leaf(0xb)
    .phys_bits(40)
    .adds(V2)
    .caches(cache::NEHALEM);

/// Proxmox' default type: no level of the psABI.
pub(super) static X86_64_V2_AES: Level = Level::on(&X86_64_V2, "x86-64-v2-aes", 0x0002_06c2)
    .stands_for("westmere and later; the default of Proxmox")
    .adds(&[Aesni]);

pub(super) static X86_64_V3: Level = Level::on(&X86_64_V2, "x86-64-v3", 0x0003_06f2)
    .stands_for("haswell and later; no AES-NI, which the psABI does not name")
    .max_leaf(0xd)
    .adds(V3)
    .caches(cache::SANDYBRIDGE);

pub(super) static X86_64_V4: Level = Level::on(&X86_64_V3, "x86-64-v4", 0x0005_0654)
    .stands_for("skylake-server and later, where there is AVX-512")
    .max_leaf(0x16)
    .adds(V4)
    .caches(cache::SKYLAKE);
