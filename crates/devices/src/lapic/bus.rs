//! How interrupts reach local APICs: each has a mailbox, into which the board and other vCPUs put messages without a lock. The
//! APIC itself is its vCPU's alone, which empties the mailbox when it looks.

#[cfg(test)]
mod tests;

use super::{Delivery, Lapic, Message, processor_priority};
use crate::effect::VcpuSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use vm_types::apic_register::TMR;
use vm_types::{ApicPage, PostedInterrupts, PostedTable, nospec};

/// What the board and the local APICs of a machine share.
#[derive(Clone, Debug)]
pub struct ApicBus(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    mailboxes: Vec<Mailbox>,
    /// Their descriptors, by ID.
    posted: Arc<PostedTable>,
    /// The level of the PIC's INTR.
    intr: AtomicBool,
    /// The guest TSC at which the board wants to be looked at, `u64::MAX` for never.
    deadline: AtomicU64,
}

/// What others see of a local APIC, and what they leave for it.
#[derive(Debug)]
struct Mailbox {
    /// Who it is to messages: [`Address`], as its vCPU last published it.
    address: AtomicU64,
    /// Its registers, which its vCPU has, and the CPU that this runs on: its processor priority is there.
    page: Arc<ApicPage>,
    /// Fixed interrupts that are edge-triggered, as nearly all are; and the other messages: [`NMI`], [`LINT1`], [`INIT`],
    /// [`ILLEGAL`], [`TURNS`], [`SIPI`].
    posted: Arc<PostedInterrupts>,
    /// Those that change the trigger mode of their vector, which no CPU does, and those that come after one: a bit for each.
    turns: [AtomicU32; 8],
    /// Which of them are level-triggered.
    levels: [AtomicU32; 8],
}

const NMI: u32 = 1 << 0;
const LINT1: u32 = 1 << 1;
const INIT: u32 = 1 << 2;
/// A vector below 16.
const ILLEGAL: u32 = 1 << 3;
/// Something is in `turns`.
const TURNS: u32 = 1 << 5;
/// A start-up IPI, its vector in bits 15:8.
const SIPI: u32 = 1 << 4;

/// What others have sent to a vCPU besides interrupts (SDM vol. 3, 9.4.3.3): first the one, then the other.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct InitSipi {
    /// INIT: its registers get their values after INIT, and it waits for a start-up IPI. The local APIC has been reset.
    pub init: bool,
    /// A start-up IPI with this vector: where the vCPU waits for one, it starts at `vector` * 4096 in real mode. It has no
    /// meaning for any other, and the second of two has none.
    pub sipi: Option<u8>,
}

/// What decides whether a message is for an APIC (SDM vol. 3, 11.6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Address {
    pub(super) ldr: u32,
    /// The model: bits 31:28 of DFR.
    pub(super) model: u8,
    pub(super) hw_enabled: bool,
    pub(super) x2apic: bool,
    /// It takes fixed interrupts.
    pub(super) enabled: bool,
}

impl Address {
    fn pack(self) -> u64 {
        u64::from(self.ldr)
            | u64::from(self.model & 0xF) << 32
            | u64::from(self.hw_enabled) << 36
            | u64::from(self.x2apic) << 37
            | u64::from(self.enabled) << 38
    }

    fn unpack(word: u64) -> Self {
        let bit = |n: u32| word >> n & 1 != 0;
        let (hw_enabled, x2apic, enabled) = (bit(36), bit(37), bit(38));
        Self { ldr: word as u32, model: (word >> 32) as u8 & 0xF, hw_enabled, x2apic, enabled }
    }

    /// Whether a message is for the APIC of vCPU `id`.
    pub(super) fn matches(self, id: u32, message: &Message) -> bool {
        let dest = message.dest;
        if !self.hw_enabled {
            return false;
        }
        let broadcast = if self.x2apic && !message.from_io { u32::MAX } else { 0xFF };
        if dest == broadcast || dest == u32::MAX {
            return true;
        }
        if !message.logical {
            return dest == id;
        }
        if self.x2apic {
            return dest >> 16 == self.ldr >> 16 && dest & self.ldr & 0xFFFF != 0;
        }
        let ldr = self.ldr >> 24;
        match self.model {
            0xF => dest & ldr & 0xFF != 0,
            0x0 => dest >> 4 & 0xF == ldr >> 4 && dest & ldr & 0xF != 0,
            _ => false,
        }
    }
}

impl Mailbox {
    fn new(posted: Arc<PostedInterrupts>) -> Self {
        Self {
            address: AtomicU64::new(0),
            page: Arc::default(),
            posted,
            turns: [const { AtomicU32::new(0) }; 8],
            levels: [const { AtomicU32::new(0) }; 8],
        }
    }

    fn address(&self) -> Address {
        Address::unpack(self.address.load(Ordering::Acquire))
    }

    /// Leaves a fixed interrupt there.
    fn request(&self, vector: u8, level: bool) {
        if !self.address().enabled {
            return;
        }
        if vector < 16 {
            self.posted.others.fetch_or(ILLEGAL, Ordering::Release);
            return;
        }
        let (word, bit) = (usize::from(vector >> 5), 1 << (vector & 31));
        if level || self.page.bit(TMR, vector) || self.turns[word].load(Ordering::Relaxed) & bit != 0 {
            self.turn(word, bit, level);
        } else {
            self.posted.post(vector);
        }
    }

