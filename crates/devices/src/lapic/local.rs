//! The local APIC as its vCPU has it: its registers, and its mailbox on the bus.

use super::{ApicBus, Features, GpFault, InitSipi, LAPIC_BASE, Lapic};
use crate::config::PlatformConfig;
use crate::effect::VcpuSet;
use crate::lapic::access::Action;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use vm_types::{ApicPage, Gpa, Now, PAGE_SIZE, PostedInterrupts, StateError, StateRecord};
use x86::msr::{APIC_BASE as IA32_APIC_BASE, TSC_DEADLINE as IA32_TSC_DEADLINE};

const X2APIC_FIRST: u32 = 0x800;
const X2APIC_LAST: u32 = 0x83F;

/// The local APIC of one vCPU. No access to it needs the board.
#[derive(Clone)]
pub struct LocalApic {
    regs: Lapic,
    bus: ApicBus,
    posted: Arc<PostedInterrupts>,
    /// What its vCPU has not taken of what others have sent.
    init_sipi: InitSipi,
    /// What [`LocalApic::changed_tpr_threshold`] found last.
    tpr_threshold: Option<u8>,
}

/// What a write to a local APIC asks for besides.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sent {
    /// vCPUs for which a message was left: those to be kicked.
    pub kicks: VcpuSet,
    /// The end of this level-triggered interrupt, for [`crate::Platform::eoi`].
    pub eoi: Option<u8>,
}

impl LocalApic {
    /// That of vCPU `id`, as firmware would hand it to an operating system. What was left for it before is dropped. Its
    /// registers are on the same page each time.
    #[must_use]
    pub fn new(id: u16, config: &PlatformConfig, bus: &ApicBus) -> Self {
        Self::with(Lapic::on(bus.page(id), id.into(), Features::of(config)), bus)
    }

    /// The same with the state of `record`, on a page that is nobody's: for [`LocalApic::become_like`].
    ///
    /// # Errors
    /// [`StateError`] where it cannot be that of such a machine.
    pub(crate) fn import(
        record: &StateRecord,
        config: &PlatformConfig,
        bus: &ApicBus,
    ) -> Result<Self, StateError> {
        Lapic::import(record, Features::of(config)).map(|regs| Self::with(regs, bus))
    }

    fn with(regs: Lapic, bus: &ApicBus) -> Self {
        bus.forget(regs.id);
        let (posted, init_sipi) =
            (bus.posted().of(regs.id as usize).cloned().unwrap_or_default(), InitSipi::default());
        let apic = Self { regs, bus: bus.clone(), posted, init_sipi, tpr_threshold: None };
        apic.publish();
        apic
    }

    /// Becomes what `other` is, a machine's that was reset or has come. Its page stays where it is.
    pub fn become_like(&mut self, other: &Self) {
        self.regs.become_like(&other.regs);
        self.init_sipi = other.init_sipi;
        self.forget_told();
    }

    /// Its registers, where a CPU that virtualises them finds them.
    #[must_use]
    pub fn page(&self) -> &Arc<ApicPage> {
        self.regs.page()
    }

    fn publish(&self) {
        self.bus.publish(self.regs.id, self.regs.address());
    }

    /// Takes what others have left for it, and lets its timer expire where that is due.
    #[inline]
    pub fn catch_up(&mut self, now: Now) {
        self.collect();
        self.regs.run_timer(now);
    }

    #[inline]
    pub(crate) fn collect(&mut self) {
        if self.posted.has_mail() {
            self.collect_mail();
        }
    }

    /// Not inlined: looks that find nothing are many, and pay for the registers that this takes.
    #[inline(never)]
    fn collect_mail(&mut self) {
        if self.posted.others.load(Ordering::Acquire) == 0 {
            self.regs.take_posted(&self.posted);
            return;
        }
        let InitSipi { init, sipi } = self.bus.empty(self.regs.id, &mut self.regs);
        if init {
            self.init_sipi = InitSipi { init, sipi: None };
            self.publish();
        }
        self.init_sipi.sipi = self.init_sipi.sipi.or(sipi);
    }

    /// Whether INIT or a start-up IPI waits for its vCPU.
    #[inline]
    #[must_use]
    pub fn has_init_sipi(&self) -> bool {
        self.init_sipi != InitSipi::default()
    }

