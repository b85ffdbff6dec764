//! The run loop: the one place that enters the guest, advances RIP and injects.

mod slice;
#[cfg(test)]
mod tests;

use alloc::string::ToString;
use core::sync::atomic::Ordering;
use devices::InitSipi;
use migrate::ownership::StateCell;
use vmx_types::event::Event;
use vmx_types::exit::Exit;
use vmx_types::field;
use vmx_types::flow::{Flow, Take};
use vmx_types::paging::CR0_PE;

use crate::exit::{self, Next};
use crate::guest::mailbox::Request;
use crate::guest::{Guest, StopReason};
use crate::vcpu::{Activity, Leaves, Vcpu, VmxVcpu};
use hw::arch::tsc;
use hw::vmx;
use hw::vmx::vmcs::Current;
use slice::Slice;

/// Why the run loop gave the CPU back.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Its time is over, or the host wants the CPU.
    Yield,
    /// It has woken another vCPU of this CPU.
    GivesWay,
    /// It spins: most likely for one of its VM's that does not run.
    Spins,
    /// Waits for an interrupt; the earliest comes at this host TSC.
    Halted(u64),
    /// Stopped on request, and taken off the CPU.
    Paused,
    /// The VM is over.
    Stopped(StopReason),
}

/// An interrupt, and who acknowledges it.
#[derive(Clone, Copy)]
struct Interrupt {
    vector: u8,
    from_pic: bool,
}

/// What became of a vCPU that was looked at.
enum Attended {
    /// It can be entered.
    Runs,
    /// It is halted, or waits for a start-up IPI, and nothing wakes it.
    Waits,
    /// INIT or a start-up IPI has come.
    Signalled,
}

/// Exits in a row after which the clock is looked at and the end of the turn set anew. The preemption timer stands still
/// while the host runs, so that a device may have its turn late by the host's part of so many exits.
const UNMETERED: u32 = 16;

impl VmxVcpu {
    /// Runs the guest until host TSC `until` at the latest, or until `state` does not let it.
    pub(crate) fn run(&mut self, vm: &Guest, state: &StateCell, until: u64) -> Outcome {
        let timed = vm.mailboxes[self.vcpu.index as usize].exits.is_timed();
        loop {
            let outcome = if timed || self.vcpu.is_checked() {
                self.turn::<true>(vm, state, until, timed)
            } else {
                self.turn::<false>(vm, state, until, false)
            };
            if let Some(outcome) = outcome {
                return outcome;
            }
            if let Err(reason) = self.take_init_sipi(vm) {
                return Outcome::Stopped(reason);
            }
        }
    }

    /// Does what INIT and start-up IPIs that have come for the vCPU ask for (SDM vol. 3, 9.4.4). It is off the CPU then.
    ///
    /// # Errors
    /// The end of the VM: its bootstrap CPU has got INIT, from which it would go on in firmware. A guest has none, and what
    /// firmware would do is start the machine again. Or the host cannot run what starts.
    pub(crate) fn take_init_sipi(&mut self, vm: &Guest) -> Result<(), StopReason> {
        let InitSipi { init, sipi } = self.vcpu.apic.take_init_sipi();
        if init && self.vcpu.index == 0 {
            return Err(StopReason::Reset);
        }
        // One that runs ignores a start-up IPI, and pays nothing for it.
        if !init && self.vcpu.activity != Activity::WaitForSipi {
            return Ok(());
        }
        let mut state = self.export(vm);
        if init {
            state.init(self.vcpu.signature());
        }
        if let Some(vector) = sipi {
            state.start_up(vector);
        }
        self.import(vm, &state).map_err(|error| StopReason::Error(error.to_string()))
    }

