//! Files by HTTP, through the firmware's own driver (UEFI 2.10, 29.6), from servers that may fall silent.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use core::ffi::{CStr, c_char};
use core::time::Duration;
use uefi::boot::{self, EventType, OpenProtocolAttributes, OpenProtocolParams, ScopedProtocol};
use uefi::boot::{TimerTrigger, Tpl};
use uefi::proto::device_path::DevicePath;
use uefi::proto::network::http::{Http, HttpBinding};
use uefi::proto::network::ip4config2::Ip4Config2;
use uefi::{CString16, Event, Handle, Status};
use uefi_raw::protocol::network::http::{
    HttpAccessPoint, HttpConfigData, HttpHeader, HttpMessage, HttpMethod, HttpRequestData, HttpResponseData,
    HttpStatusCode, HttpToken, HttpV4AccessPoint, HttpVersion,
};

use crate::because;
use crate::memory::Pages;

/// A server that says nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(20);
/// Bytes of a file that may come with the response's head.
const FIRST: usize = 16 << 10;

/// Where HTTP is spoken.
pub(crate) struct Network {
    nic: Handle,
}

impl Network {
    /// The card at the end of `path`, with an address.
    pub(crate) fn open(path: Option<&DevicePath>) -> Result<Self, String> {
        let mut path = path.ok_or("no device path")?;
        let nic = boot::locate_device_path::<HttpBinding>(&mut path)
            .map_err(|error| because("no HTTP there", &error))?;
        let mut ip = Ip4Config2::new(nic).map_err(|error| because("no IPv4 there", &error))?;
        ip.ifup().map_err(|error| because("no IPv4 address", &error))?;
        Ok(Self { nic })
    }

    /// The file at `url`; `None` where the server says that there is none.
    pub(crate) fn read(&self, url: &str) -> Result<Option<Pages>, String> {
        let mut client = Client::new(self.nic).map_err(|error| because("HTTP", &error))?;
        client.ask(url)?;
        let mut first = vec![0; FIRST];
        let (status, size, got) = client.head(&mut first)?;
        match status {
            HttpStatusCode::STATUS_200_OK => {}
            HttpStatusCode::STATUS_404_NOT_FOUND => return Ok(None),
            other => return Err(format!("the server refuses: {other:?}")),
        }
        let mut pages = Pages::new(size.ok_or("the server does not say how long the file is")?)?;
        let size = pages.len();
        let (first, mut at) = (first.get(..got).unwrap_or_default(), got);
        pages.bytes().get_mut(..got).ok_or("longer than the server said")?.copy_from_slice(first);
        while at < size {
            let rest = pages.bytes().get_mut(at..).unwrap_or_default();
            match client.more(rest) {
                Ok(0) => return Err(format!("truncated: {at} of {size} bytes")),
                Ok(more) => at += more,
                Err(error) => return Err(format!("truncated: {at} of {size} bytes: {error}")),
            }
        }
        Ok(Some(pages))
    }
}

/// One connection.
struct Client {
    binding: ScopedProtocol<HttpBinding>,
    child: Handle,
    /// Closed before the child goes.
    http: Option<ScopedProtocol<Http>>,
    timer: Event,
}

impl Client {
    fn new(nic: Handle) -> uefi::Result<Self> {
        let shared = |handle| OpenProtocolParams { handle, agent: boot::image_handle(), controller: None };
        // SAFETY: the application runs alone, and neither unloads drivers nor disconnects devices.
        let mut binding =
            unsafe { boot::open_protocol::<HttpBinding>(shared(nic), OpenProtocolAttributes::GetProtocol)? };
        // SAFETY: a timer without a function to call.
        let timer = unsafe { boot::create_event(EventType::TIMER, Tpl::CALLBACK, None, None)? };
        let child = binding.create_child()?;
        let mut client = Self { binding, child, http: None, timer };
        // SAFETY: as above; the child is this client's.
        let mut http =
            unsafe { boot::open_protocol::<Http>(shared(child), OpenProtocolAttributes::GetProtocol)? };
        let mut own = HttpV4AccessPoint { use_default_addr: true.into(), ..Default::default() };
        http.configure(&HttpConfigData {
            http_version: HttpVersion::HTTP_VERSION_10,
            time_out_millisec: SILENCE.as_millis() as u32,
            local_addr_is_ipv6: false.into(),
            access_point: HttpAccessPoint { ipv4_node: &raw mut own },
        })?;
        client.http = Some(http);
        Ok(client)
    }

    /// Sends the request.
    fn ask(&mut self, url: &str) -> Result<(), String> {
        const BAD: &str = "an address that HTTP cannot have";
        let mut host = url.split('/').nth(2).ok_or(BAD)?.to_string();
        host.push('\0');
        let address = CString16::try_from(url).map_err(|_| BAD)?;
        let request = HttpRequestData { method: HttpMethod::GET, url: address.as_ptr().cast() };
        let mut header =
            HttpHeader { field_name: c"Host".as_ptr().cast(), field_value: host.as_ptr().cast() };
        let mut message = HttpMessage { header_count: 1, header: &raw mut header, ..Default::default() };
        message.data.request = &raw const request;
        self.finish(&mut message, Http::request).map_err(|status| named("HTTP", status))
    }

