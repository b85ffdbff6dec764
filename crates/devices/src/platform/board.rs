//! The members of the board: a device is added by one line, to [`board`] or to [`FUNCTIONS`]. Everything else about it is in
//! its own file.

use crate::chipset::Chipset;
use crate::config::PlatformConfig;
use crate::device::{Device, Touched};
use crate::effect::Effect;
use crate::ioapic::IoApic;
use crate::pci::{HostBridge, IsaBridge, PowerManagement, Socket, VirtioPci};
use crate::pic::Pic;
use crate::pit::Pit;
use crate::pm::Pm;
use crate::ports::PortMap;
use crate::rtc::Rtc;
use crate::state::find;
use crate::uart::Uart;
use alloc::vec::Vec;
use virtio::Rng;
use vm_types::{Now, StateError, StateRecord};

/// Makes the board of its members, with everything that is asked of each of them in turn. Calls are resolved when it is
/// compiled: an access is two loads and a jump away from its device.
macro_rules! board {
    ($($name:ident: $Device:ty,)*) => {
        pub(crate) struct Board {
            $(pub(crate) $name: $Device,)*
        }

        /// The numbers that [`PORTS`] knows the members by.
        #[allow(non_camel_case_types)]
        enum Member {
            _Free,
            $($name,)*
        }

        static PORTS: PortMap = PortMap::new(&[$(<$Device as Device>::PORTS,)*]);

        impl Board {
            /// The kinds of the records, in their order.
            pub(crate) const KINDS: &[&str] = &[$(<$Device as Device>::KIND,)*];

            pub(crate) fn new(config: &PlatformConfig) -> Self {
                Self { $($name: <$Device as Device>::build(config),)* }
            }

            /// IN. `None` where no member takes an access of this size at `port`.
            #[inline(always)]
            pub(crate) fn input(&mut self, port: u16, size: u8, now: Now) -> Option<(u32, Touched)> {
                match PORTS.of(port) {
                    $(member if member == Member::$name as u8 => <$Device as Device>::takes(port, size)
                        .then(|| <$Device as Device>::input(&mut self.$name, port, size, now)),)*
                    _ => None,
                }
            }

            /// OUT. `None` where no member takes an access of this size at `port`.
            #[inline(always)]
            pub(crate) fn output(
                &mut self,
                port: u16,
                size: u8,
                value: u32,
                now: Now,
            ) -> Option<(Option<Effect>, Touched)> {
                match PORTS.of(port) {
                    $(member if member == Member::$name as u8 => <$Device as Device>::takes(port, size)
                        .then(|| <$Device as Device>::output(&mut self.$name, port, size, value, now)),)*
                    _ => None,
                }
            }

            /// A load from `page`. `None` where no member has it.
            #[inline(always)]
            pub(crate) fn load(&mut self, page: u64, offset: u64) -> Option<u64> {
                $(if <$Device as Device>::PAGE == Some(page) {
                    return Some(<$Device as Device>::load(&mut self.$name, offset));
                })*
                None
            }

            /// A store to `page`. `None` where no member has it.
            #[inline(always)]
            pub(crate) fn store(&mut self, page: u64, offset: u64, value: u64) -> Option<Touched> {
                $(if <$Device as Device>::PAGE == Some(page) {
                    return Some(<$Device as Device>::store(&mut self.$name, offset, value));
                })*
                None
            }

            /// The levels of all lines, one bit an ISA interrupt.
            #[inline(always)]
            pub(crate) fn lines(&self) -> u16 {
                0 $(| u16::from(<$Device as Device>::line(&self.$name)) << <$Device as Device>::IRQ.unwrap_or(0))*
            }

            /// The earliest deadline.
            #[inline(always)]
            pub(crate) fn deadline(&self) -> u64 {
                u64::MAX $(.min(<$Device as Device>::deadline(&self.$name)))*
            }

            /// Brings every timer up to `now`: the lines that were pulsed.
            pub(crate) fn run(&mut self, now: Now) -> u16 {
                0 $(| u16::from(<$Device as Device>::run(&mut self.$name, now))
                    << <$Device as Device>::IRQ.unwrap_or(0))*
            }

            pub(crate) fn export(&self, records: &mut Vec<StateRecord>) {
                $(records.push(<$Device as Device>::export(&self.$name));)*
            }

            /// # Errors
            /// The device whose record is missing or cannot be; and why.
            pub(crate) fn import(records: &[StateRecord], config: &PlatformConfig) -> Result<Self, StateError> {
                Ok(Self {
                    $($name: <$Device as Device>::import(find(records, <$Device as Device>::KIND, 0)?, config)?,)*
                })
            }
        }
    };
}

board! {
    uart: Uart,
    pic: Pic,
    pit: Pit,
    rtc: Rtc,
    pm: Pm,
    chipset: Chipset,
    ioapic: IoApic,
}

/// What is on the PCI bus of a machine that has one, or can be.
pub const FUNCTIONS: &[Socket] = &[
    Socket::of::<HostBridge>(0, 0),
    Socket::of::<IsaBridge>(1, 0),
    Socket::of::<PowerManagement>(1, 3),
    Socket::of::<VirtioPci<Rng>>(2, 0).where_there(|config| config.rng),
];
