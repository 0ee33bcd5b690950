//! Nothing. The manifest of this crate turns the same features on for every member.