    /// Status, length of the file, and how many bytes of it came along.
    fn head(&mut self, body: &mut [u8]) -> Result<(HttpStatusCode, Option<usize>, usize), String> {
        let mut response = HttpResponseData { status_code: HttpStatusCode::STATUS_UNSUPPORTED };
        let mut message =
            HttpMessage { body_length: body.len(), body: body.as_mut_ptr().cast(), ..Default::default() };
        message.data.response = &raw mut response;
        let done = self.finish(&mut message, Http::response);
        // SAFETY: the driver filled the message, or left it without headers.
        let length = unsafe { content_length(&message) };
        match done {
            Ok(()) | Err(Status::HTTP_ERROR) => Ok((response.status_code, length, message.body_length)),
            Err(status) => Err(named("HTTP", status)),
        }
    }

    /// How many bytes came.
    fn more(&mut self, room: &mut [u8]) -> Result<usize, String> {
        let mut message =
            HttpMessage { body_length: room.len(), body: room.as_mut_ptr().cast(), ..Default::default() };
        self.finish(&mut message, Http::response).map_err(|status| named("HTTP", status))?;
        Ok(message.body_length.min(room.len()))
    }

    /// Starts what `start` does with the message, and waits for its end. The driver has the message no longer.
    fn finish(
        &mut self,
        message: &mut HttpMessage,
        start: impl FnOnce(&mut Http, &mut HttpToken) -> uefi::Result<()>,
    ) -> Result<(), Status> {
        let mut token = HttpToken { status: Status::NOT_READY, message, ..Default::default() };
        let token = &raw mut token;
        let http = self.http.as_mut().ok_or(Status::NOT_STARTED)?;
        let status = |error: uefi::Error| error.status();
        boot::set_timer(&self.timer, TimerTrigger::Relative(SILENCE)).map_err(status)?;
        // SAFETY: the token lives to the end of this function, and is the driver's until it has a status.
        start(http, unsafe { &mut *token }).map_err(status)?;
        // SAFETY: the same; the driver writes it in `poll`, or from a timer of its own.
        while unsafe { (&raw const (*token).status).read_volatile() } == Status::NOT_READY {
            let silent = boot::check_event(&self.timer).map_err(status) == Ok(true);
            let polled = if silent { Err(Status::TIMEOUT) } else { http.poll().map_err(status) };
            if let Err(error) = polled {
                // SAFETY: the same.
                let _ = http.cancel(unsafe { &mut *token });
                return Err(error);
            }
        }
        // SAFETY: the driver is done with it.
        match unsafe { (*token).status } {
            Status::SUCCESS => Ok(()),
            other => Err(other),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.http = None;
        let _ = self.binding.destroy_child(self.child);
        // SAFETY: nobody else has a copy, and this one is not used any more.
        let _ = boot::close_event(unsafe { self.timer.unsafe_clone() });
    }
}

/// The length that a response's head tells. Gives the headers back to the firmware.
///
/// # Safety
/// The driver has filled the message: `header_count` headers, all from its pool.
unsafe fn content_length(message: &HttpMessage) -> Option<usize> {
    let list = core::ptr::NonNull::new(message.header)?;
    let mut length = None;
    for index in 0..message.header_count {
        // SAFETY: the caller's promise.
        let header = unsafe { list.add(index).read() };
        let [name, value] = [header.field_name, header.field_value].map(|text| {
            // SAFETY: the same; both end with a zero byte.
            (!text.is_null()).then(|| unsafe { CStr::from_ptr(text.cast::<c_char>()) }.to_bytes())
        });
        if name.is_some_and(|name| name.eq_ignore_ascii_case(b"content-length")) {
            length = value.and_then(|value| core::str::from_utf8(value).ok()?.trim().parse().ok());
        }
        for text in [header.field_name, header.field_value] {
            if let Some(text) = core::ptr::NonNull::new(text.cast_mut()) {
                // SAFETY: from the pool, and not used again.
                let _ = unsafe { boot::free_pool(text.cast()) };
            }
        }
    }
    // SAFETY: the same.
    let _ = unsafe { boot::free_pool(list.cast()) };
    length
}

/// A failure in words: the codes of UEFI 2.10, appendix D, that the library has no names for.
fn named(what: &str, status: Status) -> String {
    let text = match status.0 ^ Status::ERROR_BIT {
        18 => format!("the server is silent for {} s", SILENCE.as_secs()),
        104 => "the server ended the connection".into(),
        105 => "the server reset the connection".into(),
        106 => "the server refuses the connection".into(),
        _ => status.to_string(),
    };
    [what, ": ", &text].concat()
}
