//! Boots emulated hosts, joins them by a network and drives their consoles.