    /// INIT and start-up IPI that have come, which the vCPU has taken then. Call [`LocalApic::catch_up`] first.
    pub fn take_init_sipi(&mut self) -> InitSipi {
        core::mem::take(&mut self.init_sipi)
    }

    /// The guest TSC at which its timer may interrupt next; `u64::MAX` for never.
    #[inline]
    #[must_use]
    pub fn deadline(&self) -> u64 {
        self.regs.timer_deadline()
    }

    /// The vector that the vCPU should take now, if it can. That of the PIC comes first: [`crate::Platform::ext_int`].
    #[inline]
    #[must_use]
    pub fn pending(&self) -> Option<u8> {
        self.regs.pending()
    }

    /// The vCPU takes the vector that [`LocalApic::pending`] named: IRR to ISR.
    #[inline]
    pub fn accept(&mut self, vector: u8) {
        self.regs.accept(vector);
    }

    /// Whether an NMI waits.
    #[must_use]
    pub fn nmi(&self) -> bool {
        self.regs.nmi()
    }

    /// Whether an NMI waits, which the vCPU has taken then.
    #[inline]
    pub fn take_nmi(&mut self) -> bool {
        let nmi = self.regs.nmi();
        if nmi {
            self.regs.set_nmi(false);
        }
        nmi
    }

    /// Whether the PIC's INTR reaches the vCPU through it, or a message `matches` it.
    pub(crate) fn takes_ext_int(&self, message: Option<&super::Message>) -> bool {
        self.regs.passes_ext_int() || message.is_some_and(|message| self.regs.matches(message))
    }

    /// Whether an access to this address is one to its registers. Where it does not answer, the access goes nowhere.
    #[inline]
    #[must_use]
    pub const fn is_at(gpa: Gpa) -> bool {
        gpa.0 & !(PAGE_SIZE - 1) == LAPIC_BASE
    }

