//! The place that the application was loaded from: files beside it come from there, too.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};
use uefi::boot::{self, OpenProtocolAttributes, OpenProtocolParams, ScopedProtocol};
use uefi::proto::ProtocolPointer;
use uefi::proto::device_path::{DevicePath, DevicePathNodeEnum, LoadedImageDevicePath};
use uefi::proto::loaded_image::LoadedImage;
use uefi::proto::media::file::{File, FileAttribute, FileInfo, FileMode};
use uefi::proto::media::fs::SimpleFileSystem;
use uefi::proto::network::pxe::BaseCode;
use uefi::{CStr8, CString16, Handle, Status};

use crate::http::Network;
use crate::memory::Pages;
use crate::{because, complain, smbios};

/// Where files come from.
pub(crate) struct Source {
    /// The first that has a file gives it.
    places: Vec<Place>,
    mac: Option<String>,
}

struct Place {
    kind: Kind,
    /// Everything of the application's own path or address up to its last `/` or `\`.
    beside: String,
}

enum Kind {
    Disk(ScopedProtocol<SimpleFileSystem>),
    Tftp(ScopedProtocol<BaseCode>, IpAddr),
    Http(Network),
}

/// Finds out where the application came from; and what that is called.
pub(crate) fn open() -> (Source, String) {
    let (mut places, mut names, mut mac) = (Vec::new(), Vec::new(), None);
    let image = boot::image_handle();
    let loaded = protocol::<LoadedImage>(image);
    let device = loaded.as_ref().and_then(|loaded| loaded.device());
    if let (Some(loaded), Some(volume)) = (&loaded, device.and_then(protocol::<SimpleFileSystem>)) {
        let beside = loaded.file_path().map(file_of).map_or_else(String::new, |file| directory(&file));
        names.push(format!("disk, {}", if beside.is_empty() { "\\" } else { &beside }));
        places.push(Place { kind: Kind::Disk(volume), beside });
    }
    let path = protocol::<LoadedImageDevicePath>(image);
    let path: Option<&DevicePath> = path.as_deref().map(|path| &**path);
    if let Some(url) = path.and_then(url_of).filter(|url| url.starts_with("http")) {
        match Network::open(path) {
            Ok(network) => {
                let beside = directory(&url);
                names.push(beside.clone());
                places.push(Place { kind: Kind::Http(network), beside });
            }
            Err(error) => complain(&format!("{url}: {error}")),
        }
    } else if let Some(pxe) = device.and_then(protocol::<BaseCode>) {
        // iPXE gives a disk with the files that it loaded, and the server beside it.
        if let Some((server, file)) = boot_file(&pxe) {
            mac = own_mac(&pxe);
            let beside = directory(&file);
            names.push(format!("tftp://{server}/{beside}"));
            places.push(Place { kind: Kind::Tftp(pxe, server), beside });
        } else if places.is_empty() {
            complain("no PXE answer with a server and a file");
        }
    }
    if names.is_empty() {
        names.push("nowhere that is known".into());
    }
    (Source { places, mac: path.and_then(mac_of).or(mac) }, names.join(" and "))
}

impl Source {
    /// What this host's own configuration file may be called: MAC address, then SMBIOS UUID.
    pub(crate) fn host_names(&self) -> Vec<String> {
        self.mac.iter().cloned().chain(smbios::uuid()).collect()
    }

    /// A file beside the application, or one with a path of its own; `None` where there is none.
    pub(crate) fn read(&mut self, name: &str) -> Result<Option<Pages>, String> {
        for place in &mut self.places {
            if let Some(pages) = place.read(name)? {
                return Ok(Some(pages));
            }
        }
        Ok(None)
    }
}

impl Place {
    fn read(&mut self, name: &str) -> Result<Option<Pages>, String> {
        let whole = name.contains("://") || name.starts_with(['/', '\\']);
        let name = if whole { name.to_string() } else { [&self.beside, name].concat() };
        match &mut self.kind {
            Kind::Disk(volume) => from_disk(volume, &name.replace('/', "\\")),
            Kind::Tftp(pxe, server) => from_tftp(pxe, *server, &name),
            Kind::Http(network) => {
                let url = if name.starts_with('/') { [origin(&self.beside), &name].concat() } else { name };
                network.read(&url)
            }
        }
    }
}

/// A protocol that drivers of the firmware use as well: not taken from them.
fn protocol<P: ProtocolPointer + ?Sized>(handle: Handle) -> Option<ScopedProtocol<P>> {
    let params = OpenProtocolParams { handle, agent: boot::image_handle(), controller: None };
    // SAFETY: the application runs alone, and neither unloads drivers nor disconnects devices.
    unsafe { boot::open_protocol(params, OpenProtocolAttributes::GetProtocol) }.ok()
}

/// The path up to its last separator.
fn directory(file: &str) -> String {
    let end = file.rfind(['/', '\\']).map_or(0, |at| at + 1);
    file.get(..end).unwrap_or_default().to_string()
}

/// `http://server` of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(host..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| host + at);
    url.get(..end).unwrap_or(url)
}

