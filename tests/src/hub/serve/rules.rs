//! The lines of a dnsmasq configuration that decide what a client boots; the rest of that program's manual is not here.

use anyhow::{Context, Result, bail};

/// What is known about a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Client {
    /// Option 93 (RFC 4578).
    pub(super) architecture: Option<u16>,
    /// Option 77 (RFC 3004) as plain text, as iPXE sends it.
    pub(super) class: Option<String>,
}

/// Who boots what.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Tag, and the client that gets it.
    tags: Vec<(String, Client)>,
    /// Conditions, and the file or address.
    boot: Vec<(Vec<Condition>, String)>,
    /// Conditions, the option's number, and its text.
    options: Vec<(Vec<Condition>, u8, String)>,
    /// What a client boots first, whatever it is; then the lines hold.
    pub(super) first: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    tag: String,
    wanted: bool,
}

impl Rules {
    /// Reads a configuration. `instead` is the file of a `dhcp-boot` line that stands in a comment, to be taken in place
    /// of the lines that hold for the same clients; or of one that does not, which each client boots first: an emulator's
    /// cards have iPXE, and would not be sent to load it.
    ///
    /// # Errors
    /// A line that is not understood: nobody has tried what it says.
    pub fn parse(text: &str, instead: Option<&str>) -> Result<Self> {
        let mut rules = Self::default();
        let mut taken = false;
        for line in text.lines().map(str::trim) {
            if let Some(boot) = line.strip_prefix("# dhcp-boot=") {
                let boot = boot_line(boot)?;
                if instead == Some(&boot.1) {
                    // The first that holds is taken.
                    rules.boot.insert(0, boot);
                    taken = true;
                }
            } else if !line.is_empty() && !line.starts_with('#') {
                rules.line(line).with_context(|| format!("line `{line}`"))?;
            }
        }
        if let Some(file) = instead.filter(|file| rules.boot.iter().any(|(_, boot)| boot == file)) {
            rules.first = Some(file.to_string()).filter(|_| !taken);
            taken = true;
        }
        match instead {
            Some(file) if !taken => bail!("no dhcp-boot line names {file}"),
            _ => Ok(rules),
        }
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        match key {
            // Addresses and paths are the test's own.
            "port" | "dhcp-range" | "enable-tftp" | "tftp-root" => {}
            "dhcp-match" => {
                let (tag, value) = set(value)?;
                let value = value.strip_prefix("option:client-arch,").context("not an architecture")?;
                let client = Client { architecture: Some(value.parse()?), class: None };
                self.tags.push((tag, client));
            }
            "dhcp-userclass" => {
                let (tag, value) = set(value)?;
                self.tags.push((tag, Client { architecture: None, class: Some(value.to_string()) }));
            }
            "dhcp-boot" => self.boot.push(boot_line(value)?),
            "dhcp-option-force" => {
                let (conditions, rest) = conditions(value);
                let (number, text) = rest.split_once(',').context("no value")?;
                self.options.push((conditions, number.parse()?, text.to_string()));
            }
            _ => bail!("not understood here"),
        }
        Ok(())
    }

    /// The file or address that the client is to boot.
    pub(super) fn boot(&self, client: &Client) -> Option<&str> {
        self.boot.iter().find(|(when, _)| self.hold(when, client)).map(|(_, file)| file.as_str())
    }

    /// Options that it gets whether it asks or not.
    pub(super) fn options(&self, client: &Client) -> impl Iterator<Item = (u8, &str)> {
        let holding = self.options.iter().filter(|(when, ..)| self.hold(when, client));
        holding.map(|(_, number, text)| (*number, text.as_str()))
    }

    fn hold(&self, conditions: &[Condition], client: &Client) -> bool {
        let has = |tag: &str| {
            self.tags.iter().any(|(name, wanted)| {
                name == tag
                    && wanted.architecture.is_none_or(|wanted| client.architecture == Some(wanted))
                    && wanted.class.as_ref().is_none_or(|wanted| client.class.as_ref() == Some(wanted))
            })
        };
        conditions.iter().all(|condition| has(&condition.tag) == condition.wanted)
    }
}

fn set(value: &str) -> Result<(String, &str)> {
    let (tag, rest) = value.split_once(',').context("no value")?;
    Ok((tag.strip_prefix("set:").context("no set:TAG")?.to_string(), rest))
}

fn conditions(value: &str) -> (Vec<Condition>, &str) {
    let (mut conditions, mut rest) = (Vec::new(), value);
    while let Some((tag, after)) = rest.strip_prefix("tag:").and_then(|tail| tail.split_once(',')) {
        let wanted = !tag.starts_with('!');
        conditions.push(Condition { tag: tag.trim_start_matches('!').to_string(), wanted });
        rest = after;
    }
    (conditions, rest)
}

fn boot_line(value: &str) -> Result<(Vec<Condition>, String)> {
    let (conditions, file) = conditions(value);
    if file.is_empty() || file.contains(',') {
        bail!("`{file}` is no file's name");
    }
    Ok((conditions, file.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../../netboot/dnsmasq.conf");

    fn client(architecture: u16, class: Option<&str>) -> Client {
        Client { architecture: Some(architecture), class: class.map(str::to_string) }
    }

    #[test]
    fn the_sample_knows_every_way() {
        let rules = Rules::parse(SAMPLE, None).unwrap();
        for (architecture, class, file) in [
            (0, None, "undionly.kpxe"),
            (0, Some("iPXE"), "flexvisor.ipxe"),
            (7, None, "flexvisor.efi"),
            (7, Some("iPXE"), "flexvisor.ipxe"),
            (16, None, "http://10.0.0.1/flexvisor.efi"),
        ] {
            assert_eq!(rules.boot(&client(architecture, class)), Some(file), "{architecture} {class:?}");
        }
        assert_eq!(rules.boot(&client(11, None)), None);
        let options: Vec<_> = rules.options(&client(16, None)).collect();
        assert_eq!(options, [(60, "HTTPClient")]);
        assert_eq!(rules.options(&client(7, None)).count(), 0);
    }

    #[test]
    fn lines_in_comments_can_be_chosen() {
        for (file, architecture) in
            [("pxelinux.0", 0), ("grub/bios.0", 0), ("snponly.efi", 7), ("grub/uefi.efi", 7)]
        {
            let rules = Rules::parse(SAMPLE, Some(file)).unwrap();
            assert_eq!((rules.boot(&client(architecture, None)), &rules.first), (Some(file), &None));
        }
        let rules = Rules::parse(SAMPLE, Some("undionly.kpxe")).unwrap();
        assert_eq!(rules.first.as_deref(), Some("undionly.kpxe"));
        assert_eq!(rules.boot(&client(0, Some("iPXE"))), Some("flexvisor.ipxe"));
        assert!(Rules::parse(SAMPLE, Some("nothing")).is_err());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in
            ["dhcp-match=set:x,option:foo,1", "pxe-service=x86PC", "dhcp-boot=tag:a,", "dhcp-option=3,1"]
        {
            assert!(Rules::parse(line, None).is_err(), "{line}");
        }
    }
}
