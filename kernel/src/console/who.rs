//! `sessions`.

use alloc::string::ToString;
use core::fmt::Write;
use shell::{Align, Output, Span, Table};

use super::out::Out;
use crate::sessions;
use hw::arch::tsc;

pub(super) fn print(output: Output, out: &mut Out<'_>) {
    let rows = sessions::all();
    if output == Output::Json {
        let _ = json::array(out, |a| {
            rows.iter().try_for_each(|row| {
                a.object(|o| {
                    o.field("kind", row.kind)?;
                    o.field("peer", row.peer.as_str())?;
                    o.field("key", row.key.as_deref())?;
                    o.field("since_us", row.since_us)?;
                    o.field("doing", row.doing.as_deref())
                })
            })
        });
        let _ = out.write_char('\n');
        return;
    }
    let mut table = Table::new(["KIND", "PEER", "FOR", "DOING"].map(|name| (name, Align::Left)));
    let now = tsc::micros();
    for row in rows {
        let since = Span(now.saturating_sub(row.since_us)).to_string();
        table.row([row.kind.into(), row.peer, since, row.doing.unwrap_or_default()]);
    }
    let _ = write!(out, "{table}");
}
