#![cfg_attr(fuzzing, no_main)]

flexvisor_fuzz::target!("nbd_replies");
