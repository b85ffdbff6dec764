//! A vCPU's state in and out, and what of it is on the CPU while it runs.

mod checks;
mod live;
mod paging;
mod state;