    /// Leaves a fixed interrupt there whose vector has, or gets, another trigger mode. The last one decides.
    #[inline(never)]
    fn turn(&self, word: usize, bit: u32, level: bool) {
        if level {
            self.levels[word].fetch_or(bit, Ordering::Relaxed);
        } else {
            self.levels[word].fetch_and(!bit, Ordering::Relaxed);
        }
        self.turns[word].fetch_or(bit, Ordering::Release);
        self.posted.others.fetch_or(TURNS, Ordering::Release);
    }

    /// Hands over what is in `turns`.
    #[inline(never)]
    fn take_turns(&self, apic: &mut Lapic) {
        for (word, turns) in (0_u8..).zip(&self.turns) {
            let mut bits = turns.swap(0, Ordering::AcqRel);
            let levels = self.levels[usize::from(word)].load(Ordering::Relaxed);
            while bits != 0 {
                let bit = bits.trailing_zeros() as u8;
                bits &= bits - 1;
                apic.request(word * 32 + bit, levels >> bit & 1 != 0);
            }
        }
    }

    /// Leaves a start-up IPI there, unless one waits already.
    fn sipi(&self, vector: u8) {
        let first = |others| (others & SIPI == 0).then_some(others | SIPI | u32::from(vector) << 8);
        let _ = self.posted.others.fetch_update(Ordering::AcqRel, Ordering::Acquire, first);
    }
}

impl ApicBus {
    /// That of a machine with so many vCPUs.
    #[must_use]
    pub fn new(vcpus: u16) -> Self {
        let vcpus = vcpus.clamp(1, crate::MAX_VCPUS);
        let posted = PostedTable::new(vcpus);
        let descriptors = (0..usize::from(vcpus)).filter_map(|id| posted.of(id).cloned());
        let mailboxes = descriptors.map(Mailbox::new).collect();
        Self(Arc::new(Shared {
            mailboxes,
            posted,
            intr: AtomicBool::new(false),
            deadline: AtomicU64::new(u64::MAX),
        }))
    }

    /// Whether the PIC asks for an interrupt: [`crate::Platform::ext_int`] says whose it is.
    #[inline]
    #[must_use]
    pub fn intr(&self) -> bool {
        self.0.intr.load(Ordering::Acquire)
    }

    pub(crate) fn set_intr(&self, level: bool) {
        self.0.intr.store(level, Ordering::Release);
    }

    /// The guest TSC at which an interrupt line of the board may change next by time alone; `u64::MAX` for never.
    #[inline]
    #[must_use]
    pub fn deadline(&self) -> u64 {
        self.0.deadline.load(Ordering::Acquire)
    }

    pub(crate) fn set_deadline(&self, tsc: u64) {
        self.0.deadline.store(tsc, Ordering::Release);
    }

    /// All vCPUs of the machine.
    pub(crate) fn all(&self) -> VcpuSet {
        VcpuSet(u64::MAX >> (64 - self.0.mailboxes.len().clamp(1, 64)))
    }

    fn targets(&self, message: &Message) -> VcpuSet {
        // One by its id, as nearly every IPI has it: nobody else is looked at. 255 and above are broadcasts in one mode or the
        // other.
        if !message.logical && message.dest < 0xFF {
            let (id, boxes) = (message.dest, &self.0.mailboxes);
            let there = (id as usize) < boxes.len()
                && boxes[nospec::index(id as usize, boxes.len())].address().matches(id, message);
            return VcpuSet(u64::from(there) << (id & 63));
        }
        let mut set = 0;
        for (id, mailbox) in (0..).zip(&self.0.mailboxes) {
            set |= u64::from(mailbox.address().matches(id, message)) << id;
        }
        VcpuSet(set)
    }

    /// Of those that take interrupts, the first with the lowest processor priority.
    fn lowest_priority(&self, targets: VcpuSet) -> VcpuSet {
        let boxes = self.0.mailboxes.iter().enumerate();
        let able = boxes.filter(|(id, mailbox)| targets.contains(*id) && mailbox.address().enabled);
        let first = able.min_by_key(|(_, mailbox)| processor_priority(&mailbox.page));
        VcpuSet(first.map_or(0, |(id, _)| 1 << id))
    }

    /// A message of a device: whose APIC it was left for.
    pub(crate) fn deliver(&self, message: &Message) -> VcpuSet {
        // Devices do not start or reset processors here.
        match message.delivery {
            Delivery::Init | Delivery::StartUp => VcpuSet(0),
            _ => self.leave(message, self.targets(message)),
        }
    }