    /// With `WATCHED`, what each exit takes is measured, where it is `timed`, and entries are checked, where that was
    /// asked for: a loop of its own, so that the other one pays nothing for it. Each is a function of its own as well:
    /// what the scheduler keeps in registers has none here. `None`: INIT or a start-up IPI has come.
    #[inline(never)]
    fn turn<const WATCHED: bool>(
        &mut self,
        vm: &Guest,
        state: &StateCell,
        until: u64,
        timed: bool,
    ) -> Option<Outcome> {
        let (vcpu, mut loaded) = self.make_current(vm);
        vcpu.context.touched();
        let mailbox = &*vm.mailboxes[vcpu.index as usize];
        let timed = WATCHED && timed;
        let mut slice = Slice::new();
        let mut unmetered = 0;
        loop {
            let vmcs = loaded.current();
            if mailbox.requests.load(Ordering::Acquire) != 0 && !vcpu.serve_requests(vm, state, vmcs) {
                self.release(vm);
                return Some(Outcome::Paused);
            }
            if vcpu.attention || unmetered == 0 {
                let now = tsc::read();
                if now >= until {
                    return Some(Outcome::Yield);
                }
                if let Some(leaves) = vcpu.leaves.take() {
                    return Some(match leaves {
                        Leaves::GivesWay => Outcome::GivesWay,
                        Leaves::Spins => Outcome::Spins,
                    });
                }
                if vcpu.attention || now >= vcpu.deadline {
                    match vcpu.attend(vm, vmcs) {
                        Attended::Runs => {}
                        Attended::Waits => return Some(Outcome::Halted(vcpu.deadline)),
                        Attended::Signalled => return None,
                    }
                }
                slice.set(vmcs, now, vcpu.deadline.min(until));
                unmetered = UNMETERED;
            }
            unmetered -= 1;
            if WATCHED && let Err(reason) = vcpu.check_entry(vmcs) {
                return Some(Outcome::Stopped(reason));
            }
            let entered = loaded.enter(&mut vcpu.context);
            let vmcs = loaded.current();
            if entered.is_err() {
                return Some(vcpu.entry_failed(vm, vmcs));
            }
            if WATCHED {
                vcpu.note_exit(vmcs);
            }
            let began = if timed { tsc::read() } else { 0 };
            let reason = vmcs.read(field::EXIT_REASON);
            mailbox.exits.count(reason);
            let next = exit::handle(vcpu, vm, vmcs, Exit::decode(reason, &vmcs));
            if timed {
                mailbox.exits.took(reason, tsc::read() - began);
            }
            match next {
                Next::Advance => advance(vmcs, u64::from(vmcs.read(field::EXIT_INSTRUCTION_LENGTH))),
                Next::AdvanceBy(0) => iterated(vmcs),
                Next::AdvanceBy(length) => advance(vmcs, length),
                Next::Resume => vcpu.requeue_event(vmcs),
                Next::Delivered => vcpu.attention = true,
                Next::Inject(event) => {
                    if !vcpu.raise(vmcs, event.unpack()) {
                        return Some(Outcome::Stopped(StopReason::TripleFault));
                    }
                }
                Next::Halt => {
                    advance(vmcs, u64::from(vmcs.read(field::EXIT_INSTRUCTION_LENGTH)));
                    if !vmcs.flow().debug_is_due() {
                        vcpu.activity = Activity::Halted;
                    }
                    vcpu.attention = true;
                }
                Next::Yield => {
                    vcpu.requeue_event(vmcs);
                    return Some(Outcome::Yield);
                }
                Next::Stop(reason) => return Some(Outcome::Stopped(*reason)),
            }
        }
    }
}

impl Vcpu {
    /// An event that an exit or its handler raised goes in at the next entry. False for a triple fault.
    #[inline(never)]
    fn raise(&mut self, vmcs: Current<'_>, event: Option<Event>) -> bool {
        let Some(event) = event else { return true };
        let combined = vmcs.interrupted_event().map_or(Some(event), |first| first.then(event));
        if let Some(event) = combined {
            vmcs.set_flow(vmcs.flow().raise(event));
        }
        self.event = combined;
        self.attention = true;
        combined.is_some()
    }

    /// Looks at everything that the short way of an exit leaves alone: timers, interrupts, an event on its way.
    fn attend(&mut self, vm: &Guest, vmcs: Current<'_>) -> Attended {
        self.attention = false;
        self.context.touched();
        self.service_devices(vm, vmcs);
        if self.apic.has_init_sipi() {
            self.attention = true;
            return Attended::Signalled;
        }
        if self.activity != Activity::Running {
            if self.event.is_none() {
                self.attention = true;
                return Attended::Waits;
            }
            self.activity = Activity::Running;
        }
        if let Some(event) = self.event.take() {
            inject(vmcs, event.in_mode(self.regs.cr0 & CR0_PE != 0));
        }
        Attended::Runs
    }

    /// An exit in the middle of an event's delivery: the event is delivered again (SDM 27.2.4).
    #[inline(always)]
    fn requeue_event(&mut self, vmcs: Current<'_>) {
        if vmcs.was_interrupted() {
            self.requeue_interrupted(vmcs);
        }
    }

    #[cold]
    #[inline(never)]
    fn requeue_interrupted(&mut self, vmcs: Current<'_>) {
        if let Some(event) = vmcs.interrupted_event() {
            vmcs.set_flow(vmcs.flow().before(event));
            self.event = Some(event);
            self.attention = true;
        }
    }

    /// Does what other CPUs ask for. False where the VM may not run any more: the vCPU is to be taken off this CPU.
    #[cold]
    fn serve_requests(&mut self, vm: &Guest, state: &StateCell, vmcs: Current<'_>) -> bool {
        self.context.touched();
        let mailbox = &*vm.mailboxes[self.index as usize];
        let requests = mailbox.requests.fetch_and(Request::WAITED_FOR, Ordering::AcqRel);
        if requests & Request::Interrupt as u32 != 0 {
            self.attention = true;
        }
        if requests & Request::Clock as u32 != 0 {
            self.next_event = 0; // its host TSC is another one now
            self.write_tsc_offset(vm, vmcs);
            self.attention = true;
        }
        if requests & Request::DrainPml as u32 != 0 {
            self.drain_pml(vm, vmcs);
        }
        if requests & Request::Devices as u32 != 0 {
            self.attention = true;
            self.serve_devices(vm);
        }
        // An old request means nothing to a VM that runs again.
        if requests & Request::Pause as u32 != 0 && !state.get().may_run() {
            self.attention = true;
            return false;
        }
        mailbox.requests.fetch_and(!(requests & Request::WAITED_FOR), Ordering::Release);
        true
    }

