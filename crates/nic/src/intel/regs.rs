//! Register offsets and bits, named as in the "PCI/PCI-X Family of Gigabit Ethernet Controllers Software
//! Developer's Manual" (Intel 317453), section 13, the 82576 datasheet (section 8) and the 82599 datasheet (section 8).
#![allow(missing_docs)]

pub const CTRL: u32 = 0x0000;
pub const STATUS: u32 = 0x0008;
pub const EERD: u32 = 0x0014;
pub const FCAL: u32 = 0x0028;
pub const FCAH: u32 = 0x002c;
pub const FCT: u32 = 0x0030;
pub const ICR: u32 = 0x00c0;
pub const IMC: u32 = 0x00d8;
pub const RCTL: u32 = 0x0100;
pub const FCTTV: u32 = 0x0170;
pub const TCTL: u32 = 0x0400;
pub const TIPG: u32 = 0x0410;
pub const CTRL_EXT: u32 = 0x0018;
/// Packet buffer sizes of the I210, and what they are after power-on.
pub const RXPBS: u32 = 0x2404;
pub const RXPBS_I210: u32 = 0x0000_00a2;
pub const TXPBS: u32 = 0x3404;
pub const TXPBS_I210: u32 = 0x0400_0014;

/// First register of receive queue 0, by family.
pub const RX_E1000: u32 = 0x2800;
pub const RX_IGB: u32 = 0xc000;
pub const RX_IXGBE: u32 = 0x1000;
/// First register of transmit queue 0, by family.
pub const TX_E1000: u32 = 0x3800;
pub const TX_IGB: u32 = 0xe000;
pub const TX_IXGBE: u32 = 0x6000;
/// Registers of a queue, from its first one on; the same in every family.
pub const QUEUE_BAL: u32 = 0x00;
pub const QUEUE_BAH: u32 = 0x04;
pub const QUEUE_LEN: u32 = 0x08;
pub const QUEUE_H: u32 = 0x10;
pub const QUEUE_T: u32 = 0x18;
pub const QUEUE_DCTL: u32 = 0x28;
/// igb and ixgbe: the queue runs.
pub const DCTL_ENABLE: u32 = 1 << 25;
pub const RDTR: u32 = 0x2820;
/// SRRCTL of igb and ixgbe: legacy descriptors, buffers of 2 KiB, nothing split.
pub const SRRCTL_IGB: u32 = 0xc00c;
pub const SRRCTL_IXGBE: u32 = 0x2100;
pub const SRRCTL_LEGACY_2K: u32 = 2;
/// igb: a second mask of interrupts.
pub const EIMC_IGB: u32 = 0x1528;
/// Multicast table array, 128 words.
pub const MTA: u32 = 0x5200;
pub const MTA_WORDS: u32 = 128;
/// The same in chipsets.
pub const MTA_WORDS_PCH: u32 = 32;
/// Receive address pairs RAL/RAH.
pub const RAL0: u32 = 0x5400;
pub const RAH0: u32 = 0x5404;
pub const RA_PAIRS: u32 = 16;

pub const CTRL_FD: u32 = 1 << 0;
pub const CTRL_ASDE: u32 = 1 << 5;
pub const CTRL_SLU: u32 = 1 << 6;
/// The speed that is forced: 1 Gbit/s is 10b.
pub const CTRL_SPEED: u32 = 3 << 8;
pub const CTRL_SPEED_1000: u32 = 2 << 8;
pub const CTRL_FRCSPD: u32 = 1 << 11;
pub const CTRL_FRCDPX: u32 = 1 << 12;
/// Bits that must be clear in normal operation: link reset, inverted loss of signal, forced speed and duplex,
/// flow control, VLAN stripping, PHY reset.
pub const CTRL_CLEAR: u32 = 1 << 3 | 1 << 7 | 1 << 11 | 1 << 12 | 1 << 27 | 1 << 28 | 1 << 30 | 1 << 31;
pub const CTRL_GIO_MASTER_DISABLE: u32 = 1 << 2;
/// ixgbe: the link is reset with the card.
pub const CTRL_LRST: u32 = 1 << 3;
pub const CTRL_RST: u32 = 1 << 26;