    /// Leaves a message for these, and says for whom it was in the end.
    fn leave(&self, message: &Message, targets: VcpuSet) -> VcpuSet {
        let targets = match message.delivery {
            Delivery::LowestPriority => self.lowest_priority(targets),
            _ => targets,
        };
        for mailbox in targets.iter().filter_map(|id| self.0.mailboxes.get(id)) {
            match message.delivery {
                Delivery::Fixed | Delivery::LowestPriority => mailbox.request(message.vector, message.level),
                Delivery::Nmi => _ = mailbox.posted.others.fetch_or(NMI, Ordering::Release),
                // What came before it is for nobody any more.
                Delivery::Init => mailbox.posted.others.store(INIT, Ordering::Release),
                Delivery::StartUp => mailbox.sipi(message.vector),
                // SMI: there is no SMM. ExtINT: the PIC's INTR is looked at by level.
                _ => {}
            }
        }
        targets
    }

    /// Pulses the board's NMI line: LINT1 of every local APIC.
    pub(crate) fn pulse_lint1(&self) -> VcpuSet {
        for mailbox in &self.0.mailboxes {
            mailbox.posted.others.fetch_or(LINT1, Ordering::Release);
        }
        self.all()
    }

    /// Sends the interrupt command register of vCPU `from` (SDM vol. 3, 11.6.1), and says for whom. `None` for a vector that
    /// no APIC can send.
    pub(super) fn send(&self, from: u32, x2apic: bool, icr: u64) -> Option<VcpuSet> {
        let message = Message {
            vector: icr as u8,
            delivery: Delivery::from_bits((icr >> 8) as u8),
            logical: icr & 1 << 11 != 0,
            level: false,
            dest: if x2apic { (icr >> 32) as u32 } else { (icr >> 56) as u32 },
            from_io: !x2apic,
        };
        let (everyone, own) = (self.all().0, 1u64 << (from & 63));
        let targets = match icr >> 18 & 3 {
            0 => self.targets(&message),
            1 => VcpuSet(own),
            2 => VcpuSet(everyone),
            _ => VcpuSet(everyone & !own),
        };
        // INIT level de-assert resets nothing on current processors.
        if message.delivery == Delivery::Init && icr & 1 << 14 == 0 && icr & 1 << 15 != 0 {
            return Some(VcpuSet(0));
        }
        if matches!(message.delivery, Delivery::Fixed | Delivery::LowestPriority) && message.vector < 16 {
            return None;
        }
        Some(self.leave(&message, targets))
    }

    /// Says who the APIC of vCPU `id` is to messages from now on. After nearly every write to a register that is who it was.
    #[inline]
    pub(super) fn publish(&self, id: u32, address: Address) {
        if let Some(mailbox) = self.0.mailboxes.get(id as usize)
            && address.pack() != mailbox.address.load(Ordering::Relaxed)
        {
            self.publish_other(id as usize, address);
        }
    }

    #[cold]
    #[inline(never)]
    fn publish_other(&self, id: usize, address: Address) {
        self.0.mailboxes[id].address.store(address.pack(), Ordering::Release);
        self.0.posted.set_takes(id, address.enabled);
    }

    /// The page for the registers of the APIC of vCPU `id`: the same each time, as a CPU knows it by its address.
    pub(super) fn page(&self, id: u16) -> Arc<ApicPage> {
        self.0.mailboxes.get(usize::from(id)).map(|mailbox| Arc::clone(&mailbox.page)).unwrap_or_default()
    }

    /// Where interrupts are left for the APICs, by their IDs: where a CPU that leaves and takes them by itself finds them.
    #[must_use]
    pub fn posted(&self) -> &Arc<PostedTable> {
        &self.0.posted
    }

    /// Whether all that waits for the APIC of vCPU `id` is what a CPU takes by itself.
    #[must_use]
    pub fn posted_alone(&self, id: usize) -> bool {
        self.0.mailboxes.get(id).is_some_and(|mailbox| mailbox.posted.others.load(Ordering::Acquire) == 0)
    }

    /// Drops what waits for the APIC of vCPU `id`.
    pub(super) fn forget(&self, id: u32) {
        if let Some(mailbox) = self.0.mailboxes.get(id as usize) {
            mailbox.posted.others.store(0, Ordering::Release);
            mailbox.posted.clear();
            mailbox.turns.iter().for_each(|word| word.store(0, Ordering::Release));
        }
    }

    /// Hands over what waits for the APIC of vCPU `id`, but what is its vCPU's.
    pub(super) fn empty(&self, id: u32, apic: &mut Lapic) -> InitSipi {
        let Some(mailbox) = self.0.mailboxes.get(id as usize) else { return InitSipi::default() };
        let others = mailbox.posted.others.swap(0, Ordering::AcqRel);
        if others & INIT != 0 {
            apic.init();
        }
        if others & NMI != 0 {
            apic.set_nmi(true);
        }
        if others & LINT1 != 0 {
            apic.pulse_lint1();
        }
        if others & ILLEGAL != 0 {
            apic.receive_illegal();
        }
        apic.take_posted(&mailbox.posted);
        // INIT has taken the note of those before it: they are dropped, as an APIC after it takes none.
        if others & (TURNS | INIT) != 0 {
            mailbox.take_turns(apic);
        }
        let sipi = (others & SIPI != 0).then_some((others >> 8) as u8);
        InitSipi { init: others & INIT != 0, sipi }
    }
}
