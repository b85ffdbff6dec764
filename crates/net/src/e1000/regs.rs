//! Register offsets and bits, named as in the "PCI/PCI-X Family of Gigabit Ethernet Controllers Software
//! Developer's Manual" (Intel 317453), section 13.
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
pub const RDBAL: u32 = 0x2800;
pub const RDBAH: u32 = 0x2804;
pub const RDLEN: u32 = 0x2808;
pub const RDH: u32 = 0x2810;
pub const RDT: u32 = 0x2818;
pub const RDTR: u32 = 0x2820;
pub const TDBAL: u32 = 0x3800;
pub const TDBAH: u32 = 0x3804;
pub const TDLEN: u32 = 0x3808;
pub const TDH: u32 = 0x3810;
pub const TDT: u32 = 0x3818;
pub const TXDCTL: u32 = 0x3828;
/// Multicast table array, 128 words.
pub const MTA: u32 = 0x5200;
pub const MTA_WORDS: u32 = 128;
/// Receive address pairs RAL/RAH.
pub const RAL0: u32 = 0x5400;
pub const RAH0: u32 = 0x5404;
pub const RA_PAIRS: u32 = 16;

pub const CTRL_ASDE: u32 = 1 << 5;
pub const CTRL_SLU: u32 = 1 << 6;
/// Bits that must be clear in normal operation: link reset, inverted loss of signal, forced speed and duplex,
/// flow control, VLAN stripping, PHY reset.
pub const CTRL_CLEAR: u32 = 1 << 3 | 1 << 7 | 1 << 11 | 1 << 12 | 1 << 27 | 1 << 28 | 1 << 30 | 1 << 31;
pub const CTRL_GIO_MASTER_DISABLE: u32 = 1 << 2;
pub const CTRL_RST: u32 = 1 << 26;

pub const STATUS_LU: u32 = 1 << 1;
pub const STATUS_SPEED_SHIFT: u32 = 6;

pub const RCTL_EN: u32 = 1 << 1;
pub const RCTL_UPE: u32 = 1 << 3;
pub const RCTL_MPE: u32 = 1 << 4;
pub const RCTL_BAM: u32 = 1 << 15;
/// The FCS is stripped. Buffers of 2048 bytes are the zero value of BSIZE/BSEX.
pub const RCTL_SECRC: u32 = 1 << 26;

pub const TCTL_EN: u32 = 1 << 1;
pub const TCTL_PSP: u32 = 1 << 3;
/// Collision threshold 15 and full-duplex collision distance 64.
pub const TCTL_COLLISION: u32 = 0x0f << 4 | 0x40 << 12;
/// IPGT 10, IPGR1 8, IPGR2 6: IEEE 802.3 inter-packet gap on copper.
pub const TIPG_COPPER: u32 = 10 | 8 << 10 | 6 << 20;
/// Descriptor granularity and the bit that the 82574 wants set.
pub const TXDCTL_82574: u32 = 1 << 22 | 1 << 24;

pub const RAH_AV: u32 = 1 << 31;

pub const TXD_CMD_EOP: u8 = 1 << 0;
pub const TXD_CMD_IFCS: u8 = 1 << 1;
pub const TXD_CMD_RS: u8 = 1 << 3;
pub const TXD_STAT_DD: u8 = 1 << 0;

pub const RXD_STAT_DD: u8 = 1 << 0;
pub const RXD_STAT_EOP: u8 = 1 << 1;
/// CE, SE, SEQ, CXE and RXE: the frame is damaged (checksum bits TCPE and IPE are not among them).
pub const RXD_ERRORS: u8 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 4 | 1 << 7;