pub const STATUS_LU: u32 = 1 << 1;
pub const STATUS_SPEED_SHIFT: u32 = 6;
/// PCI Express parts: requests of the card may be outstanding.
pub const STATUS_MASTER_ENABLED: u32 = 1 << 19;

/// The manageability firmware leaves the card to the driver.
pub const CTRL_EXT_DRV_LOAD: u32 = 1 << 28;

pub const RCTL_EN: u32 = 1 << 1;
pub const RCTL_UPE: u32 = 1 << 3;
pub const RCTL_MPE: u32 = 1 << 4;
/// What is sent comes back inside the MAC.
pub const RCTL_LBM_MAC: u32 = 1 << 6;
pub const RCTL_BAM: u32 = 1 << 15;
/// The FCS is stripped. Buffers of 2048 bytes are the zero value of BSIZE/BSEX.
pub const RCTL_SECRC: u32 = 1 << 26;

pub const TCTL_EN: u32 = 1 << 1;
pub const TCTL_PSP: u32 = 1 << 3;
/// Collision threshold 15 and full-duplex collision distance 64.
pub const TCTL_COLLISION: u32 = 0x0f << 4 | 0x40 << 12;
/// IPGT 10, IPGR1 8, IPGR2 6: IEEE 802.3 inter-packet gap on copper.
pub const TIPG_COPPER: u32 = 10 | 8 << 10 | 6 << 20;
/// Descriptor granularity and the bit that PCI Express parts of the e1000e family want set.
pub const TXDCTL_E1000E: u32 = 1 << 22 | 1 << 24;

pub const RAH_AV: u32 = 1 << 31;

pub const TXD_CMD_EOP: u8 = 1 << 0;
pub const TXD_CMD_IFCS: u8 = 1 << 1;
pub const TXD_CMD_RS: u8 = 1 << 3;
pub const TXD_STAT_DD: u8 = 1 << 0;

pub const RXD_STAT_DD: u8 = 1 << 0;
pub const RXD_STAT_EOP: u8 = 1 << 1;
/// CE, SE, SEQ, CXE and RXE: the frame is damaged (checksum bits TCPE and IPE are not among them).
pub const RXD_ERRORS: u8 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 4 | 1 << 7;

pub const IXGBE_EIMC: u32 = 0x0888;
pub const IXGBE_RDRXCTL: u32 = 0x2f00;
pub const IXGBE_RXCTRL: u32 = 0x3000;
pub const IXGBE_HLREG0: u32 = 0x4240;
pub const IXGBE_LINKS: u32 = 0x42a4;
pub const IXGBE_DMATXCTL: u32 = 0x4a80;
pub const IXGBE_FCTRL: u32 = 0x5080;
pub const IXGBE_DCA_RXCTRL: u32 = 0x2200;
pub const IXGBE_RAL0: u32 = 0xa200;
pub const IXGBE_RAH0: u32 = 0xa204;

/// The received FCS is stripped; HLREG0 must say the same.
pub const RDRXCTL_CRC_STRIP: u32 = 1 << 1;
/// DMA is ready after a reset.
pub const RDRXCTL_DMA_READY: u32 = 1 << 3;
/// Coalescing of received segments.
pub const RDRXCTL_RSC: u32 = 0x1f << 17;
pub const RXCTRL_RXEN: u32 = 1 << 0;
/// FCS made, FCS stripped, short frames padded.
pub const HLREG0_FRAMES: u32 = 1 << 0 | 1 << 1 | 1 << 10;
/// Frames of more than 1518 bytes, and loopback.
pub const HLREG0_CLEAR: u32 = 1 << 2 | 1 << 15;
pub const DMATXCTL_TE: u32 = 1 << 0;
pub const FCTRL_MPE: u32 = 1 << 8;
pub const FCTRL_UPE: u32 = 1 << 9;
pub const FCTRL_BAM: u32 = 1 << 10;
/// Must be clear: with it, legacy descriptors hold garbage.
pub const DCA_RXCTRL_CLEAR: u32 = 1 << 12;
pub const LINKS_UP: u32 = 1 << 30;
pub const LINKS_SPEED_SHIFT: u32 = 28;
/// X550: the speed is 2.5 in place of 10 Gbit/s, 5 Gbit/s in place of 100 Mbit/s.
pub const LINKS_ODD_SPEED: u32 = 1 << 27;