    /// Lets the devices catch up with the time line and takes the next event from them.
    fn service_devices(&mut self, vm: &Guest, vmcs: Current<'_>) {
        let now = vm.clock.now();
        if self.index == 0 && now.tsc >= vm.apics.deadline() {
            let ((), kicks) = vm.on_board(|platform| platform.advance(now));
            self.kick_others(vm, kicks);
        }
        self.apic.catch_up(now);
        let next = self.next_deadline(vm);
        if next != self.next_event {
            self.next_event = next;
            self.deadline = if next == u64::MAX { u64::MAX } else { vm.clock.host_tsc(next) };
        }
        self.nmi_pending |= self.apic.take_nmi();
        self.follow_apic_mode(vm, vmcs);
        // Nothing but a start-up IPI ends that wait; an NMI comes after it.
        if self.activity == Activity::WaitForSipi {
            return;
        }
        let flow = vmcs.flow();
        let on_its_way = self.event.is_some();
        let mut waits = self.interrupt(vm);
        match flow.take(on_its_way, self.nmi_pending, waits.is_some()) {
            Take::Nothing => {}
            Take::Nmi => {
                self.nmi_pending = false;
                self.event = Some(Event::NMI);
            }
            Take::Interrupt => {
                if let Some(interrupt) = waits {
                    waits = self.accept(vm, interrupt);
                    self.event = Some(Event::interrupt(interrupt.vector));
                }
            }
        }
        self.tell_cpu_of_apic(vmcs, &flow);
        let waits = waits.is_some();
        let windows = flow.windows(self.event.is_some(), self.nmi_pending, waits);
        self.attention |= self.nmi_pending && flow.nmi_waits_for_step();
        let mut proc = self.proc;
        proc.set_windows(windows.interrupt, windows.nmi);
        if proc != self.proc {
            self.proc = proc;
            vmcs.set_proc(proc);
        }
    }

    /// The interrupt that the guest should take now, if it can: that of the PIC, or that of the local APIC, where the CPU does
    /// not deliver that itself.
    #[inline(always)]
    fn interrupt(&self, vm: &Guest) -> Option<Interrupt> {
        if vm.apics.intr()
            && let Some(vector) = self.ext_int(vm)
        {
            return Some(Interrupt { vector, from_pic: true });
        }
        let own = if self.delivers_itself() { None } else { self.apic.pending() };
        own.map(|vector| Interrupt { vector, from_pic: false })
    }

    #[inline(never)]
    fn ext_int(&self, vm: &Guest) -> Option<u8> {
        vm.platform.lock().ext_int(&self.apic)
    }

    /// The guest takes it. What it could take then: that of a local APIC was its highest and masks the rest, and the PIC's
    /// would have come first.
    #[inline(always)]
    fn accept(&mut self, vm: &Guest, interrupt: Interrupt) -> Option<Interrupt> {
        if interrupt.from_pic {
            return self.accept_ext_int(vm);
        }
        self.apic.accept(interrupt.vector);
        None
    }

    #[inline(never)]
    fn accept_ext_int(&mut self, vm: &Guest) -> Option<Interrupt> {
        let ((), kicks) = vm.on_board(devices::Platform::accept_ext_int);
        self.kick_others(vm, kicks);
        self.interrupt(vm)
    }

    #[cold]
    fn entry_failed(&mut self, vm: &Guest, vmcs: Current<'_>) -> Outcome {
        let error = vmcs.read(field::INSTRUCTION_ERROR);
        vmx::dump(&vm.name.get());
        Outcome::Stopped(StopReason::Error(alloc::format!("VM entry failed, VM-instruction error {error}")))
    }
}

/// Moves RIP behind the instruction that exited, with what an executed instruction does besides.
#[inline(always)]
fn advance(vmcs: Current<'_>, length: u64) {
    let rip = vmcs.read(field::GUEST_RIP);
    vmcs.write(field::GUEST_RIP, rip.wrapping_add(length));
    if !Flow::is_plain(vmcs.read(field::GUEST_RFLAGS), vmcs.read(field::GUEST_INTERRUPTIBILITY)) {
        executed(vmcs);
    }
}

#[cold]
#[inline(never)]
fn executed(vmcs: Current<'_>) {
    vmcs.set_flow(vmcs.flow().executed());
}

#[inline(never)]
fn iterated(vmcs: Current<'_>) {
    vmcs.set_flow(vmcs.flow().iterated());
}

fn inject(vmcs: Current<'_>, event: Event) {
    if let Some(error) = event.error_code {
        vmcs.write(field::ENTRY_EXCEPTION_ERROR_CODE, error);
    }
    if event.needs_length() {
        vmcs.write(field::ENTRY_INSTRUCTION_LENGTH, u32::from(event.length));
    }
    vmcs.write(field::ENTRY_INTERRUPTION_INFO, event.info());
}
