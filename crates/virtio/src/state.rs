//! The state of a device as it travels.

use crate::device::Device;
use crate::queue::{NO_VECTOR, QueueState};
use crate::registers::{ISR, Registers, STATUS, Virtio};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use minicbor::{Decode, Encode};
use virtio_spec::DeviceStatus;
use vm_types::decode_strict;

#[derive(Encode, Decode)]
struct State {
    #[n(0)]
    registers: Registers,
    #[n(1)]
    queues: Vec<QueueState>,
    /// The device's own.
    #[cbor(n(2), with = "minicbor::bytes")]
    device: Vec<u8>,
}

impl<D: Device> Virtio<D> {
    /// The state of the device.
    #[must_use]
    pub fn export(&self) -> Vec<u8> {
        let queues = self.queues.iter().map(|queue| queue.state().clone()).collect();
        let state = State { registers: self.registers, queues, device: self.device.export() };
        // Writing into a Vec cannot fail.
        minicbor::to_vec(&state).unwrap_or_default()
    }

    /// Takes over the state that another host sent, which may be anything. [`Virtio::service`] is wanted then: it looks at
    /// every queue and raises every interrupt once, since a kick or an interrupt of before may be lost.
    ///
    /// # Errors
    /// The field and value that it cannot have; the device is not to be used then.
    pub fn import(&mut self, state: &[u8]) -> Result<(), String> {
        let State { registers, queues, device } = decode_strict(state)?;
        let wrong = |field: &str, value: u64| Err(format!("{field} = {value:#x} is out of range"));
        if registers.status & !STATUS != 0 {
            return wrong("status", registers.status.into());
        }
        if registers.isr & !ISR != 0 {
            return wrong("interrupt status", registers.isr.into());
        }
        let negotiated = registers.status & DeviceStatus::FEATURES_OK.bits() != 0;
        if negotiated && !self.accepts(registers.driver_features) {
            return Err(format!(
                "features {:#x} were negotiated, {:#x} are offered here",
                registers.driver_features,
                self.features()
            ));
        }
        if queues.len() != self.queues.len() {
            return wrong("queues", queues.len() as u64);
        }
        let vectors = queues.iter().map(|queue| queue.vector).chain([registers.config_vector]);
        for vector in vectors.filter(|vector| *vector != NO_VECTOR) {
            if vector >= Self::VECTORS {
                return wrong("vector", vector.into());
            }
        }
        self.device.import(&device)?;
        for (index, (queue, came)) in self.queues.iter_mut().zip(queues).enumerate() {
            let in_flight = self.device.in_flight(index as u16);
            queue.import(came, in_flight).map_err(|why| format!("queue {index}: {why}"))?;
        }
        self.registers = registers;
        self.look_at_all();
        self.came = true;
        Ok(())
    }
}
