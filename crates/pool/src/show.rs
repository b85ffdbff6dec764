//! The pool for people, and as JSON (RFC 8259).

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::{self, Write};

use text::{Align, Table};

use crate::machine::{Pool, Presence};
use crate::preview::Preview;
use crate::view::{self, LevelView, VmView};

impl Presence {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Up => "up",
            Self::Converging => "converging",
            Self::Connecting => "connecting",
            Self::Lost => "lost",
        }
    }
}

impl Pool {
    /// Whether all members show the same fingerprint.
    fn agreement(&self) -> &'static str {
        let others = || self.members().into_iter().filter(|host| host.id != self.own().id);
        let same = |id| self.fingerprint_of(id).is_none_or(|other| other == self.level_view().fingerprint.0);
        if self.waits_for().next().is_some() {
            "forming"
        } else if others().any(|host| !same(host.id)) {
            "converging"
        } else if others().any(|host| self.presence(host.id) == Presence::Lost) {
            "agreed by those present"
        } else if others().all(|host| self.fingerprint_of(host.id).is_some()) {
            "agreed"
        } else {
            "converging"
        }
    }

    /// Members, level, what each costs, and where each VM can go.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_text(&self, out: &mut dyn Write) -> fmt::Result {
        let level = self.level_view();
        match self.name() {
            Some(name) => {
                let count = self.members().len();
                let plural = if count == 1 { "member" } else { "members" };
                write!(out, "pool         {name}, {count} {plural}, {}", self.agreement())?;
                for (at, address) in self.waits_for().enumerate() {
                    write!(out, "{}{address}", if at == 0 { ": waits for " } else { ", " })?;
                }
                out.write_char('\n')?;
            }
            None => writeln!(out, "pool         none: this host is alone")?,
        }
        writeln!(out, "level        {level}\nfingerprint  {}", level.fingerprint)?;
        let members = self.members();
        let mut table = Table::new(
            ["host", "generation", "address", "tsc", "free", "state", "costs"].map(|n| (n, Align::Left)),
        );
        for (host, costs) in members.iter().zip(view::costs(&members, self.level())) {
            table.row([
                host.name.clone(),
                format!("{} ({})", host.generation(), host.user_space()),
                host.address.map(|address| address.to_string()).unwrap_or_default(),
                host.tsc.to_string(),
                format!("{} of {} MiB", host.free_mib, host.memory_mib),
                self.presence(host.id).name().to_string(),
                costs,
            ]);
        }
        write!(out, "{table}")?;
        write_vms(&view::vms(&members), out)?;
        let more: u64 = members.iter().map(|host| u64::from(host.more)).sum();
        if more > 0 { writeln!(out, "and {more} VMs that are not listed") } else { Ok(()) }
    }

    /// The same as one JSON value.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_json(&self, out: &mut dyn Write) -> fmt::Result {
        let members = self.members();
        json::object(out, |o| {
            o.field("pool", self.name())?;
            o.field("state", self.agreement())?;
            o.array("waits_for", |a| a.items(self.waits_for().map(json::Shown)))?;
            o.object("level", |o| level_json(o, self.level_view()))?;
            o.array("members", |a| {
                for (host, costs) in members.iter().zip(view::costs(&members, self.level())) {
                    a.object(|o| {
                        o.field("name", host.name.as_str())?;
                        o.field("id", json::Shown(host.id))?;
                        o.field("generation", host.generation())?;
                        o.field("user_space", json::Shown(host.user_space()))?;
                        o.field("address", host.address.map(json::Shown))?;
                        o.field("software", host.software.as_str())?;
                        o.field("tsc_hz", host.tsc.hz)?;
                        o.field("tsc_scaling", host.tsc.scaling)?;
                        o.field("memory_mib", host.memory_mib)?;
                        o.field("free_mib", host.free_mib)?;
                        o.field("accepts", host.accepts)?;
                        o.field("state", self.presence(host.id).name())?;
                        let fingerprint = self.fingerprint_of(host.id).map(|f| format!("{f:016x}"));
                        o.field("fingerprint", fingerprint.as_deref())?;
                        o.field("costs", costs.as_str())
                    })?;
                }
                Ok(())
            })?;
            o.array("vms", |a| vms_json(a, &view::vms(&members)))
        })
    }
}

