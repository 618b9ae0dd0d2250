//! Empty: no driver is needed here.
