//! The board: every device, the wires between them, and the one face that the hypervisor binds.

mod io;
mod irq;
mod mmio;
mod state;
#[cfg(test)]
mod tests;

pub use mmio::{DeviceId, owns_msr};

use crate::chipset::Chipset;
use crate::ioapic::IoApic;
use crate::lapic::{Features, Lapic};
use crate::pic::Pic;
use crate::pit::Pit;
use crate::pm::Pm;
use crate::rtc::Rtc;
use crate::uart::Uart;
use alloc::vec::Vec;
use vm_types::Now;

/// The most vCPUs of a machine: one bit each in a [`VcpuSet`].
pub const MAX_VCPUS: u16 = 64;

/// What a machine is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlatformConfig {
    /// 1 to [`MAX_VCPUS`]; values outside are brought to the nearest. The APIC ID of a vCPU is its index.
    pub vcpus: u16,
    /// A write to port 0xF4 is [`Effect::DebugExit`].
    pub debug_exit: bool,
    /// The wall clock at guest TSC 0, in seconds since 1970 UTC.
    pub rtc_base_unix_secs: u64,
    /// Bytes of RAM below 4 GiB.
    pub low_ram: u64,
    /// Bytes of RAM above 4 GiB.
    pub high_ram: u64,
    /// CPUID.01H:ECX.x2APIC: IA32_APIC_BASE.EXTD can be set.
    pub x2apic: bool,
    /// CPUID.01H:ECX.TSC_Deadline: the APIC timer has that mode.
    pub tsc_deadline: bool,
}

/// A set of vCPUs, bit n for index n.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct VcpuSet(pub u64);

impl VcpuSet {
    /// Whether `vcpu` is in it.
    #[must_use]
    pub fn contains(self, vcpu: usize) -> bool {
        vcpu < 64 && self.0 >> vcpu & 1 != 0
    }
}

/// What an access asks of the hypervisor, after its own effect on the devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// ACPI S5.
    PowerOff,
    /// The reset line: port 0xCF9, 0x92 or the keyboard controller.
    Reset,
    /// The value written to port 0xF4.
    DebugExit(u8),
    /// The UART's output queue is full: drain it before the guest runs on, or the next byte is lost.
    UartFull,
    /// INIT IPI. The local APICs are reset already; the vCPUs must wait for SIPI.
    Init(VcpuSet),
    /// Start-up IPI: vCPUs that wait for it start at `vector` * 4096 in real mode.
    StartUp {
        /// The vCPUs addressed.
        targets: VcpuSet,
        /// The page number of the entry point.
        vector: u8,
    },
}

/// The devices of one machine.
///
/// Time enters as `now` and must not run backwards. Accesses bring every timer up to `now` themselves.
pub struct Platform {
    config: PlatformConfig,
    pub(crate) uart: Uart,
    pub(crate) pic: Pic,
    pub(crate) pit: Pit,
    pub(crate) rtc: Rtc,
    pub(crate) pm: Pm,
    pub(crate) chipset: Chipset,
    pub(crate) ioapic: IoApic,
    pub(crate) lapics: Vec<Lapic>,
    /// Levels of the ISA interrupt lines as last told to the PIC and the IO-APIC.
    lines: u16,
    /// The PIC's INTR as last looked at.
    intr: bool,
    /// vCPUs whose pending interrupt may have changed.
    dirty: VcpuSet,
    /// The earliest deadline of all timers in guest TSC.
    next: u64,
}

impl Platform {
    /// The machine as firmware would hand it to an operating system, at guest TSC 0.
    #[must_use]
    pub fn new(config: &PlatformConfig) -> Self {
        let config = PlatformConfig { vcpus: config.vcpus.clamp(1, MAX_VCPUS), ..*config };
        let features = config.features();
        Self {
            config,
            uart: Uart::new(),
            pic: Pic::new(),
            pit: Pit::new(),
            rtc: Rtc::new(config.rtc_base_unix_secs, config.low_ram, config.high_ram),
            pm: Pm::new(),
            chipset: Chipset::new(),
            ioapic: IoApic::new(crate::acpi::ioapic_id(config.vcpus)),
            lapics: (0..u32::from(config.vcpus)).map(|id| Lapic::new(id, features)).collect(),
            lines: 0,
            intr: false,
            dirty: VcpuSet(0),
            next: u64::MAX,
        }
    }

    /// What it was made of.
    #[must_use]
    pub const fn config(&self) -> &PlatformConfig {
        &self.config
    }

    /// Brings every timer up to `now`. Cheap when nothing is due.
    #[inline]
    pub fn advance(&mut self, now: Now) {
        if now.tsc >= self.next {
            self.run_timers(now);
        }
    }

    /// The guest TSC at which some interrupt line may change next by time alone.
    #[must_use]
    pub fn next_event(&self) -> Option<u64> {
        (self.next != u64::MAX).then_some(self.next)
    }

    fn run_timers(&mut self, now: Now) {
        if self.pit.run(now) {
            self.pulse_timer_irq();
        }
        self.rtc.run(now);
        self.pm.run(now);
        self.uart.run(now);
        for vcpu in 0..self.lapics.len() {
            if self.lapics[vcpu].run_timer(now) {
                self.mark(vcpu);
            }
        }
        self.settle();
    }

    /// After a device changed: carries its line on and finds the next deadline.
    fn settle(&mut self) {
        self.update_lines();
        self.update_next();
    }

    fn update_next(&mut self) {
        let board =
            self.pit.deadline().min(self.rtc.deadline()).min(self.pm.deadline()).min(self.uart.deadline());
        self.next = self.lapics.iter().fold(board, |next, lapic| next.min(lapic.timer_deadline()));
    }

    /// Moves guest output of COM1 into `buf`; the count is what was moved.
    pub fn uart_output(&mut self, buf: &mut [u8]) -> usize {
        if self.uart.output_len() == 0 {
            return 0;
        }
        let n = self.uart.pop_output(buf);
        self.update_lines();
        n
    }

    /// Bytes of guest output that wait for [`Platform::uart_output`].
    #[must_use]
    pub fn uart_output_len(&self) -> usize {
        self.uart.output_len()
    }

    /// Whether the guest may write to COM1: THRE. Where that comes back with [`Platform::uart_output`], an interrupt may
    /// be due.
    #[must_use]
    pub fn uart_takes_output(&self) -> bool {
        self.uart.can_send()
    }

    /// Bytes that the guest has written to COM1 although it took none, since the last call.
    pub fn uart_dropped(&mut self) -> u64 {
        self.uart.take_dropped()
    }

    /// Types `bytes` at COM1; the count is what was accepted, the rest should be offered again later.
    pub fn uart_input(&mut self, bytes: &[u8], now: Now) -> usize {
        self.advance(now);
        let n = self.uart.push_input(bytes, now);
        self.settle();
        n
    }

    /// Presses the power button: an ACPI guest shuts itself down.
    pub fn press_power_button(&mut self) {
        self.pm.press_power_button();
        self.update_lines();
    }
}

impl PlatformConfig {
    fn features(&self) -> Features {
        Features { x2apic: self.x2apic, tsc_deadline: self.tsc_deadline }
    }
}
