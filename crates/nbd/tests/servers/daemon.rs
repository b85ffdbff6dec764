//! A server's process.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Nbdkit,
    QemuNbd,
    NbdServer,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::Nbdkit, Kind::QemuNbd, Kind::NbdServer];

impl Kind {
    fn program(self) -> PathBuf {
        match self {
            Self::Nbdkit => "nbdkit".into(),
            Self::QemuNbd => "qemu-nbd".into(),
            // Not installed: its package would start a service.
            Self::NbdServer => {
                concat!(env!("CARGO_MANIFEST_DIR"), "/../../build/cache/nbd-server/nbd-server").into()
            }
        }
    }

    /// Whether it can be started; what is missing is said once.
    pub(crate) fn is_here(self) -> bool {
        static SAID: [Once; 3] = [const { Once::new() }; 3];
        let output = Command::new(self.program()).arg("--version").output();
        if output.is_err() {
            let said = format!("skipped: {self:?} is not here (scripts/setup)\n");
            // Past what the test harness holds back.
            SAID[self as usize].call_once(|| std::io::stderr().write_all(said.as_bytes()).unwrap());
        }
        output.is_ok()
    }
}

/// A folder with the file that is served, gone in the end.
pub(crate) struct Image(PathBuf);

impl Image {
    pub(crate) fn new(size: usize) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("flexvisor-nbd-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("disk"), vec![0; size]).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("disk")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port that nobody listened on a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server that runs.
pub(crate) struct Daemon {
    kind: Kind,
    child: Child,
    image: Option<Image>,
    port: u16,
}

impl Daemon {
    pub(crate) fn start(kind: Kind, image: Image, port: u16, options: &[&str]) -> Self {
        let mut command = Command::new(kind.program());
        let (file, port_text) = (image.file(), port.to_string());
        match kind {
            Kind::Nbdkit => {
                // Options of nbdkit before the plugin, those of filters behind it.
                let (flags, words): (Vec<&str>, Vec<&str>) =
                    options.iter().partition(|word| word.starts_with('-'));
                command
                    .args(["-f", "-i", "127.0.0.1", "-p", &port_text])
                    .args(flags)
                    .arg("file")
                    .arg(file)
                    .args(words)
            }
            Kind::QemuNbd => command
                .args(["-t", "-f", "raw", "-x", "disk", "-b", "127.0.0.1", "-p", &port_text])
                .arg(file)
                .args(options),
            Kind::NbdServer => {
                let config = image.0.join("config");
                let text = format!(
                    "[generic]\nlistenaddr = 127.0.0.1\nport = {port}\n[disk]\nexportname = {}\nflush = true\n\
                     fua = true\ntrim = true\n",
                    file.display()
                );
                fs::write(&config, text).unwrap();
                // One process, to be killed as a whole; it ends with its first client.
                command.arg("-d").arg("-C").arg(config).args(["-p", ""]).args(options)
            }
        };
        let log = fs::File::create(image.0.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap();
        let daemon = Self { kind, child, image: Some(image), port };
        daemon.wait();
        daemon
    }

    /// Until it listens. Nobody connects for that: qemu-nbd would take it for its client.
    fn wait(&self) {
        let local = format!("0100007F:{:04X} 00000000:0000 0A", self.port);
        let since = Instant::now();
        while !fs::read_to_string("/proc/net/tcp").unwrap().contains(&local) {
            let log = self.image.as_ref().map(|image| fs::read_to_string(image.0.join("log")));
            assert!(since.elapsed() < Duration::from_secs(20), "{:?} does not listen: {log:?}", self.kind);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn url(&self, words: &str) -> String {
        format!("nbd://127.0.0.1:{}/disk{words}", self.port)
    }

    /// Kills it, and starts another on the same port and file.
    pub(crate) fn kill_and_start(mut self, options: &[&str]) -> Self {
        self.kill();
        let (image, port, kind) = (self.image.take().unwrap(), self.port, self.kind);
        Self::start(kind, image, port, options)
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills it, and what the file holds then.
    pub(crate) fn stop(mut self) -> Vec<u8> {
        self.kill();
        fs::read(self.image.as_ref().unwrap().file()).unwrap()
    }

    /// The size that NBD_OPT_INFO (6) says.
    pub(crate) fn info_size(&self) -> u64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.read_exact(&mut [0; 18]).unwrap();
        stream.write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x06\0\0\0\x0a\0\0\0\x04disk\0\0").unwrap();
        // The first reply: magic, option, type 3, length 12; information 0, size, flags.
        let mut reply = [0; 32];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[8..22], *b"\0\0\0\x06\0\0\0\x03\0\0\0\x0c\0\0");
        u64::from_be_bytes(reply[22..30].try_into().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