    /// A load of `size` bytes from its page.
    pub fn mmio_read(&mut self, gpa: Gpa, size: u8, now: Now) -> u64 {
        self.catch_up(now);
        let ones = u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)));
        if !self.regs.answers() {
            return ones;
        }
        self.regs.mmio_read(gpa.0 & (PAGE_SIZE - 1), size, now) & ones
    }

    /// A store of the low `size` bytes of `value` to its page.
    pub fn mmio_write(&mut self, gpa: Gpa, size: u8, value: u64, now: Now) -> Sent {
        self.catch_up(now);
        if !self.regs.answers() {
            return Sent::default();
        }
        let action = self.regs.mmio_write(gpa.0 & (PAGE_SIZE - 1), size, value, now);
        self.act(action)
    }

    /// RDMSR of IA32_APIC_BASE, IA32_TSC_DEADLINE or an MSR of the x2APIC.
    ///
    /// # Errors
    /// [`GpFault`] where the processor would raise #GP(0).
    pub fn msr_read(&mut self, msr: u32, now: Now) -> Result<u64, GpFault> {
        self.catch_up(now);
        match msr {
            IA32_APIC_BASE => Ok(self.regs.base()),
            IA32_TSC_DEADLINE if self.regs.features.tsc_deadline => Ok(self.regs.tsc_deadline()),
            X2APIC_FIRST..=X2APIC_LAST => self.regs.msr_read((msr - X2APIC_FIRST) as u8, now),
            _ => Err(GpFault),
        }
    }

    /// WRMSR of one of them.
    ///
    /// # Errors
    /// [`GpFault`] where the processor would raise #GP(0); nothing is changed then.
    pub fn msr_write(&mut self, msr: u32, value: u64, now: Now) -> Result<Sent, GpFault> {
        self.catch_up(now);
        let action = match msr {
            IA32_APIC_BASE => {
                self.regs.write_base(value)?;
                Action::None
            }
            IA32_TSC_DEADLINE if self.regs.features.tsc_deadline => {
                self.regs.write_tsc_deadline(value, now);
                Action::None
            }
            X2APIC_FIRST..=X2APIC_LAST => self.regs.msr_write((msr - X2APIC_FIRST) as u8, value, now)?,
            _ => return Err(GpFault),
        };
        // A deadline that lies in the past fires at once.
        self.regs.run_timer(now);
        Ok(self.act(action))
    }

    /// Carries out what a register write asks for.
    fn act(&mut self, action: Action) -> Sent {
        let mut sent = Sent::default();
        match action {
            Action::None => self.publish(),
            Action::Eoi(vector) => sent.eoi = Some(vector),
            Action::SelfIpi(vector) => self.self_ipi(vector),
            Action::Ipi(icr) => {
                match self.bus.send(self.regs.id, self.regs.x2apic(), icr) {
                    Some(kicks) => sent.kicks = kicks,
                    None => _ = self.regs.send_illegal(),
                }
                self.collect();
            }
        }
        sent
    }

    /// A CPU with APIC-register virtualization has carried out a write to `offset` of the page, and says so by a VM exit
    /// (SDM 29.4.3.3): what follows from it.
    pub fn written(&mut self, offset: u16, now: Now) -> Sent {
        self.catch_up(now);
        let action = self.regs.written(offset.into(), now);
        self.regs.run_timer(now);
        self.act(action)
    }

    /// EOI, by the register that this mode has it in: the vector that [`crate::Platform::eoi`] is told of.
    #[inline(always)]
    pub fn eoi(&mut self) -> Option<u8> {
        self.regs.end_of_interrupt()
    }

    /// An interrupt that its vCPU sends to itself, by the register that x2APIC mode has for it (SDM vol. 3, 11.12.11).
    #[inline]
    pub fn self_ipi(&mut self, vector: u8) {
        self.regs.request(vector, false);
    }

    /// Whether there is a request, which may be taken or not.
    #[inline(always)]
    #[must_use]
    pub fn has_request(&self) -> bool {
        self.regs.has_request()
    }

    /// Whether its registers are MSRs.
    #[inline]
    #[must_use]
    pub fn x2apic(&self) -> bool {
        self.regs.x2apic()
    }

    /// Whether its registers are memory.
    #[inline]
    #[must_use]
    pub fn xapic(&self) -> bool {
        self.regs.answers()
    }

    /// The highest request and the interrupt in service, 0 for none: RVI and SVI of a CPU with virtual-interrupt delivery
    /// (SDM 24.4.2).
    #[must_use]
    pub fn interrupt_status(&self) -> (u8, u8) {
        (self.regs.highest_request().unwrap_or(0), self.regs.in_service().unwrap_or(0))
    }

    /// The class of the highest request where TPR masks it, else 0: what a fall of TPR below it has the vCPU look at again
    /// (SDM 29.1.2). Where that has changed since this was asked last.
    pub fn changed_tpr_threshold(&mut self) -> Option<u8> {
        let class = self.regs.highest_request().unwrap_or(0) >> 4;
        let threshold = if class <= self.cr8() { class } else { 0 };
        (self.tpr_threshold.replace(threshold) != Some(threshold)).then_some(threshold)
    }

    /// Nobody knows what this has answered: the next questions for a change are answered as the first ones.
    pub fn forget_told(&mut self) {
        self.tpr_threshold = None;
        self.regs.forget_told();
    }

    /// TMR, where it has changed since this was asked last: level-triggered vectors, whose end the IO-APIC is told of.
    pub fn changed_levels(&mut self) -> Option<[u32; 8]> {
        self.regs.changed_levels()
    }

    /// IA32_APIC_BASE.
    #[inline]
    #[must_use]
    pub fn base(&self) -> u64 {
        self.regs.base()
    }

    /// The task-priority class, as CR8 reads.
    #[must_use]
    pub fn cr8(&self) -> u8 {
        self.regs.tpr() >> 4
    }

    /// A write of the guest to CR8: 0 to 15.
    pub fn set_cr8(&mut self, class: u8) {
        self.regs.set_tpr((class & 0xF) << 4);
    }

    /// The guest wrote its TSC or IA32_TSC_ADJUST: `adjust` is what the TSC of the vCPU shows beyond the VM's time line
    /// now. The timer goes by that TSC.
    pub fn set_tsc_adjust(&mut self, adjust: u64, now: Now) {
        self.catch_up(now);
        self.regs.set_tsc_adjust(adjust, now);
        self.regs.run_timer(now);
    }

    /// After an import: the same, of the state that was loaded.
    pub fn load_tsc_adjust(&mut self, adjust: u64) {
        self.regs.load_tsc_adjust(adjust);
    }

    /// Its state. Call [`LocalApic::catch_up`] first, so that nothing waits for it, and [`LocalApic::take_init_sipi`]: those
    /// are its vCPU's.
    #[must_use]
    pub fn export(&self) -> StateRecord {
        self.regs.export()
    }
}
