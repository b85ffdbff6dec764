//! The local APIC as a record of architectural registers.

use super::timer::{MAX_TICKS, Timer};
use super::*;
use crate::state::{decode, encode, ensure};
use minicbor::{Decode, Encode};
use vm_types::{StateError, StateRecord};

pub(crate) const KIND: &str = "lapic";
const RECORD_VERSION: u16 = 1;

#[derive(Encode, Decode)]
struct Fields {
    /// APIC ID.
    #[n(0)]
    id: u32,
    /// IA32_APIC_BASE.
    #[n(1)]
    base: u64,
    #[n(2)]
    tpr: u8,
    #[n(3)]
    ldr: u32,
    #[n(4)]
    dfr: u32,
    #[n(5)]
    svr: u32,
    #[n(6)]
    isr: [u32; 8],
    #[n(7)]
    tmr: [u32; 8],
    #[n(8)]
    irr: [u32; 8],
    #[n(9)]
    esr: u32,
    /// Errors not latched into ESR yet.
    #[n(10)]
    errors: u32,
    #[n(11)]
    icr: u64,
    /// Timer, thermal, performance, LINT0, LINT1, error.
    #[n(12)]
    lvt: [u32; 6],
    #[n(13)]
    timer_initial: u32,
    #[n(14)]
    timer_divide: u32,
    /// Bus ticks since guest TSC 0 at which the running count began.
    #[n(15)]
    timer_start: Option<i64>,
    /// IA32_TSC_DEADLINE less IA32_TSC_ADJUST: on the VM's time line.
    #[n(16)]
    tsc_deadline: u64,
    /// An NMI waits for delivery.
    #[n(17)]
    nmi: bool,
}

impl Lapic {
    pub(crate) fn export(&self) -> StateRecord {
        let fields = Fields {
            id: self.id,
            base: self.base,
            tpr: self.tpr(),
            ldr: self.ldr,
            dfr: self.dfr,
            svr: self.svr,
            isr: self.page.bits(ISR),
            tmr: self.page.bits(TMR),
            irr: self.page.bits(IRR),
            esr: self.esr,
            errors: self.errors,
            icr: self.icr(),
            lvt: self.lvt,
            timer_initial: self.timer.initial,
            timer_divide: self.timer.divide,
            timer_start: self.timer.start,
            tsc_deadline: self.deadline_on_time_line(),
            nmi: self.nmi,
        };
        encode(KIND, self.id as u16, RECORD_VERSION, &fields)
    }

    /// The first `run_timer` computes the deadline.
    pub(crate) fn import(record: &StateRecord, features: Features) -> Result<Self, StateError> {
        let f: Fields = decode(record, RECORD_VERSION)?;
        let check = |ok: bool, field: &str, value: u64| ensure(ok, KIND, field, value);
        check(f.id == u32::from(record.instance), "id", f.id.into())?;
        let modes = f.base & (BASE_ENABLE | BASE_EXTD);
        let bsp = if f.id == 0 { BASE_BSP } else { 0 };
        let legal = modes != BASE_EXTD && (modes & BASE_EXTD == 0 || features.x2apic);
        check(legal && f.base == LAPIC_BASE | bsp | modes, "base", f.base)?;
        let mut lapic = Self {
            base: f.base,
            ldr: f.ldr,
            dfr: f.dfr,
            svr: f.svr,
            esr: f.esr,
            errors: f.errors,
            lvt: f.lvt,
            timer: Timer {
                initial: f.timer_initial,
                divide: f.timer_divide,
                start: f.timer_start,
                tsc_deadline: f.tsc_deadline,
                tsc_adjust: 0,
                deadline: 0,
            },
            nmi: f.nmi,
            ..Self::new(f.id, features)
        };
        lapic.set_tpr(f.tpr);
        lapic.set_icr(f.icr);
        for (first, bits) in [(ISR, &f.isr), (TMR, &f.tmr), (IRR, &f.irr)] {
            lapic.page.set_bits(first, bits);
        }
        lapic.show_all();
        let ldr_ok = if lapic.x2apic() { f.ldr == lapic.x2apic_ldr() } else { f.ldr & 0x00FF_FFFF == 0 };
        check(ldr_ok, "ldr", f.ldr.into())?;
        check(f.dfr | 0xF000_0000 == u32::MAX, "dfr", f.dfr.into())?;
        check(f.svr & !0x1FF == 0, "svr", f.svr.into())?;
        for (field, bits) in [("isr", &f.isr), ("tmr", &f.tmr), ("irr", &f.irr)] {
            check(bits[0] & 0xFFFF == 0, field, bits[0].into())?;
        }
        let known = ESR_SEND_ILLEGAL | ESR_RECEIVE_ILLEGAL | ESR_ILLEGAL_REGISTER;
        check((f.esr | f.errors) & !known == 0, "esr", (f.esr | f.errors).into())?;
        for (i, &lvt) in f.lvt.iter().enumerate() {
            check(lvt & !lapic.lvt_mask(i) == 0, "lvt", lvt.into())?;
        }
        check(f.timer_divide & !0xB == 0, "timer_divide", f.timer_divide.into())?;
        let start = f.timer_start.unwrap_or(0);
        check((-MAX_TICKS..=MAX_TICKS).contains(&start), "timer_start", start.cast_unsigned())?;
        Ok(lapic)
    }
}
