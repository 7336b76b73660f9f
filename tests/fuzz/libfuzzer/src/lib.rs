//! Nothing: what counts is the archive that `libfuzzer-sys` makes.
