//! Boot images: a GRUB ISO with the hypervisor and its modules.

use crate::process::run_tool;
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A boot module: a file and the line that GRUB hands over with it.
#[derive(Clone, Debug)]
pub struct Module {
    /// The file's path on the machine that builds the image.
    pub file: PathBuf,
    /// What stands behind the file's name in `module2`.
    pub line: String,
}

/// How GRUB starts the main file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `multiboot2`/`module2`.
    Multiboot2,
    /// `multiboot`/`module`.
    Multiboot1,
    /// `linux`/`initrd`, for bare runs of a guest kernel.
    Linux,
}

/// What the image holds and how it starts.
#[derive(Clone, Debug)]
pub struct Spec {
    /// How the main file is started.
    pub protocol: Protocol,
    /// The main file.
    pub kernel: PathBuf,
    /// Its command line.
    pub cmdline: String,
    /// Its modules, in order.
    pub modules: Vec<Module>,
}

/// Builds an image at `out`, for a CD drive or a hard disk alike.
pub fn build(spec: &Spec, out: &Path) -> Result<()> {
    let tree = out.with_extension("tree");
    if tree.exists() {
        std::fs::remove_dir_all(&tree)?;
    }
    std::fs::create_dir_all(tree.join("boot/grub"))?;
    place(&spec.kernel, &tree.join("boot/kernel"))?;
    for (index, module) in spec.modules.iter().enumerate() {
        place(&module.file, &tree.join(format!("boot/module{index}")))?;
    }
    std::fs::write(tree.join("boot/grub/grub.cfg"), grub_cfg(spec)?)?;
    // Few modules and no fonts or languages: GRUB reads what it is given, at ten instructions a byte.
    let modules = match spec.protocol {
        Protocol::Multiboot2 => "normal iso9660 biosdisk multiboot2",
        Protocol::Multiboot1 => "normal iso9660 biosdisk multiboot",
        Protocol::Linux => "normal iso9660 biosdisk linux",
    };
    ensure!(
        Path::new("/usr/lib/grub/i386-pc").is_dir(),
        crate::process::MissingTool { tool: "GRUB for BIOS".to_string(), package: "grub-pc-bin" }
    );
    let mut command = Command::new("grub-mkrescue");
    command.arg("-d").arg("/usr/lib/grub/i386-pc").arg("-o").arg(out);
    command.args(["--fonts=", "--locales=", "--themes=", "--compress=no"]);
    command.arg(format!("--install-modules={modules}")).arg(&tree);
    run_tool(&mut command, "grub-common")?;
    // A hard disk of Bochs is whole cylinders (16 heads of 63 sectors); a CD does not mind the tail.
    let cylinder = 16 * 63 * 512;
    let length = std::fs::metadata(out).with_context(|| format!("cannot read {}", out.display()))?.len();
    std::fs::OpenOptions::new().write(true).open(out)?.set_len(length.next_multiple_of(cylinder))?;
    std::fs::remove_dir_all(&tree)?;
    Ok(())
}

/// A hard link where the file system allows it: images are large.
fn place(from: &Path, to: &Path) -> Result<()> {
    let from = from.canonicalize().with_context(|| format!("cannot read {}", from.display()))?;
    if std::fs::hard_link(&from, to).is_err() {
        std::fs::copy(&from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// GRUB's configuration for it.
pub(crate) fn grub_cfg(spec: &Spec) -> Result<String> {
    let (kernel, module) = match spec.protocol {
        Protocol::Multiboot2 => ("multiboot2", "module2 --nounzip"),
        Protocol::Multiboot1 => ("multiboot", "module --nounzip"),
        Protocol::Linux => ("linux", "initrd"),
    };
    let mut text = String::from("set timeout=0\nterminal_input console\nterminal_output console\n");
    writeln!(text, "{kernel} /boot/kernel {}", quote(&spec.cmdline))?;
    for (index, entry) in spec.modules.iter().enumerate() {
        writeln!(text, "{module} /boot/module{index} {}", quote(&entry.line))?;
    }
    text.push_str("boot\n");
    Ok(text)
}

/// Quotes each word that GRUB's shell would look into.
pub(crate) fn quote(line: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=.,:/+@%".contains(c);
    let words = line.split_whitespace().map(|word| {
        if word.chars().all(plain) { word.to_string() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grub_reads_words_as_they_are() {
        assert_eq!(quote("vm=a  mem=64 -- init=$x;b it's"), r"vm=a mem=64 -- 'init=$x;b' 'it'\''s'");
    }

    #[test]
    fn modules_stand_in_order() {
        let modules = ["vm=a level=haswell", "for=a"];
        let modules = modules.map(|line| Module { file: "/f".into(), line: line.to_string() }).to_vec();
        let kernel = "/k".into();
        let spec = Spec { protocol: Protocol::Multiboot2, kernel, cmdline: "ip=dhcp".to_string(), modules };
        let text = grub_cfg(&spec).unwrap();
        let tail: Vec<&str> = text.lines().skip(3).collect();
        assert_eq!(
            tail,
            [
                "multiboot2 /boot/kernel ip=dhcp",
                "module2 --nounzip /boot/module0 vm=a level=haswell",
                "module2 --nounzip /boot/module1 for=a",
                "boot"
            ]
        );
    }
}
