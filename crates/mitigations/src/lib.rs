//! Which speculative-execution flaws a CPU has, what a hypervisor owes for each at VM entry, VM exit and a change
//! of VM, and whether what a guest is told about them is true on that CPU.
//!
//! A [`Cpu`] is what CPUID and a few MSRs say. [`Assessment`] judges it, flaw by flaw: by the bits that tell of
//! immunity, else by its model; what neither says counts as vulnerable. [`Plan`] is the sum: what the entry and exit
//! code does. [`claims`] holds what a guest would conclude against what is so.
//!
//! Sources: SDM 4 table 2-2 (IA32_SPEC_CTRL, IA32_PRED_CMD, IA32_ARCH_CAPABILITIES, IA32_MCU_OPT_CTRL) and Intel's
//! guidance on transient execution (the table of affected processors, and the paper on each flaw).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod assess;
mod cpu;
mod flaw;
mod guest;
mod history;
mod measure;
mod model;
mod plan;
mod report;

pub use assess::{Assessment, Finding, State, innate_capabilities};
pub use cpu::{Cpu, Smt, spec_ctrl_bits};
pub use flaw::{Flaw, FlawSet};
pub use guest::{Claim, Verdict, claims};
pub use history::History;
pub use measure::Measure;
pub use model::{Model, model};
pub use plan::Plan;
pub use report::{guest_json, guest_text, host_json, host_text};