fn file_of(path: &DevicePath) -> String {
    let mut file = String::new();
    for node in path.node_iter() {
        if let Ok(DevicePathNodeEnum::MediaFilePath(part)) = node.as_enum() {
            if !file.is_empty() && !file.ends_with('\\') {
                file.push('\\');
            }
            let units = part.path_name();
            let units = units.iter().take_while(|&unit| unit != 0);
            file.extend(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
        }
    }
    file
}

fn url_of(path: &DevicePath) -> Option<String> {
    path.node_iter().find_map(|node| match node.as_enum() {
        Ok(DevicePathNodeEnum::MessagingUri(uri)) if !uri.value().is_empty() => {
            Some(String::from_utf8_lossy(uri.value()).into_owned())
        }
        _ => None,
    })
}

fn mac_of(path: &DevicePath) -> Option<String> {
    path.node_iter().find_map(|node| match node.as_enum() {
        Ok(DevicePathNodeEnum::MessagingMacAddress(mac)) => mac_text(&mac.mac_address()),
        _ => None,
    })
}

/// Six bytes as the file names have them: lower case, `-` between.
fn mac_text(bytes: &[u8]) -> Option<String> {
    let bytes: Vec<String> = bytes.get(..6)?.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(bytes.join("-"))
}

fn from_disk(volume: &mut SimpleFileSystem, name: &str) -> Result<Option<Pages>, String> {
    let path = CString16::try_from(name).map_err(|_| "a name that no disk can have")?;
    let mut root = volume.open_volume().map_err(|error| because("the disk", &error))?;
    let file = match root.open(&path, FileMode::Read, FileAttribute::empty()) {
        Ok(file) => file,
        Err(error) if error.status() == Status::NOT_FOUND => return Ok(None),
        Err(error) => return Err(error.status().to_string()),
    };
    let mut file = file.into_regular_file().ok_or("a directory")?;
    let size = file.get_boxed_info::<FileInfo>().map_err(|error| error.status().to_string())?.file_size();
    let size = usize::try_from(size).map_err(|_| "too large")?;
    let mut pages = Pages::new(size)?;
    match file.read(pages.bytes()) {
        Ok(got) if got == size => Ok(Some(pages)),
        Ok(got) => Err(format!("truncated: {got} of {size} bytes")),
        Err(error) => Err(error.status().to_string()),
    }
}

/// Where DHCP, or a proxy beside it, said that the application is. RFC 951 for the fixed fields, RFC 2132 for options 54
/// (server) and 67 (file).
fn boot_file(pxe: &BaseCode) -> Option<(IpAddr, String)> {
    let mode = pxe.mode();
    if mode.using_ipv6() {
        complain("files by TFTP over IPv6 are not supported");
        return None;
    }
    let packets = [
        (mode.pxe_reply_received(), mode.pxe_reply()),
        (mode.proxy_offer_received(), mode.proxy_offer()),
        (mode.dhcp_ack_received(), mode.dhcp_ack()),
    ];
    packets.into_iter().filter(|(received, _)| *received).find_map(|(_, packet)| {
        let raw: &[u8; 1472] = packet.as_ref();
        let fixed = raw.get(108..236).map(text).filter(|file| !file.is_empty());
        let file = fixed.or_else(|| option(raw, 67).map(text)).filter(|file| !file.is_empty())?;
        let next = address(raw.get(20..24)?).filter(|server| !server.is_unspecified());
        let server = next.or_else(|| option(raw, 54).and_then(address))?;
        Some((IpAddr::V4(server), file))
    })
}

fn own_mac(pxe: &BaseCode) -> Option<String> {
    let raw: &[u8; 1472] = pxe.mode().dhcp_ack().as_ref();
    mac_text(raw.get(28..34)?).filter(|_| pxe.mode().dhcp_ack_received())
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes.get(..4)?).ok().map(Ipv4Addr::from)
}

/// The value of a DHCP option.
fn option(packet: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut at = 240;
    loop {
        match *packet.get(at)? {
            0 => at += 1,
            255 => return None,
            code => {
                let len = usize::from(*packet.get(at + 1)?);
                let value = packet.get(at + 2..)?.get(..len)?;
                if code == wanted {
                    return Some(value);
                }
                at += 2 + len;
            }
        }
    }
}

fn from_tftp(pxe: &mut BaseCode, server: IpAddr, name: &str) -> Result<Option<Pages>, String> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    let file = CStr8::from_bytes_with_nul(&bytes).map_err(|_| "a name that TFTP cannot have")?;
    let size = match pxe.tftp_get_file_size(&server, file) {
        Ok(size) => usize::try_from(size).map_err(|_| "too large")?,
        // EDK II says the one or the other of an error packet.
        Err(error) if matches!(error.status(), Status::TFTP_ERROR | Status::NOT_FOUND) => return Ok(None),
        // iPXE tells no sizes, neither before nor after: what it loaded itself is on its disk.
        Err(error) if error.status() == Status::UNSUPPORTED => return Ok(None),
        Err(error) => return Err(because("TFTP", &error)),
    };
    let mut pages = Pages::new(size)?;
    match pxe.tftp_read_file(&server, file, Some(pages.bytes())) {
        Ok(got) if got == size as u64 => Ok(Some(pages)),
        Ok(got) => Err(format!("truncated: {got} of {size} bytes")),
        Err(error) => Err(because("TFTP", &error)),
    }
}
