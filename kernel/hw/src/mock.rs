//! A machine made up, in place of the real one, for the host's tests of the kernel's logic.
//!
//! The instructions of `arch/insn.rs` and `vmx/insn.rs` act on it. Everything above them is the code that runs on real
//! machines: memory is handed out from a piece of this process, a VMCS is a table of fields, VM entry runs what a test says
//! that the guest does and comes back with the exit that it names. One thread plays all CPUs in turn: [`Machine::on`].
//!
//! There is one machine in a process, as there is one below the kernel: a test holds it for as long as it runs.

extern crate std;

mod dump;
mod posted;
pub(crate) mod state;

use alloc::string::String;
use alloc::vec::Vec;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bootinfo::{BootInfo, Region, RegionKind, Via};

use crate::arch::cpu::PerCpu;
use crate::arch::stack::Stacks;
use crate::arch::tsc;
use crate::mm::frame;
use crate::platform::apic;

pub use state::{Action, Flush, Guest, Ipi};
use state::{Cpu, STATE, State, switch_to, with};

/// Bytes of RAM.
pub const RAM: u64 = 64 << 20;
/// Ticks of the TSC in a second.
pub const TSC_HZ: u64 = 1_000_000_000;

/// Held by the test that has the machine.
static TURN: Mutex<()> = Mutex::new(());

/// The machine, for as long as a test has it.
pub struct Machine {
    _turn: MutexGuard<'static, ()>,
}

impl core::fmt::Debug for Machine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Machine")
    }
}

impl Machine {
    /// The machine, once no other test has it: RAM, and `cpus` CPUs of the kind that `dump` tells (`flexctl` writes such).
    /// The first test of a process makes them, and decides both. CPU 0 runs.
    ///
    /// # Panics
    /// For a dump that is none.
    pub fn take(cpus: usize, dump: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = state.as_mut() {
            state.written.clear();
            state.ipis.clear();
            state.flushes.clear();
            state.script.clear();
            state.injected.clear();
            switch_to(0);
            state.slow = 0;
            return Self { _turn: turn };
        }
        let (cpuid, msrs) = dump::parse(dump);
        let cpu = || Cpu { msrs: msrs.clone(), xstate: alloc::vec![0; 4096], ..Cpu::default() };
        *state = Some(State { cpuid, cpus: (0..cpus).map(|_| cpu()).collect(), ..State::default() });
        drop(state);
        tsc::set_hz(TSC_HZ);
        frame::init(&BootInfo {
            via: Via::Multiboot1,
            loader: String::new(),
            command_line: String::new(),
            memory: Vec::from([ram()]),
            modules: Vec::new(),
            rsdp: None,
        });
        let machine = Self { _turn: turn };
        for index in 0..cpus {
            machine.on(index, || {
                let cpu = PerCpu::create(index as u32, Stacks::at(0));
                cpu.take_over();
                cpu.set_online();
            });
        }
        apic::init(false);
        machine.ipis();
        machine
    }

    /// Runs `job` on the CPU with that index.
    pub fn on<R>(&self, index: usize, job: impl FnOnce() -> R) -> R {
        let before = switch_to(index);
        let result = job();
        switch_to(before);
        result
    }

    /// Lets time go on, in ticks of the TSC.
    pub fn pass(&self, ticks: u64) {
        with(|state| state.tsc += ticks);
    }

    /// Each look at the TSC takes that many ticks more, so that time is over after few of them.
    pub fn slow(&self, ticks: u64) {
        with(|state| state.slow = ticks);
    }

    /// What guests do at their next entries, in this order. Without, a guest runs until its time is over.
    pub fn guest_does(&self, action: impl FnOnce(&mut Guest<'_>) + Send + 'static) {
        with(|state| state.script.push_back(alloc::boxed::Box::new(action)));
    }

    /// How many of these it has not done.
    pub fn left_to_do(&self) -> usize {
        with(|state| state.script.len())
    }

    /// Interrupts that CPUs have sent since the last call.
    pub fn ipis(&self) -> Vec<Ipi> {
        with(|state| core::mem::take(&mut state.ipis))
    }

    /// Flushes since the last call.
    pub fn flushes(&self) -> Vec<Flush> {
        with(|state| core::mem::take(&mut state.flushes))
    }

    /// Events that entries have injected since the last call: the interruption-information field (SDM 24.8.3).
    pub fn injected(&self) -> Vec<u32> {
        with(|state| core::mem::take(&mut state.injected))
    }

    /// What was written to ports since the last call.
    pub fn written_to_ports(&self) -> Vec<(u16, u32)> {
        with(|state| core::mem::take(&mut state.written))
    }

    /// A model-specific register of the CPU with that index.
    pub fn msr(&self, cpu: usize, msr: u32) -> Option<u64> {
        with(|state| state.cpus[cpu].msrs.get(&msr).copied())
    }

    /// Sets a model-specific register of the CPU with that index.
    pub fn set_msr(&self, cpu: usize, msr: u32, value: u64) {
        with(|state| state.cpus[cpu].msrs.insert(msr, value));
    }

    /// Takes a model-specific register from the CPU with that index.
    pub fn take_msr(&self, cpu: usize, msr: u32) {
        with(|state| state.cpus[cpu].msrs.remove(&msr));
    }

    /// What guests were to do is forgotten.
    pub fn guest_does_nothing_more(&self) {
        with(|state| state.script.clear());
    }

    /// What a port of the machine reads from now on; none: ones, as where nothing is.
    pub fn set_port(&self, port: u16, value: Option<u32>) {
        with(|state| match value {
            Some(value) => state.ports.insert(port, value),
            None => state.ports.remove(&port),
        });
    }

    /// A control, debug or extended control register of the CPU with that index, by its lower-case name.
    pub fn register(&self, cpu: usize, name: &str) -> u64 {
        with(|state| state.cpus[cpu].registers.get(name).copied().unwrap_or(0))
    }

    /// FPU and vector registers of the CPU with that index, as XSAVE stores them.
    pub fn xstate(&self, cpu: usize) -> Vec<u8> {
        with(|state| state.cpus[cpu].xstate.clone())
    }

    /// Runs `job` as if the TSC counted at that rate: what waits a second takes fewer looks at it.
    pub fn at_rate<R>(&self, hz: u64, job: impl FnOnce() -> R) -> R {
        tsc::set_hz(hz);
        let result = job();
        tsc::set_hz(TSC_HZ);
        result
    }

    /// Sets bytes of these.
    pub fn set_xstate(&self, cpu: usize, at: usize, bytes: &[u8]) {
        with(|state| state.cpus[cpu].xstate[at..at + bytes.len()].copy_from_slice(bytes));
    }
}

/// A piece of this process, for good.
fn ram() -> Region {
    const ALIGN: u64 = 2 << 20;
    let bytes: &'static mut [u64] = alloc::vec![0_u64; ((RAM + ALIGN) / 8) as usize].leak();
    let start = (bytes.as_ptr().addr() as u64).next_multiple_of(ALIGN);
    Region { start, end: start + RAM, kind: RegionKind::Usable }
}