impl Preview {
    /// What would follow, for people.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_text(&self, out: &mut dyn Write) -> fmt::Result {
        match &self.pool {
            Some(pool) => writeln!(out, "pool         {pool}")?,
            None => writeln!(out, "pool         none: that host is alone")?,
        }
        if let Some(why) = &self.refused {
            writeln!(out, "refused      {why}")?;
        }
        if self.newcomers.is_empty() {
            writeln!(out, "new          nobody: they are members already")?;
        }
        for host in &self.newcomers {
            writeln!(out, "new          {}, {}, costs {}", host.name, host.generation, host.costs)?;
        }
        writeln!(out, "level now    {}\nlevel then   {}", self.before, self.after)?;
        let loses = if self.loses.is_empty() { "nothing".to_string() } else { self.loses.join(", ") };
        writeln!(out, "new VMs lose {loses}")?;
        for vm in &self.pinned {
            writeln!(out, "pinned       vm {} to {} until restarted", vm.name, vm.pinned_to())?;
            write_refusals(vm, out)?;
        }
        if self.pinned.is_empty() { writeln!(out, "pinned       no running VM") } else { Ok(()) }
    }

    /// The same as one JSON value.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_json(&self, out: &mut dyn Write) -> fmt::Result {
        json::object(out, |o| {
            o.field("pool", self.pool.as_deref())?;
            o.field("refused", self.refused.as_deref())?;
            o.array("new", |a| {
                self.newcomers.iter().try_for_each(|host| {
                    a.object(|o| {
                        o.field("name", host.name.as_str())?;
                        o.field("generation", host.generation)?;
                        o.field("costs", host.costs.as_str())
                    })
                })
            })?;
            o.object("level_now", |o| level_json(o, &self.before))?;
            o.object("level_then", |o| level_json(o, &self.after))?;
            o.array("loses", |a| a.items(self.loses.iter().map(String::as_str)))?;
            o.array("pinned", |a| vms_json(a, &self.pinned))
        })
    }
}

fn write_vms(vms: &[VmView], out: &mut dyn Write) -> fmt::Result {
    if vms.is_empty() {
        return writeln!(out, "no VM runs in it");
    }
    let mut table = Table::new(["vm", "on", "level", "can go to"].map(|name| (name, Align::Left)));
    for vm in vms {
        table.row([vm.name.clone(), vm.on.clone(), vm.level.clone(), ways(vm)]);
    }
    write!(out, "{table}")?;
    for vm in vms.iter().filter(|vm| vm.is_pinned()) {
        writeln!(out, "vm {} is pinned to {} until restarted", vm.name, vm.pinned_to())?;
        write_refusals(vm, out)?;
    }
    Ok(())
}

/// `haswell-a (tsc offset), skylake-b (tsc scaling)`, or `-`.
fn ways(vm: &VmView) -> String {
    let mut text = String::new();
    for way in &vm.ways {
        if let Ok(means) = way.verdict {
            let comma = if text.is_empty() { "" } else { ", " };
            text.push_str(&format!("{comma}{} (tsc {})", way.host, means.name()));
        }
    }
    text
}

fn write_refusals(vm: &VmView, out: &mut dyn Write) -> fmt::Result {
    for way in &vm.ways {
        if let Err(why) = &way.verdict {
            writeln!(out, "  not {}: {why}", way.host)?;
        }
    }
    Ok(())
}

fn level_json(o: &mut json::Object<'_>, level: &LevelView) -> fmt::Result {
    o.field("name", level.name.as_str())?;
    o.field("fingerprint", json::Shown(level.fingerprint))?;
    o.field("like", level.like)
}

fn vms_json(a: &mut json::Array<'_>, vms: &[VmView]) -> fmt::Result {
    vms.iter().try_for_each(|vm| {
        a.object(|o| {
            o.field("name", vm.name.as_str())?;
            o.field("on", vm.on.as_str())?;
            o.field("level", vm.level.as_str())?;
            o.field("pinned", vm.is_pinned())?;
            o.array("hosts", |a| {
                vm.ways.iter().try_for_each(|way| {
                    a.object(|o| {
                        o.field("name", way.host.as_str())?;
                        o.field("fits", way.verdict.is_ok())?;
                        o.field("tsc", way.verdict.as_ref().ok().map(|means| means.name()))?;
                        o.field("why", way.verdict.as_ref().err().map(String::as_str))
                    })
                })
            })
        })
    })
}
